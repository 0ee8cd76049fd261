"""Trying the fit on a miniature."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from headwater.base.files import save_tensors
from headwater.base.memory_probe import Peak
from headwater.corpus.batches import make_batches
from headwater.curvature.base import Curvature
from headwater.curvature.covariances import Covariances
from headwater.curvature.eigen import Eigenbases
from headwater.curvature.registry import kind_of
from headwater.curvature.sections import Section, sections_of
from headwater.curvature.store import save_curvature
from headwater.curvature.workbench import Workbench
from headwater.gradients.reducer import R
from headwater.lm.capture import Capture, Labels
from headwater.lm.layers import TrackedLayer
from headwater.plan.bases import probe_bases
from headwater.plan.layout import Layout
from headwater.plan.miniature import Miniature
from headwater.plan.timing import Clock, SweepCost, seconds_of
from headwater.sweep.sweep import Sweep, fold


@dataclass(frozen=True, kw_only=True)
class FitProbe:
    """What fitting the miniature has shown."""

    curvature: Curvature
    sweeps: Sequence[SweepCost]
    once: float
    """Seconds for all that does not grow with the corpus: decompositions, and the curvature's file."""
    memory: int
    """Bytes, at most, while fitting."""
    disk: int
    """Bytes of the curvature's file."""
    checkpoints: int
    """Bytes of the files that are kept until the fit is done."""
    state: int
    """Bytes of the largest sums of a sweep; a shard's own are held beside those of all shards before."""
    kept_per_token: float = 0.0
    """Bytes of gradients kept between two sweeps, a token with its padding; 0 where there is one sweep."""
    kept_limit: int = 0
    """Bytes that may be kept."""
    parts: tuple[Section, ...] = ()
    """The layers that are fitted at a time, where they are not fitted together."""
    per_pass: float = 0.0
    """Seconds of the model alone, a token with its padding; known where there are parts."""

    def kept(self, layout: Layout) -> int:
        """Bytes of gradients that a fit over `layout` keeps until it is done."""
        return min(self.kept_limit, int(self.kept_per_token * layout.padded))

    def seconds(self, layout: Layout) -> float:
        """Batches that are not kept are computed a second time, as in the first sweep."""
        swept = sum(sweep.seconds(layout) for sweep in self.sweeps)
        wanted = self.kept_per_token * layout.padded
        again = (1 - self.kept(layout) / wanted) * self.sweeps[0].seconds(layout) if wanted else 0.0
        return self.once + swept + again + max(0, len(self.parts) - 1) * self.per_pass * layout.padded


def probe_fit(mini: Miniature, binding: Mapping[str, str]) -> FitProbe:
    """Fit the curvature on the miniature. Raises HeadwaterError where its kind cannot be fitted to so many parameters.

    The file is bound as that of the real fit would be, so that it is as large.
    """
    fit = mini.subject.fit
    clock = Clock()
    bench = Workbench(mini.folder / "curvature", "probe", clock)
    sweep = replace(mini.sweep, labels=Labels("sampled" if fit.fisher == "sampled" else "true", fit.seed))
    path = mini.folder / "curvature" / "curvature.safetensors"
    kind = kind_of(fit.curvature)
    parts = sections_of(sweep, fit.memory, fit.block_width) if kind.in_sections else []
    probing = _Probing(kind=fit.curvature, mini=mini, sweep=sweep, bench=bench, clock=clock)
    with Peak() as peak:
        curvature = kind.fit(probing)
        probing.once.append(seconds_of(lambda: save_curvature(path, curvature, binding)))
    checkpoints = [file.stat().st_size for file in bench.folder.glob("*.checkpoint.safetensors")]
    state = max(checkpoints, default=0)
    kept = probing.sweep.cache
    kept_per_token = kept.bytes / max(1, mini.layout.padded) if kept else 0.0
    bench.clear()
    return FitProbe(
        curvature=curvature,
        sweeps=probing.sweeps,
        once=sum(probing.once),
        memory=peak.bytes,
        disk=path.stat().st_size,
        checkpoints=sum(checkpoints),
        state=state,
        kept_per_token=kept_per_token,
        kept_limit=kept.limit if kept else 0,
        parts=tuple(parts),
        per_pass=_per_pass(mini) if len(parts) > 1 else 0.0,
    )


def _per_pass(mini: Miniature) -> float:
    """Seconds of the model alone, a token with its padding."""
    batches = list(make_batches(mini.sweep.sequences[:], mini.sweep.token_budget))
    with Capture(mini.sweep.lm, mini.sweep.layers) as capture:
        return seconds_of(lambda: [capture(batch) for batch in batches]) / mini.layout.padded


@dataclass(kw_only=True)
class _Probing:
    """A Fitting, each pass of it timed; wide covariances are not decomposed."""

    kind: str
    mini: Miniature
    sweep: Sweep
    bench: Workbench
    clock: Clock
    sweeps: list[SweepCost] = field(default_factory=list[SweepCost])
    once: list[float] = field(default_factory=list[float])
    """Seconds of what does not grow with the corpus."""

    @property
    def layers(self) -> tuple[TrackedLayer, ...]:
        return tuple(self.sweep.layers)

    @property
    def block_width(self) -> int | None:
        return self.mini.subject.fit.block_width

    @property
    def device(self) -> str:
        return str(self.sweep.lm.device)

    def fold(self, stage: str, make: Callable[[], R]) -> R:
        start = time.perf_counter()
        reducer = fold(replace(self.sweep, stage=stage), make, self.bench.checkpoint(stage), report=self.clock)
        self.sweeps.append(self.mini.cost_of_sweep(self.clock, stage, start, end=time.perf_counter()))
        return reducer

    def eigenbases(self, covariances: Covariances) -> Eigenbases:
        probed = probe_bases(covariances)
        covariances.sums.clear()
        checkpoint = self.bench.checkpoint("eigenbasis")
        written = seconds_of(lambda: save_tensors(checkpoint.path, probed.bases.tensors, {}))
        self.once.append(probed.seconds + written)
        return probed.bases

    def with_gradient_cache(self) -> Self:
        if self.sweep.lm.device.type == "cpu":  # as a fit does
            self.sweep = replace(self.sweep, cache=self.bench.cache(self.sweep))
        return self
