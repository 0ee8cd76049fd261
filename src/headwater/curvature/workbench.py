"""The working folder of a fit, which is deleted when the fit is finished."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from headwater.base.progress import Report, Step, silent
from headwater.sweep.checkpoint import SweepCheckpoint
from headwater.sweep.gradient_cache import GradientCache, open_gradient_cache
from headwater.sweep.sweep import Sweep

_GRADIENTS = "gradients-"
"""Prefix of the folders of gradient caches."""
_PART = "part-"
"""Prefix of the working folders of parts of a fit."""


@dataclass(frozen=True)
class Workbench:
    """Where a fit keeps its finished stages, and how it reports its progress."""

    folder: Path
    binding: str
    """Fingerprints and settings. Finished stages with another binding are ignored."""
    report: Report = silent

    def checkpoint(self, stage: str) -> SweepCheckpoint:
        """The checkpoint of a stage."""
        return SweepCheckpoint(self.folder / f"{stage}.checkpoint.safetensors", f"{stage}: {self.binding}")

    def cache(self, sweep: Sweep) -> GradientCache:
        """The cache of the gradients that a fit reads twice."""
        settings = f"{self.binding} {sweep.labels} {sweep.token_budget} {sweep.shard_examples or ''}".rstrip()
        return open_gradient_cache(self.folder / f"{_GRADIENTS}{hashlib.sha256(settings.encode()).hexdigest()[:16]}")

    def part(self, name: str, label: str) -> Workbench:
        """A workbench for a part of the fit, which `label` names in the progress."""

        def report(step: Step) -> None:
            self.report(replace(step, stage=f"{step.stage}, {label}"))

        return replace(self, folder=self.folder / f"{_PART}{name}", report=report)

    def clear(self) -> None:
        """Delete what is in the folder."""
        for path in self.folder.glob("*.checkpoint.safetensors"):
            path.unlink()
        for folder in (*self.folder.glob(f"{_GRADIENTS}*"), *self.folder.glob(f"{_PART}*")):
            shutil.rmtree(folder)
