"""Adam's state beside a checkpoint: as `ModelWriter` writes it, or as transformers' Trainer does."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D
from transformers.trainer_pt_utils import get_parameter_names

from headwater.base.files import load_tensors
from headwater.errors import HeadwaterError, first_line
from headwater.lm.load import LanguageModel

MOMENTS_FILE, TRAINER_FILE = "second_moments.safetensors", "optimizer.pt"
EPSILON = 1e-8
"""Of Adam, where nothing else is said."""
UNDECAYED = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
"""Names that Trainer.get_decay_parameter_names leaves out of the first of its two groups, beside every LayerNorm's."""


@dataclass(frozen=True)
class Adam:
    """What Adam divides gradients by."""

    second_moments: Mapping[str, Tensor]
    """v̂ by parameter: the running mean of squared gradients, its start at zero made up for."""
    epsilon: float = EPSILON


def adam_beside(folder: Path, lm: LanguageModel) -> Adam | None:
    """Adam's state in the folder that `lm` was loaded from, or None where there is none.

    Raises HeadwaterError where there is one that cannot be read, or is another model's.
    """
    if (own := second_moments(folder)) is not None:
        return Adam(own)
    path = folder / TRAINER_FILE
    return _of_trainer(path, lm) if path.exists() else None


def second_moments(folder: Path) -> dict[str, Tensor] | None:
    """The v̂ that `ModelWriter` wrote beside a model, by parameter, or None where there are none."""
    path = folder / MOMENTS_FILE
    return load_tensors(path) if path.exists() else None


def rate_beside(folder: Path) -> float | None:
    """The learning rate that Trainer's optimiser was left with; None where it has left none."""
    path = folder / TRAINER_FILE
    rate = _read(path)["param_groups"][0].get("lr") if path.exists() else None
    return None if rate is None else float(rate)


def kernel_moments(lm: LanguageModel, layer: str, moments: Mapping[str, Tensor]) -> Tensor:
    """[O, I] of a tracked layer, its bias in the last column. Raises HeadwaterError where they are another model's."""
    module: Any = lm.model.get_submodule(layer)
    try:
        kernel = moments[f"{layer}.weight"]
        kernel = kernel.t() if isinstance(module, Conv1D) else kernel
        whole = kernel if module.bias is None else torch.cat([kernel, moments[f"{layer}.bias"][:, None]], 1)
    except KeyError as error:
        raise HeadwaterError(
            f"The second moments beside {lm.name} have none of {error}: they are another model's."
        ) from error
    return whole.to(lm.device)


def _of_trainer(path: Path, lm: LanguageModel) -> Adam:
    """v̂ = v / (1 − β₂^t) of every parameter that has a state."""
    state = _read(path)
    groups = state["param_groups"]
    found: dict[str, Tensor] = {}
    for index, (name, parameter) in _numbered(path, groups, lm.model).items():
        if (one := state["state"].get(index)) is None:  # it has never had a gradient
            continue
        if "exp_avg_sq" not in one:
            raise HeadwaterError(f"{path} is the state of another optimiser than Adam: it has no exp_avg_sq.")
        squares: Tensor = one["exp_avg_sq"]
        if squares.shape != parameter.shape:
            raise HeadwaterError(
                f"{path} does not fit the model beside it: its number {index} should belong to {name}, which is "
                f"{tuple(parameter.shape)}, and is {tuple(squares.shape)}. It is another model's, or was written "
                "with the parameters in another order than transformers' Trainer has them in."
            )
        beta = _group_of(groups, index)["betas"][1]
        found[name] = squares.float() / (1 - beta ** float(one["step"]))
    return Adam(found, float(groups[0].get("eps", EPSILON)))


def _read(path: Path) -> dict[str, Any]:
    """An optimiser's state_dict as torch.save wrote it.

    That is a pickle, the only one that is ever read, because Trainer knows no other form. `weights_only` reads it with
    torch's restricted unpickler, which makes tensors, numbers, texts, lists and tables by torch's own functions, and
    refuses a file that names any other: a hostile one fails to load, but runs no code. What is taken from it are
    numbers, and their shapes are compared.
    """
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise HeadwaterError(
            f"{path} cannot be read as an optimiser's state ({first_line(error)}). Without that file the checkpoint "
            "serves the methods that need no optimiser."
        ) from error
    groups = state.get("param_groups") if isinstance(state, dict) else None
    if not groups or not isinstance(state.get("state"), dict) or not all("params" in group for group in groups):
        raise HeadwaterError(f"{path} is no optimiser's state_dict: it should hold state and param_groups.")
    return state


def _numbered(path: Path, groups: list[dict[str, Any]], model: Any) -> dict[int, tuple[str, Tensor]]:
    """The parameter (name, itself) behind every number of a state_dict.

    Trainer.create_optimizer makes two groups, parameters with weight decay and those without, each in the model's
    order; one group is taken for all parameters in the model's order, as `AdamW(model.parameters())` has them. Only
    the adapter of a model that has one was trained.
    """
    named = [one for one in model.named_parameters() if not hasattr(model, "peft_config") or "lora_" in one[0]]
    if len(groups) == 1:
        ordered = [named]
    else:
        decayed = set(get_parameter_names(model, [nn.LayerNorm], UNDECAYED))
        ordered = [[one for one in named if (one[0] in decayed) == wanted] for wanted in (True, False)]
    if [len(group["params"]) for group in groups] != [len(group) for group in ordered]:
        raise HeadwaterError(
            f"{path} does not fit the model beside it: its groups hold {_counts(len(g['params']) for g in groups)} "
            f"parameters, and those of transformers' Trainer would hold {_counts(map(len, ordered))}."
        )
    numbers = [number for group in groups for number in group["params"]]
    return dict(zip(numbers, [one for group in ordered for one in group], strict=True))


def _group_of(groups: list[dict[str, Any]], index: int) -> dict[str, Any]:
    return next(group for group in groups if index in group["params"])


def _counts(numbers: Any) -> str:
    return " and ".join(str(number) for number in numbers)
