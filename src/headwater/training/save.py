"""Writes a trained model and its checkpoints to disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from headwater.base.files import save_tensors, write_text
from headwater.training.adam import MOMENTS_FILE
from headwater.training.checkpoints import STATE_FILE
from headwater.training.train import TrainingStep


@dataclass(frozen=True)
class ModelWriter:
    """Writes the model and its checkpoints while it is trained."""

    out: Path
    model: Any
    tokenizer: Any
    checkpoints: int = 0
    """Number of checkpoints, at equal intervals, the last at the end."""

    def watching(self, watch: Callable[[TrainingStep], None]) -> Callable[[TrainingStep], None]:
        """A callback for `train` that writes what is due and then calls `watch`."""

        def both(now: TrainingStep) -> None:
            due = now.step * self.checkpoints // now.steps > (now.step - 1) * self.checkpoints // now.steps
            if due:
                part = self.out / "checkpoints" / f"step-{now.step:05d}.part"
                self._write(part, now)
                shutil.rmtree(part.with_suffix(""), ignore_errors=True)
                part.rename(part.with_suffix(""))
            if now.step == now.steps:
                self._write(self.out, now)
            watch(now)

        return both

    def _write(self, folder: Path, now: TrainingStep) -> None:
        transformers_logging.disable_progress_bar()
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        save_tensors(folder / MOMENTS_FILE, now.second_moments(), {"step": str(now.step)})
        state = {"step": now.step, "steps": now.steps, "learning_rate": now.rate, "loss": now.loss}
        write_text(folder / STATE_FILE, json.dumps(state) + "\n")
