"""A trained model on disk, and the moments on the way that gradient-tracing methods look back at."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers.utils import logging as transformers_logging

from headwater.errors import HeadwaterError
from headwater.files import load_tensors, save_tensors, write_text
from headwater.training.train import Moment

MOMENTS_FILE, STATE_FILE = "second_moments.safetensors", "trainer_state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A model on its way, as `Saved` wrote it (or somebody else's training: then less is known)."""

    path: Path
    step: int
    rate: float | None
    """Learning rate there; None where the checkpoint does not say."""

    def second_moments(self) -> dict[str, Tensor] | None:
        """Adam's mean squared gradients by parameter, or None where the checkpoint has none."""
        return second_moments(self.path)


@dataclass(frozen=True)
class Saved:
    """What is written while a model is trained, and where."""

    out: Path
    model: Any
    tokenizer: Any
    checkpoints: int = 0
    """At equal distances, the last at the end."""

    def watching(self, watch: Callable[[Moment], None]) -> Callable[[Moment], None]:
        """A watch of the training that writes what is due, and passes on to another."""

        def both(moment: Moment) -> None:
            due = moment.step * self.checkpoints // moment.steps > (moment.step - 1) * self.checkpoints // moment.steps
            if due:
                part = self.out / "checkpoints" / f"step-{moment.step:05d}.part"
                self._write(part, moment)
                shutil.rmtree(part.with_suffix(""), ignore_errors=True)
                part.rename(part.with_suffix(""))
            if moment.step == moment.steps:
                self._write(self.out, moment)
            watch(moment)

        return both

    def _write(self, folder: Path, moment: Moment) -> None:
        transformers_logging.disable_progress_bar()
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        save_tensors(folder / MOMENTS_FILE, moment.second_moments(), {"step": str(moment.step)})
        state = {"step": moment.step, "steps": moment.steps, "learning_rate": moment.rate, "loss": moment.loss}
        write_text(folder / STATE_FILE, json.dumps(state) + "\n")


def second_moments(folder: Path) -> dict[str, Tensor] | None:
    """Adam's mean squared gradients by parameter, beside a model, or None where there are none."""
    path = folder / MOMENTS_FILE
    return load_tensors(path) if path.exists() else None


def read_checkpoints(folder: Path) -> list[Checkpoint]:
    """The checkpoints in a directory in the order of their steps.

    Each is a model folder named `step-<n>` or `checkpoint-<n>`. Raises HeadwaterError where there is none.
    """
    found: list[Checkpoint] = []
    for path in folder.iterdir() if folder.is_dir() else []:
        number = path.name.rpartition("-")[2]
        if path.is_dir() and number.isdigit() and (path / "config.json").exists():
            state = path / STATE_FILE
            known = json.loads(state.read_text("utf-8")) if state.exists() else {}
            rate = known.get("learning_rate")
            found.append(Checkpoint(path, int(number), float(rate) if isinstance(rate, int | float) else None))
    if not found:
        raise HeadwaterError(
            f"--checkpoints {folder}: there is no checkpoint in it. It should hold model folders named step-<number> "
            "(`headwater train --checkpoints 4` writes such) or checkpoint-<number>."
        )
    return sorted(found, key=lambda one: one.step)
