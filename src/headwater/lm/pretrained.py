"""Reading models, adapters and tokenizers with transformers and peft, and checking that nothing was left random."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from headwater.errors import ModelError, first_line
from headwater.lm.loading_report import (
    STRIPPING,
    LoadingReport,
    check_adapter,
    check_complete,
    check_finite,
    say_unwrapped,
    unwrapped,
    wrappers_in,
)
from headwater.lm.model_files import ModelFiles, base_files, find_model, find_tokenizer, read_tensors
from headwater.lm.options import Dtype, Loading
from headwater.lm.placement import check_for_adapter

NO_ADAPTER = {"subfolder": "no-adapter"}
"""Where transformers looks for an adapter beside a model: nowhere, because adapters are loaded here."""

MAGNITUDE = ".lora_magnitude_vector"


@dataclass(frozen=True)
class Located:
    """The files of a model, and of its adapter, if it is one."""

    model: ModelFiles
    """Of a whole model, or of the model under the adapter."""
    adapter: ModelFiles | None = None


def locate(name: str, loading: Loading) -> Located:
    """Find the files of a model, and download them if they are on the hub.

    Raises ModelError if the model or its base is not there, or if a file is not whole.
    """
    found = find_model(name)
    if not found.is_adapter:
        if loading.base is not None:
            raise ModelError(f"--base is for LoRA adapters, and {name} is a whole model. Leave it out.")
        return Located(found)
    if find_spec("peft") is None:
        raise ModelError(f"{name} is an adapter, which needs peft. Install it with: pip install 'headwater[peft]'")
    return Located(base_files(found, loading.base), found)


def locate_tokenizer(files: Located, loading: Loading) -> ModelFiles:
    """The tokenizer that is named, or else that of an adapter, or else that of its model.

    Raises ModelError if there is none.
    """
    if loading.tokenizer is not None:
        return find_tokenizer(loading.tokenizer)
    models = [each for each in (files.adapter, files.model) if each is not None]
    for each in models:
        if each.gguf is not None or each.has_tokenizer:
            return each
    raise ModelError(
        f"The model {models[0].name} has no tokenizer (tokenizer.json). Name one by --tokenizer: a folder, or a model "
        "on the hub whose tokenizer it has."
    )


def read_tokenizer(files: ModelFiles, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer in these files; of a GGUF file, the one that it describes. Raises ModelError if it has none."""
    with _explained(files, "tokenizer"):
        if files.gguf is not None and not files.has_tokenizer:
            tokenizer = AutoTokenizer.from_pretrained(str(files.folder), gguf_file=str(files.gguf))
        elif not any((files.folder / name).exists() for name in ("config.json", "tokenizer_config.json")):
            tokenizer = PreTrainedTokenizerFast.from_pretrained(str(files.folder))
        else:
            # By its name on the hub, because transformers reads the tokenizers of some names in another way.
            source: dict[str, Any] = {} if files.hub is None else {"revision": files.hub[1], "local_files_only": True}
            tokenizer = AutoTokenizer.from_pretrained(
                str(files.folder) if files.hub is None else files.hub[0],
                trust_remote_code=trust_remote_code,
                **source,
            )
    if not len(tokenizer.get_vocab()) > len(tokenizer.all_special_tokens):
        raise ModelError(f"The tokenizer of {files.name} is empty. Name another by --tokenizer.")
    return tokenizer


def read_model(files: Located, loading: Loading, placed: dict[str, Any] | None = None) -> Any:
    """The causal language model in these files, with its adapter.

    Names that a wrapper has prefixed are read without the prefix, with a warning. `placed` are arguments of
    transformers for devices and quantisation. Raises ModelError if it cannot be loaded, or if a weight is missing, NaN
    or infinite.
    """
    model = _read_whole(files.model, loading, placed or {})
    name = files.model.name
    if files.adapter is not None:
        _read_adapter(model, files.adapter, name, dtype=_torch_dtype(loading.dtype))
        name = files.adapter.name
    check_finite(model, name)
    return model


def _read_whole(files: ModelFiles, loading: Loading, placed: dict[str, Any]) -> Any:
    with _explained(files, "model"):
        model, report = _load(files, loading, placed)
        wrappers = report.wrapped_by
        if wrappers:
            del model
            model, report = _load(files, loading, {**placed, "key_mapping": STRIPPING})
            say_unwrapped(files.name, wrappers)
    check_complete(report, files.name, model)
    return model


def _read_adapter(model: Any, files: ModelFiles, base: str, *, dtype: torch.dtype) -> None:
    """Put the adapter in these files into its base model. Raises ModelError if the two do not fit."""
    from peft import PeftConfig

    check_for_adapter(model, files.name)
    (file,) = files.weights
    tensors = read_tensors(file)
    if wrappers := wrappers_in(tensors):
        tensors = {unwrapped(name): tensor for name, tensor in tensors.items()}
        say_unwrapped(files.name, wrappers)
    # peft saves the magnitudes of DoRA under the name of their module
    tensors = {name + ".weight" if name.endswith(MAGNITUDE) else name: tensor for name, tensor in tensors.items()}
    with _explained(files, "adapter", f"Is {base} its base model? Name another by --base."):
        found = model.load_adapter(
            peft_config=PeftConfig.from_pretrained(str(files.folder)),
            adapter_state_dict=tensors,
            ignore_mismatched_sizes=True,  # they are reported, with the names
            dtype=dtype,
            hf_quantizer=getattr(model, "hf_quantizer", None),
        )
    check_adapter(LoadingReport.of(found.to_dict()), files.name, base)


def _load(files: ModelFiles, loading: Loading, settings: dict[str, Any]) -> tuple[Any, LoadingReport]:
    if files.gguf is not None:
        settings = settings | _gguf(files, loading.dtype)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        str(files.folder),
        dtype=_torch_dtype(loading.dtype),
        use_safetensors=not files.is_pickle,
        weights_only=True,
        trust_remote_code=loading.trust_remote_code,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are reported, with the names
        adapter_kwargs=NO_ADAPTER,
        **settings,
    )
    model, found = loaded
    return model, LoadingReport.of(found)


def _torch_dtype(dtype: Dtype) -> torch.dtype:
    """The type of the weights that are not quantised."""
    return torch.float32 if dtype == "fp32" else torch.bfloat16


def _gguf(files: ModelFiles, dtype: Dtype) -> dict[str, Any]:
    """Arguments of transformers for a GGUF file, whose weights are dequantised."""
    for package in ("gguf", "accelerate"):
        if find_spec(package) is None:
            raise ModelError(f"{files.name} needs {package}. Install it with: pip install 'headwater[gguf]'")
    if dtype in ("int8", "nf4"):
        raise ModelError(f"{files.name} is a GGUF file, which --dtype {dtype} cannot quantise again. Use fp32 or bf16.")
    from transformers import GgufConfig

    return {"gguf_file": str(files.gguf), "quantization_config": GgufConfig(dequantize=True)}


@contextmanager
def _explained(files: ModelFiles, what: str, hint: str | None = None) -> Iterator[None]:
    """Turn whatever transformers raises into a ModelError, and keep its own reports quiet."""
    loud = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    except (ModelError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # transformers, tokenizers, peft and gguf raise what they like
        raise ModelError(
            f"Cannot load the {what} {files.name!r}: {first_line(error)}. {hint or _HINTS[what]}"
        ) from error
    finally:
        transformers_logging.set_verbosity(loud)


_HINTS = {
    "model": "Give a folder written by save_pretrained (config.json, model.safetensors, tokenizer.json) or the name "
    "of a public model on the hub.",
    "tokenizer": "Name another by --tokenizer: a folder with a tokenizer.json, or a model on the hub.",
}
