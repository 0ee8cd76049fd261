"""Fitting a curvature: the sweeps and eigendecompositions of each kind, each stage resumable."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from headwater.base.files import load_tensors, read_metadata, save_tensors
from headwater.base.progress import Report, Step, silent
from headwater.curvature.base import Curvature
from headwater.curvature.covariances import Covariances
from headwater.curvature.eigen import Eigenbases, eigendecompose
from headwater.curvature.options import Fisher, FitOptions
from headwater.curvature.registry import kind_of
from headwater.curvature.sections import Section, sections_of
from headwater.curvature.store import delete_strays, save_curvature, save_sections
from headwater.errors import HeadwaterError
from headwater.gradients import aligned_rows
from headwater.gradients.reducer import R
from headwater.lm.capture import Labels
from headwater.lm.layers import TrackedLayer
from headwater.sweep.checkpoint import SweepCheckpoint
from headwater.sweep.checkpoint_policy import CheckpointPolicy
from headwater.sweep.engine import Engine
from headwater.sweep.gradient_cache import GradientCache, open_gradient_cache
from headwater.sweep.sweep import Sweep, fold

_GRADIENTS = "gradients-"
"""Begins the names of folders of kept gradients."""
_PART = "part-"
"""Begins the names of folders in which parts of a fit are at work."""


@dataclass(frozen=True)
class Workbench:
    """Where a fit keeps what it has finished, and the settings that decide whether that is still of use."""

    folder: Path
    binding: str
    report: Report = silent

    def checkpoint(self, stage: str) -> SweepCheckpoint:
        return SweepCheckpoint(self.folder / f"{stage}.checkpoint.safetensors", f"{stage}: {self.binding}")

    def cache(self, sweep: Sweep) -> GradientCache:
        """Where the gradients that a fit reads twice are kept between the times."""
        settings = f"{self.binding} {sweep.labels} {sweep.token_budget} {sweep.shard_examples or ''}".rstrip()
        return open_gradient_cache(self.folder / f"{_GRADIENTS}{hashlib.sha256(settings.encode()).hexdigest()[:16]}")

    def part(self, name: str, words: str) -> Workbench:
        """A bench of its own for a part of the fit; `words` say in progress which part it is."""

        def report(step: Step) -> None:
            self.report(replace(step, stage=f"{step.stage}, {words}"))

        return replace(self, folder=self.folder / f"{_PART}{name}", report=report)

    def clear(self) -> None:
        for path in self.folder.glob("*.checkpoint.safetensors"):
            path.unlink()
        for kept in (*self.folder.glob(f"{_GRADIENTS}*"), *self.folder.glob(f"{_PART}*")):
            shutil.rmtree(kept)


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
    """The labels that a Fisher's gradients are taken at."""
    return Labels("sampled" if fisher == "sampled" else "true", seed)


def write_curvature(
    path: Path, options: FitOptions, sweep: Sweep, *, bench: Workbench, binding: Mapping[str, str]
) -> None:
    """Fit a curvature as `fit_curvature` does, and write it to `path`.

    Where memory does not suffice for all layers together, a few are fitted at a time and each such section is written
    before the next is begun. The model runs once more for each of them; the numbers are the same.
    """
    kind = options.curvature
    parts = sections_of(sweep, options.memory, options.block_width) if kind_of(kind).in_sections else []
    if len(parts) > 1:
        save_sections(
            path, kind, _write_parts(path, options, sweep, bench=bench, binding=binding, parts=parts), binding=binding
        )
    else:
        save_curvature(path, fit_curvature(kind, sweep, bench, block_width=options.block_width), binding)
    bench.clear()
    delete_strays(path)


def _write_parts(
    path: Path,
    options: FitOptions,
    sweep: Sweep,
    *,
    bench: Workbench,
    binding: Mapping[str, str],
    parts: Sequence[Section],
) -> list[Path]:
    """The files of the sections, each fitted where it is not there yet."""
    written: list[Path] = []
    for number, part in enumerate(parts, start=1):
        names = " ".join(layer.name for layer in part.layers)
        digits = hashlib.sha256(f"{names} {bench.binding}".encode()).hexdigest()[:12]
        written.append(path.with_name(f"{path.stem}-{digits}{path.suffix}"))
        if written[-1].exists():
            continue
        desk = bench.part(digits, f"part {number} of {len(parts)}")
        own = replace(sweep, layers=part.layers, tokens_in_batch=sweep.token_budget)
        save_curvature(
            written[-1], fit_curvature(options.curvature, own, desk, block_width=options.block_width), binding
        )
        shutil.rmtree(desk.folder)
    return written


def fit_curvature(kind: str, sweep: Sweep, bench: Workbench, *, block_width: int | None = None) -> Curvature:
    """Fit `kind` on the sequences of `sweep`, whose labels decide the Fisher.

    Covariances wider than `block_width` are taken for block-diagonal, as Grosse et al. 2023 do in their largest model.
    Interrupted, it goes on from the last finished shard. The returned curvature carries the default damping.
    """
    return kind_of(kind).fit(_Passes(kind, sweep, bench, block_width))


@dataclass(frozen=True)
class _Passes:
    """A Fitting, by sweeps."""

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
        return _eigenbases(self.sweep.engine, covariances, self.bench)

    def keeping(self) -> _Passes:
        if self.sweep.lm.device.type != "cpu":  # a GPU makes them again sooner than a disk gives them back
            return self
        return replace(self, sweep=replace(self.sweep, cache=self.bench.cache(self.sweep)))


def _eigenbases(engine: Engine, covariances: Covariances, bench: Workbench) -> Eigenbases:
    """Decomposed once, then read back from disk by a fit that goes on, unless that would take as long.

    The covariances are released one after the other, so that no more than one is held beside what it becomes.
    """
    checkpoint, names = bench.checkpoint("eigenbasis"), covariances.names
    if (saved := _saved(checkpoint, str(covariances.sums[names[0]].device))) is not None:
        covariances.sums.clear()
        return saved
    tensors: dict[str, Tensor] = {}
    policy = CheckpointPolicy()
    bench.report(Step(stage="eigenbasis", done=0, total=len(names), tokens=0))
    found = engine.map(_decomposed, ((name, covariances.taken(name)) for name in names))
    for done, (name, values, vectors) in enumerate(found, start=1):
        tensors |= {f"λ {name}": values, f"Q {name}": aligned_rows.copy(vectors)}
        bench.report(Step(stage="eigenbasis", done=done, total=len(names), tokens=0))
    if policy.is_due(tensors):
        save_tensors(checkpoint.path, tensors, {"binding": checkpoint.binding})
    return Eigenbases(tensors)


def _saved(checkpoint: SweepCheckpoint, device: str) -> Eigenbases | None:
    """The bases of an earlier, interrupted fit; None where there are none of this fit, or they are damaged."""
    with suppress(HeadwaterError):
        if checkpoint.path.exists() and read_metadata(checkpoint.path).get("binding") == checkpoint.binding:
            saved = load_tensors(checkpoint.path, device)
            return Eigenbases({name: aligned_rows.copy(x) if x.dim() == 2 else x for name, x in saved.items()})
    return None


def _decomposed(named: tuple[str, Tensor]) -> tuple[str, Tensor, Tensor]:
    name, covariance = named
    owner, side, _ = name.rsplit(".", 2)
    whose = "the inputs of" if side == "A" else "the gradients of"
    return name, *eigendecompose(covariance, f"{whose} {owner}")
