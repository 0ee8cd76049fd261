"""Finds and reads the checkpoints of a training: model folders, or revisions of a model on the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headwater.errors import HeadwaterError
from headwater.lm.load import LanguageModel
from headwater.training.adam import Adam, adam_beside, rate_beside

STATE_FILE = "trainer_state.json"
_STEP = re.compile(r"(?:step|checkpoint)[-_]?(\d+)|(\d+)$")


@dataclass(frozen=True)
class Checkpoint:
    """A model during training, written by `headwater train`, transformers' Trainer or another program."""

    name: str
    """Path of its folder, or its hub name with @revision."""
    step: int
    rate: float | None
    """Learning rate at the checkpoint. If the training logged its rates, the mean since the previous checkpoint. None
    if unknown."""
    rate_sum: float | None = None
    """Sum of the learning rates of the steps since the previous checkpoint; None if the training did not log them."""

    def adam(self, lm: LanguageModel) -> Adam | None:
        """The optimizer state at the checkpoint, or None. `lm` is the model loaded from the checkpoint."""
        return adam_beside(Path(self.name), lm)


def read_checkpoints(source: str | Path) -> list[Checkpoint]:
    """The checkpoints of a training, by step.

    `source` is a folder of model folders named `step-<n>` or `checkpoint-<n>`, or a comma-separated list of hub names
    with a revision that contains the step (`org/model@step1000`) or model folders. Raises HeadwaterError if there is no
    checkpoint, if a name has no step, or if two have the same step.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        models = [path for path in folder.iterdir() if _is_model(path)]
        names = [str(path.resolve()) for path in models if path.name.rpartition("-")[2].isdigit()]
    else:
        names = [_named(name.strip()) for name in str(source).split(",")] if set("@,") & set(str(source)) else []
    if not names:
        raise HeadwaterError(
            f"--checkpoints {source}: there is no checkpoint in it. Name a folder of model folders called "
            "step-<number> (`headwater train --checkpoints 4` writes them) or checkpoint-<number>, or a list of "
            "revisions on the hub: org/model@step1000,org/model@step2000."
        )
    by_step = {_step_of(name): name for name in names}
    if len(by_step) < len(names):
        raise HeadwaterError(f"--checkpoints {source}: two checkpoints have the same step.")
    steps = sorted(by_step)
    states = [_state(by_step[step], step) for step in steps]
    logged = {step: rate for state in states for step, rate in state.logged.items()}
    return [
        _checkpoint(by_step[step], before, step, state=state, logged=logged)
        for before, step, state in zip([0, *steps], steps, states, strict=False)
    ]


def _is_model(path: Path) -> bool:
    return any((path / file).exists() for file in ("config.json", "adapter_config.json"))


def _named(name: str) -> str:
    """A name of a list. Raises HeadwaterError if it is neither a revision on the hub nor a model folder."""
    if _is_model(folder := Path(name).expanduser()):
        return str(folder.resolve())
    if "@" not in name:
        raise HeadwaterError(
            f"--checkpoints: {name!r} is neither a model folder nor a revision, as in org/model@step1000."
        )
    return name


def _step_of(name: str) -> int:
    """The step in the name of a folder or revision. Raises HeadwaterError if there is none."""
    found = _STEP.search(Path(name).name.rpartition("@")[2])
    if found is None:
        raise HeadwaterError(f"--checkpoints: the name {name} contains no step, as in org/model@step1000.")
    return int(found[1] or found[2])


@dataclass(frozen=True)
class _State:
    """Learning rates in the files of a checkpoint."""

    rate: float | None
    """The rate at the checkpoint, written by `ModelWriter`."""
    logged: dict[int, float]
    """step -> rate, from the log and optimizer state of transformers' Trainer."""


def _state(name: str, step: int) -> _State:
    folder = Path(name)
    path = folder / STATE_FILE
    known: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if isinstance(rate := known.get("learning_rate"), int | float):
        return _State(float(rate), {})
    lines = [line for line in known.get("log_history", []) if "learning_rate" in line]
    left = rate_beside(folder)
    logged = {} if left is None else {step: left}
    return _State(None, logged | {int(line["step"]): float(line["learning_rate"]) for line in lines})


def _checkpoint(name: str, before: int, step: int, *, state: _State, logged: Mapping[int, float]) -> Checkpoint:
    """The checkpoint of a name. `before` is the step of the previous checkpoint."""
    if not state.logged or step == before:
        return Checkpoint(name, step, state.rate)
    rate_sum = _rate_sum(logged, before, step)
    return Checkpoint(name, step, rate_sum / (step - before), rate_sum)


def _rate_sum(logged: Mapping[int, float], before: int, step: int) -> float:
    """Sum of the learning rates of the steps after `before` up to `step`, interpolated linearly between logged rates.

    The rate at a checkpoint alone says little about the steps before it: most schedules end at zero.
    """
    steps = sorted(logged)
    return float(np.interp(np.arange(before + 1, step + 1), steps, [logged[one] for one in steps]).sum())
