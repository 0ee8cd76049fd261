"""The checkpoints of a training: folders of models, or revisions of a model on the hub."""

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
    """A model on its way, as `headwater train` or transformers' Trainer wrote it; of somebody else's less is known."""

    name: str
    """The path of its folder, or its hub name with @revision."""
    step: int
    rate: float | None
    """Learning rate there, or the mean since the checkpoint before where the training logged its rates; None where
    the checkpoint does not say."""
    rate_sum: float | None = None
    """Σ of the learning rates of the steps since the checkpoint before, where the training logged them."""

    def adam(self, lm: LanguageModel) -> Adam | None:
        """The optimiser's state there, `lm` being the model there, or None where the checkpoint has none."""
        return adam_beside(Path(self.name), lm)


def read_checkpoints(source: str | Path) -> list[Checkpoint]:
    """The checkpoints that a training left, in the order of their steps.

    `source` is a folder of model folders named `step-<n>` or `checkpoint-<n>`, or a list of names with commas between:
    hub names with a revision that says the step (`org/model@step1000`), or model folders. Raises HeadwaterError where
    there is none, a name says no step, or two say the same.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        models = [path for path in folder.iterdir() if _is_model(path)]
        names = [str(path.resolve()) for path in models if path.name.rpartition("-")[2].isdigit()]
    else:
        names = [_named(name.strip()) for name in str(source).split(",")] if set("@,") & set(str(source)) else []
    if not names:
        raise HeadwaterError(
            f"--checkpoints {source}: there is no checkpoint in it. It should hold model folders named step-<number> "
            "(`headwater train --checkpoints 4` writes such) or checkpoint-<number>, or be a list of revisions on the "
            "hub: org/model@step1000,org/model@step2000."
        )
    by_step = {_step_of(name): name for name in names}
    if len(by_step) < len(names):
        raise HeadwaterError(f"--checkpoints {source}: two checkpoints are of the same step.")
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
    """A name of a list. Raises HeadwaterError where it is neither a revision on the hub nor a model's folder."""
    if _is_model(folder := Path(name).expanduser()):
        return str(folder.resolve())
    if "@" not in name:
        raise HeadwaterError(f"--checkpoints: {name!r} is no model's folder, and names no revision on the hub.")
    return name


def _step_of(name: str) -> int:
    """The step that a folder or a revision says in its name. Raises HeadwaterError where it says none."""
    found = _STEP.search(Path(name).name.rpartition("@")[2])
    if found is None:
        raise HeadwaterError(f"--checkpoints: {name} does not say its step, as in org/model@step1000.")
    return int(found[1] or found[2])


@dataclass(frozen=True)
class _State:
    """What the files of a checkpoint say of the learning rate."""

    rate: float | None
    """There, as `ModelWriter` writes it."""
    logged: dict[int, float]
    """step -> rate, as transformers' Trainer logs it, and leaves it in its optimiser."""


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
    """The checkpoint of a name; the one before it is of step `before`."""
    if not state.logged or step == before:
        return Checkpoint(name, step, state.rate)
    rate_sum = _rate_sum(logged, before, step)
    return Checkpoint(name, step, rate_sum / (step - before), rate_sum)


def _rate_sum(logged: Mapping[int, float], before: int, step: int) -> float:
    """Σ η of the steps after `before` up to `step`. Rates between two that are logged lie on the line between them.

    The rate at a checkpoint alone would say little of the steps that led there: most schedules end at zero.
    """
    steps = sorted(logged)
    return float(np.interp(np.arange(before + 1, step + 1), steps, [logged[one] for one in steps]).sum())
