"""What transformers and peft report of a load: missing weights are an error, and weights without a place a warning."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from headwater.errors import HeadwaterWarning, ModelError
from headwater.lm.placement import each_weight

WRAPPERS = {
    "_orig_mod": "torch.compile",
    "module": "DistributedDataParallel",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_forward_module": "Lightning Fabric",
}
"""Parts of the names of weights that come from a wrapper around the model, and who wraps it."""
INSIDE = "|".join(name for name in WRAPPERS if name != "module")
"""Wrappers of single blocks, whose name is in the middle. A model may have a `module` of its own there."""
STRIPPING = {rf"^(?:(?:{'|'.join(WRAPPERS)})\.)+": "", rf"(?<=\.)(?:{INSIDE})\.": ""}
"""Regular expressions that remove the wrappers from a name."""
BUFFERS = re.compile(r"(attn|attention)\.(masked_)?bias$|rotary_emb\.inv_freq$|(^|\.)position_ids$")
"""Masks and positions, which older versions of transformers saved and newer ones compute."""
OTHER_SENSES = re.compile(r"vision|visual|audio|speech|multi_modal|image")
"""Parts of a model that reading text does not need."""
CHECKED = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, kw_only=True)
class LoadingReport:
    """Which weights of a model were not in its files, and which weights of the files the model does not have."""

    missing: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    """Name, shape in the files and shape in the model."""
    unexpected: tuple[str, ...]

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> LoadingReport:
        """From what `from_pretrained(output_loading_info=True)` returns."""
        mismatched = sorted((name, tuple(file), tuple(model)) for name, file, model in found["mismatched_keys"])
        unexpected = sorted(name for name in found["unexpected_keys"] if not BUFFERS.search(name))
        return cls(
            missing=tuple(sorted(found["missing_keys"])), mismatched=tuple(mismatched), unexpected=tuple(unexpected)
        )

    @property
    def wrapped_by(self) -> tuple[str, ...]:
        """The wrappers that the names of unexpected weights tell of, if weights are missing."""
        return wrappers_in(self.unexpected) if self.missing else ()


def wrappers_in(names: Collection[str]) -> tuple[str, ...]:
    """The wrappers around a model that these names of weights tell of."""
    return tuple(
        wrapper
        for wrapper in WRAPPERS
        if any(f".{wrapper}." in f".{name}" and unwrapped(name) != name for name in names)
    )


def unwrapped(name: str) -> str:
    """The name of a weight without the wrappers."""
    for pattern, instead in STRIPPING.items():
        name = re.sub(pattern, instead, name)
    return name


def say_unwrapped(name: str, wrappers: Sequence[str]) -> None:
    """Warn that the names of the weights of `name` are read without `wrappers`."""
    parts = " and ".join(f"{wrapper!r} (of {WRAPPERS[wrapper]})" for wrapper in wrappers)
    warnings.warn(
        f"The weights of {name} are named with {parts}. Headwater reads them without it.",
        HeadwaterWarning,
        stacklevel=2,
    )


def check_complete(report: LoadingReport, name: str, model: Any) -> None:
    """Raises ModelError if a weight of `model` was not in the files, and warns of weights that it has no place for.

    Such a weight would be random: transformers only logs that.
    """
    _check_shapes(report, name, "The configuration belongs to other weights: copy the config.json of these.")
    if report.missing:
        raise ModelError(
            f"Cannot load the model {name!r}: its files lack {_counted(report.missing)}, which would be "
            f"random. {_cure(report, model)}"
        )
    if report.unexpected:
        warnings.warn(
            f"{type(model).__name__} has no place for {_counted(report.unexpected)} in the files of {name}. They were "
            "left out. Is config.json that of these weights?",
            HeadwaterWarning,
            stacklevel=2,
        )


def check_adapter(report: LoadingReport, name: str, base: str) -> None:
    """Raises ModelError if the weights of an adapter are not exactly those that its base model gets."""
    wrong_base = f"Is {base} its base model? Name another by --base."
    _check_shapes(report, name, wrong_base)
    if report.missing:
        raise ModelError(
            f"Cannot load the adapter {name!r}: its file lacks {_counted(report.missing)}, which would be random. "
            f"{wrong_base} Or save the adapter again with save_pretrained."
        )
    without = [key for key in report.unexpected if not OTHER_SENSES.search(key)]
    if without:
        raise ModelError(
            f"Cannot load the adapter {name!r}: its base has no place for {_counted(without)}. {wrong_base}"
        )


def check_finite(model: Any, name: str) -> None:
    """Raises ModelError if a weight is infinite or NaN."""
    parameters = {key for key, _ in model.named_parameters()}
    wrong = [key for key, weight in each_weight(model) if key in parameters and not _finite(weight)]
    if wrong:
        raise ModelError(
            f"Cannot load the model {name!r}: {_counted(wrong)} {'is' if len(wrong) == 1 else 'are'} NaN or infinite. "
            "The training diverged, or the file is damaged: give an earlier checkpoint, or download it again."
        )


def _finite(weight: Tensor) -> bool:
    if weight.dtype not in CHECKED or not weight.numel():
        return True
    low, high = torch.aminmax(weight)  # both are NaN if a number is; nothing is copied
    return bool(torch.isfinite(low) and torch.isfinite(high))


def _check_shapes(report: LoadingReport, name: str, cure: str) -> None:
    if report.mismatched:
        key, file, model = report.mismatched[0]
        more = f", and {len(report.mismatched) - 1:,} more differ" if len(report.mismatched) > 1 else ""
        raise ModelError(
            f"Cannot load the model {name!r}: {key} is {_shape(file)} in its files and {_shape(model)} in the model"
            f"{more}. {cure}"
        )


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape)) or "one number"


def _cure(report: LoadingReport, model: Any) -> str:
    head = model.get_output_embeddings()
    heads = {key for key, _ in model.named_parameters() if head is not None and model.get_parameter(key) is head.weight}
    if set(report.missing) <= heads:
        return (
            "AutoModel saves a model without its output layer: save it again from AutoModelForCausalLM. If its output "
            'layer is its embedding, write "tie_word_embeddings": true into config.json.'
        )
    return "Save the whole model again with model.save_pretrained(folder), or download its files again."


def _counted(names: Sequence[str]) -> str:
    """How many weights, and the first of them."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f"{len(names):,} weight{'s' if len(names) > 1 else ''} ({', '.join(names[:3])}{more})"
