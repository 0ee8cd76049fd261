"""Reads Adam's state beside a checkpoint, written by `ModelWriter` or by transformers' Trainer."""

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
from headwater.lm.experts import ExpertLinear
from headwater.lm.load import LanguageModel
from headwater.lm.routers import RouterLinear

MOMENTS_FILE, TRAINER_FILE = "second_moments.safetensors", "optimizer.pt"
EPSILON = 1e-8
"""Adam's default ε."""
UNDECAYED = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
"""Names that Trainer.get_decay_parameter_names excludes from weight decay, together with those of every LayerNorm."""


@dataclass(frozen=True)
class Adam:
    """Adam's second moments and ε: what it divides gradients by."""

    second_moments: Mapping[str, Tensor]
    """v̂ by parameter: the running mean of squared gradients, with bias correction."""
    epsilon: float = EPSILON


def adam_beside(folder: Path, lm: LanguageModel) -> Adam | None:
    """Adam's state in the folder that `lm` was loaded from, or None if there is none.

    Raises HeadwaterError if the state cannot be read or belongs to another model.
    """
    if (own := second_moments(folder)) is not None:
        return Adam(own)
    path = folder / TRAINER_FILE
    return _of_trainer(path, lm) if path.exists() else None


def second_moments(folder: Path) -> dict[str, Tensor] | None:
    """The v̂ that `ModelWriter` wrote beside a model, by parameter, or None if there is no such file."""
    path = folder / MOMENTS_FILE
    return load_tensors(path) if path.exists() else None


def rate_beside(folder: Path) -> float | None:
    """The last learning rate of Trainer's optimizer, or None if the folder has none."""
    path = folder / TRAINER_FILE
    rate = _read(path)["param_groups"][0].get("lr") if path.exists() else None
    return None if rate is None else float(rate)


def kernel_moments(lm: LanguageModel, layer: str, moments: Mapping[str, Tensor]) -> Tensor:
    """Second moments [O, I] of a tracked layer, the bias in the last column.

    Raises HeadwaterError if the moments belong to another model.
    """
    module: Any = lm.model.get_submodule(layer)
    try:
        if isinstance(module, ExpertLinear | RouterLinear):
            kernel, bias = module.part_of(moments, layer)
        else:
            kernel = moments[f"{layer}.weight"].t() if isinstance(module, Conv1D) else moments[f"{layer}.weight"]
            bias = None if module.bias is None else moments[f"{layer}.bias"]
        whole = kernel if bias is None else torch.cat([kernel, bias[:, None]], 1)
    except KeyError as error:
        raise HeadwaterError(
            f"The second moments beside {lm.name} belong to another model: {error} is missing."
        ) from error
    return whole.to(lm.device)


def _of_trainer(path: Path, lm: LanguageModel) -> Adam:
    """v̂ = v / (1 − β₂^t) of every parameter with a state."""
    state = _read(path)
    groups = state["param_groups"]
    found: dict[str, Tensor] = {}
    for index, (name, parameter) in _numbered(path, groups, lm.model).items():
        if (one := state["state"].get(index)) is None:  # it never had a gradient
            continue
        if "exp_avg_sq" not in one:
            raise HeadwaterError(f"{path} is not the state of Adam: it has no exp_avg_sq.")
        squares: Tensor = one["exp_avg_sq"]
        if squares.shape != parameter.shape:
            raise HeadwaterError(
                f"{path} does not fit the model beside it: entry {index} has shape {tuple(squares.shape)}, but {name} "
                f"has {tuple(parameter.shape)}. It belongs to another model, or its parameters are in another order "
                "than that of transformers' Trainer."
            )
        beta = _group_of(groups, index)["betas"][1]
        found[name] = squares.float() / (1 - beta ** float(one["step"]))
    return Adam(found, float(groups[0].get("eps", EPSILON)))


def _read(path: Path) -> dict[str, Any]:
    """An optimizer's state_dict, as torch.save wrote it.

    This is the only pickle that Headwater reads, because Trainer has no other format. `weights_only` selects torch's
    restricted unpickler. It creates only tensors, numbers, strings, lists and dicts, and refuses a file that names any
    other function. So a hostile file fails to load and runs no code. The tensors' shapes are checked.
    """
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise HeadwaterError(
            f"{path} cannot be read as the state of an optimizer ({first_line(error)}). Without that file, the "
            "checkpoint works with the methods that need no optimizer state: tracin and ekfac."
        ) from error
    groups = state.get("param_groups") if isinstance(state, dict) else None
    if not groups or not isinstance(state.get("state"), dict) or not all("params" in group for group in groups):
        raise HeadwaterError(f"{path} is not the state_dict of an optimizer: it lacks the keys state and param_groups.")
    return state


def _numbered(path: Path, groups: list[dict[str, Any]], model: Any) -> dict[int, tuple[str, Tensor]]:
    """The name and parameter for every index of a state_dict.

    Trainer.create_optimizer makes two groups, parameters with and without weight decay, each in the model's order. A
    single group holds all parameters in the model's order, as in `AdamW(model.parameters())`. If the model has an
    adapter, only the adapter was trained.
    """
    named = [one for one in model.named_parameters() if not hasattr(model, "peft_config") or "lora_" in one[0]]
    if len(groups) == 1:
        ordered = [named]
    else:
        decayed = set(get_parameter_names(model, [nn.LayerNorm], UNDECAYED))
        ordered = [[one for one in named if (one[0] in decayed) == wanted] for wanted in (True, False)]
    if [len(group["params"]) for group in groups] != [len(group) for group in ordered]:
        raise HeadwaterError(
            f"{path} does not fit the model beside it: its groups have {_counts(len(g['params']) for g in groups)} "
            f"parameters, but transformers' Trainer would make groups of {_counts(map(len, ordered))}."
        )
    numbers = [number for group in groups for number in group["params"]]
    return dict(zip(numbers, [one for group in ordered for one in group], strict=True))


def _group_of(groups: list[dict[str, Any]], index: int) -> dict[str, Any]:
    return next(group for group in groups if index in group["params"])


def _counts(numbers: Any) -> str:
    return " and ".join(str(number) for number in numbers)
