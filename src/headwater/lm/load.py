"""Loading a causal language model and its tokenizer. The model is frozen and has a fingerprint."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from headwater.errors import ModelError, first_line
from headwater.lm.checkpointing import checkpoint_gradients, checkpoints_gradients
from headwater.lm.head import Head, head_of
from headwater.lm.kernels import use_fused_gelu, use_sdpa
from headwater.lm.options import Loading
from headwater.lm.placement import each_weight, is_offloaded
from headwater.lm.quantised import dequantised, is_quantised, keep_differentiable, quantisation


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """A frozen causal LM: `body` maps tokens to the final hidden states, `head` maps those to logits."""

    name: str
    """Hub name or path that it was loaded from."""
    model: Any
    tokenizer: Any
    head: Head
    loading: Loading = Loading()

    @property
    def body(self) -> Any:
        return self.model.base_model

    @property
    def device(self) -> torch.device:
        """The head's device, where token ids, hidden states and captured tensors are brought together."""
        return self.head.weight.device

    @property
    def max_positions(self) -> int:
        """The longest text, in tokens, that the model can read."""
        return max_positions(self.model.config)

    def hidden_states(self, input_ids: Tensor) -> Tensor:
        """[B, T, H] the final hidden states of token ids [B, T]."""
        return self.body(input_ids, use_cache=False).last_hidden_state.to(self.device)

    @cached_property
    def float32_model(self) -> LanguageModel:
        """The same model in float32 or better: itself, or loaded again, or dequantised.

        Low precision cannot represent small steps or forward-mode tangents. Raises ModelError if weights are offloaded,
        or if the quantisation cannot be undone.
        """
        if is_offloaded(self.model):
            raise ModelError(
                "This changes or differentiates the weights, and some of them are offloaded to memory or disk "
                "(--device-map). Use devices that the whole model fits on."
            )
        quantised = is_quantised(self.model)
        if not quantised and torch.promote_types(self.model.dtype, torch.float32) == self.model.dtype:
            return self
        loading = self.loading if quantised else replace(self.loading, dtype="fp32")
        lm = load_model(self.name, loading, device=None if loading.device_map else str(self.device))
        if not quantised:
            return lm
        return wrap_model(dequantised(lm.model), self.tokenizer, self.name, loading=replace(loading, dtype="fp32"))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the name, type, shape and bytes of every weight, on whatever device."""
        digest = hashlib.sha256()
        for name, tensor in each_weight(self.model):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        """SHA-256 of the whole definition of the tokenizer."""
        definition = self.tokenizer.backend_tokenizer.to_str()
        special = json.dumps(self.tokenizer.special_tokens_map, sort_keys=True, default=str)
        return hashlib.sha256((definition + special).encode()).hexdigest()[:16]


def max_positions(config: Any) -> int:
    """The longest text, in tokens, that a model with this configuration can read."""
    for field in ("max_position_embeddings", "n_positions"):
        if isinstance(limit := getattr(config, field, None), int):
            return limit
    return 2048


def load_model(
    name: str, loading: Loading = Loading(), *, device: str | None = None, **changes: object
) -> LanguageModel:
    """Load a model and its tokenizer from a hub name or a path, from safetensors only, and freeze it.

    A hub name may end in @revision. `name` may be a LoRA adapter (peft), which is loaded with its base model. A model
    may be quantised already. GPT-Neo gets fused attention. `device` is by default the GPU, if there is one. `changes`
    are fields of Loading: `load_model(name, dtype="bf16")`. Raises ModelError if the model cannot be loaded, has no
    fast tokenizer, or computes its logits in a way that the fused head does not support.
    """
    loading = replace(loading, **changes)  # pyright: ignore[reportArgumentType]
    name = str(name)
    if name.startswith((".", "/", "~")) and not Path(name).expanduser().exists():
        raise ModelError(f"No model at {name}: the path does not exist.")
    source, revision = str(Path(name).expanduser()), "main"
    if not Path(source).exists():
        source, _, revision = name.partition("@")
    placed = _placed(loading, device)
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            _tokenizer_source(source), revision=revision or "main", trust_remote_code=loading.trust_remote_code
        )
        model = AutoModelForCausalLM.from_pretrained(
            source,
            revision=revision or "main",
            dtype=torch.float32 if loading.dtype == "fp32" else torch.bfloat16,
            use_safetensors=True,
            trust_remote_code=loading.trust_remote_code,
            **placed,
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(
            f"Cannot load the model {name!r}: {first_line(error)}. Give a folder written by save_pretrained "
            "(config.json, model.safetensors, tokenizer.json) or the name of a public model on the hub."
        ) from error
    if not (placed or is_quantised(model)):
        model = model.to(torch.device(device or _usual_device()))  # pyright: ignore[reportArgumentType]
    return wrap_model(model, tokenizer, name, loading=loading)


def _usual_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _placed(loading: Loading, device: str | None) -> dict[str, Any]:
    """Arguments of transformers for devices and quantisation. Empty if the model moves to one device after loading.

    Raises ModelError if a package is missing.
    """
    if loading.device_map is not None:
        if device is not None:
            raise ModelError(f"The device {device} and a device map both place the model. Give one of the two.")
        if find_spec("accelerate") is None:
            raise ModelError("--device-map needs accelerate. Install it with: pip install 'headwater[large]'")
    placed: dict[str, Any] = {} if loading.device_map is None else {"device_map": loading.device_map}
    if loading.dtype in ("int8", "nf4"):
        placed = {"device_map": device or _usual_device()} | placed
        placed["quantization_config"] = quantisation(loading.dtype)
    return placed


def _tokenizer_source(source: str) -> str:
    """Where the tokenizer is: with the model, or with the base model of an adapter that has no tokenizer.

    Raises ModelError if `source` is an adapter and peft is not installed.
    """
    folder = Path(source)
    if not (folder / "adapter_config.json").exists():
        return source
    if find_spec("peft") is None:
        raise ModelError(f"{source} is an adapter, which needs peft. Install it with: pip install 'headwater[peft]'")
    if (folder / "tokenizer.json").exists():
        return source
    return str(json.loads((folder / "adapter_config.json").read_text("utf-8"))["base_model_name_or_path"])


def wrap_model(model: Any, tokenizer: Any, name: str = "model", *, loading: Loading | None = None) -> LanguageModel:
    """A LanguageModel from a model and tokenizer in memory. It freezes the model and puts it in eval mode.

    Raises ModelError as `load_model` does. It also raises if a model without blocks should use gradient checkpointing,
    and if the base model of an adapter is offloaded.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"The tokenizer of {name} is not a fast one, so its tokens cannot be located in the text. "
            "Save a fast tokenizer (tokenizer.json) with the model."
        )
    if is_offloaded(model) and getattr(model, "peft_config", None):
        # transformers 5.24 does not load the offloaded weights again: logits are NaN.
        raise ModelError(
            f"The base model of the adapter {name} does not fit on the devices (--device-map), and an adapter does not "
            "work with offloaded weights. Load it in fewer bits (--dtype nf4), or merge the adapter into it."
        )
    model.requires_grad_(False)
    model.eval()
    use_sdpa(model)
    use_fused_gelu(model)
    keep_differentiable(model)
    if loading is None:
        loading = Loading(dtype="bf16" if model.dtype == torch.bfloat16 else "fp32")
    # Without checkpointing, a graph would keep the loaded weights of all offloaded blocks until the backward pass.
    if loading.gradient_checkpointing or is_offloaded(model):
        checkpoint_gradients(model)
        if not checkpoints_gradients(model):
            raise ModelError(f"{type(model).__name__} has no blocks that gradient checkpointing could run again.")
    return LanguageModel(name=name, model=model, tokenizer=tokenizer, head=head_of(model), loading=loading)
