"""Fitting a curvature: the sweeps and eigendecompositions of each kind, each stage resumable."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from headwater.curvature.base import Curvature
from headwater.curvature.covariances import Covariances
from headwater.curvature.decompose import decompose
from headwater.curvature.eigen import Eigenbases
from headwater.curvature.options import Fisher, FitOptions
from headwater.curvature.registry import kind_of
from headwater.curvature.sections import sections_of
from headwater.curvature.store import delete_strays, save_curvature, save_sections
from headwater.curvature.workbench import Workbench
from headwater.errors import HeadwaterError
from headwater.gradients.reducer import R
from headwater.lm.capture import Labels
from headwater.lm.layers import TrackedLayer
from headwater.sweep.sweep import Sweep, fold


def settings_of(options: FitOptions, layers: Sequence[str]) -> str:
    """The settings that decide the curvature over these `layers`, as JSON."""
    deciding = asdict(replace(options, damping=None)) | {"layers": list(layers)}
    del deciding["memory"]
    if options.block_width is None:
        del deciding["block_width"]
    return json.dumps(deciding, sort_keys=True)


def chosen_examples(options: FitOptions, total: int) -> Sequence[int]:
    """Which of `total` examples the curvature is fitted on. Raises HeadwaterError for a number that is too small."""
    wanted = options.fit_examples
    if wanted is None or wanted >= total:
        return range(total)
    if wanted < 1:
        raise HeadwaterError(f"fit_examples={wanted}: the curvature needs at least one example.")
    return sorted(np.random.default_rng(options.seed).choice(total, wanted, replace=False).tolist())


def labels_of(fisher: Fisher, seed: int) -> Labels:
    """The labels of the gradients of a Fisher."""
    return Labels("sampled" if fisher == "sampled" else "true", seed)


def write_curvature(
    path: Path, options: FitOptions, sweep: Sweep, *, bench: Workbench, binding: Mapping[str, str]
) -> None:
    """Fit a curvature as `fit_curvature` does, and write it to `path`.

    If memory is too small for all layers together, they are fitted in sections, and each section is written before the
    next one begins. The model runs again for each section. The numbers are the same.
    """
    kind = options.curvature
    sections = sections_of(sweep, options.memory, options.block_width) if kind_of(kind).in_sections else []
    if len(sections) > 1:
        parts = [replace(sweep, layers=one.layers, tokens_in_batch=sweep.token_budget) for one in sections]
        files = [
            _write_part(path, options, part, bench=bench, binding=binding, label=f"part {number} of {len(parts)}")
            for number, part in enumerate(parts, start=1)
        ]
        save_sections(path, kind, files, binding=binding)
    else:
        save_curvature(path, fit_curvature(kind, sweep, bench, block_width=options.block_width), binding)
    bench.clear()
    delete_strays(path)


def _write_part(
    path: Path, options: FitOptions, part: Sweep, *, bench: Workbench, binding: Mapping[str, str], label: str
) -> Path:
    """The file of one section of the curvature at `path`, fitted unless it is there already."""
    names = " ".join(layer.name for layer in part.layers)
    digits = hashlib.sha256(f"{names} {bench.binding}".encode()).hexdigest()[:12]
    file = path.with_name(f"{path.stem}-{digits}{path.suffix}")
    if not file.exists():
        own_bench = bench.part(digits, label)
        curvature = fit_curvature(options.curvature, part, own_bench, block_width=options.block_width)
        save_curvature(file, curvature, binding)
        shutil.rmtree(own_bench.folder)
    return file


def fit_curvature(kind: str, sweep: Sweep, bench: Workbench, *, block_width: int | None = None) -> Curvature:
    """Fit `kind` on the sequences of `sweep`, whose labels decide the Fisher.

    Covariances wider than `block_width` are approximated as block-diagonal, as Grosse et al. 2023 do in their largest
    model. After an interruption the fit resumes with the next shard. The curvature has the default damping.
    """
    return kind_of(kind).fit(_Passes(kind, sweep, bench, block_width))


@dataclass(frozen=True)
class _Passes:
    """A Fitting whose passes are sweeps."""

    kind: str
    sweep: Sweep
    bench: Workbench
    block_width: int | None

    @property
    def layers(self) -> tuple[TrackedLayer, ...]:
        return tuple(self.sweep.layers)

    @property
    def device(self) -> str:
        return str(self.sweep.lm.device)

    def fold(self, stage: str, make: Callable[[], R]) -> R:
        return fold(replace(self.sweep, stage=stage), make, self.bench.checkpoint(stage), report=self.bench.report)

    def eigenbases(self, covariances: Covariances) -> Eigenbases:
        return decompose(covariances, self.sweep.engine, self.bench)

    def with_gradient_cache(self) -> _Passes:
        if self.sweep.lm.device.type != "cpu":  # a GPU computes them faster than a disk reads them
            return self
        return replace(self, sweep=replace(self.sweep, cache=self.bench.cache(self.sweep)))
