"""A trained model on disk, and the moments on the way that can be looked back at."""

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
    """What is written while a model is trained, and where."""

    out: Path
    model: Any
    tokenizer: Any
    checkpoints: int = 0
    """At equal distances, the last at the end."""

    def watching(self, watch: Callable[[TrainingStep], None]) -> Callable[[TrainingStep], None]:
        """A watch of the training that writes what is due, and passes on to another."""

        def both(moment: TrainingStep) -> None:
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

    def _write(self, folder: Path, moment: TrainingStep) -> None:
        transformers_logging.disable_progress_bar()
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        save_tensors(folder / MOMENTS_FILE, moment.second_moments(), {"step": str(moment.step)})
        state = {"step": moment.step, "steps": moment.steps, "learning_rate": moment.rate, "loss": moment.loss}
        write_text(folder / STATE_FILE, json.dumps(state) + "\n")
