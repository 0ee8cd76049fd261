"""Extrapolates the measurements of a probe to the time, memory and disk of each stage."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import psutil

from headwater.attribution.index.build import COARSE_BYTES
from headwater.attribution.index.search import MEMORY_SHARE
from headwater.attribution.index.sketch import Sketch
from headwater.curvature.sections import Section
from headwater.plan.fitting import FitProbe
from headwater.plan.miniature import Miniature
from headwater.plan.serving import IndexProbe, QuestionProbe, ScanProbe
from headwater.plan.subject import Subject

ID_BYTES = 70
"""Memory of one example id."""
TOKEN_BYTES = 9
"""Memory of one token of a shard: its id and whether it is a target."""
SEQUENCE_BYTES = 500
"""Memory of one sequence of a shard without its tokens."""
SEARCH_BYTES = 32
"""Memory of one example in a search without its sketch: key, row, order, scale and self-influence."""


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """Estimated cost of one stage."""

    name: str
    """corpus, fit, index, scan or question."""
    seconds: float
    memory: int
    """Peak bytes of the process, without cached pages of the corpus file, which the system can reclaim."""
    disk: int
    """Bytes of the results on disk."""
    working: int = 0
    """Temporary bytes on disk, freed when the stage is done."""
    done: bool = False
    """Whether the run already has this."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Estimated cost of each stage from scratch, and what the estimates are based on."""

    model: str
    curvature: str
    layers: int
    parameters: int
    """D, the number of tracked parameters."""
    examples: int
    tokens: int
    fit_examples: int
    sketch_bytes: int
    queries: int
    stages: tuple[StagePlan, ...]
    whole_sketches: bool
    """Whether questions hold whole sketches in memory. Without room, they hold a part of each, or none."""
    probe_tokens: int
    probe_seconds: float
    records: int | None
    """Records of the corpus, if it is not tokenised yet."""
    sampled_records: int | None
    """Number of records that were tokenised for the plan."""
    next_command: str
    parts: tuple[Section, ...] = ()
    """Groups of layers that are fitted together; a single one if all are."""

    def stage(self, name: str) -> StagePlan:
        return next(stage for stage in self.stages if stage.name == name)

    @property
    def seconds(self) -> float:
        """Seconds of all stages but the question."""
        return sum(stage.seconds for stage in self.stages if stage.name != "question")

    @property
    def memory(self) -> int:
        """Peak bytes over all stages."""
        return max(stage.memory for stage in self.stages)

    @property
    def disk(self) -> int:
        """Bytes of all results on disk."""
        return sum(stage.disk for stage in self.stages)

    def to_json(self) -> str:
        whole = {"seconds": self.seconds, "memory": self.memory, "disk": self.disk}
        return json.dumps(asdict(self) | {"total": whole}, indent=2, ensure_ascii=False)


@dataclass(frozen=True, kw_only=True)
class Probes:
    """Measurements of all stages on a miniature."""

    mini: Miniature
    fit: FitProbe
    index: IndexProbe
    scan: ScanProbe
    served: QuestionProbe


def estimate(subject: Subject, probed: Probes, sketch: Sketch) -> tuple[StagePlan, ...]:
    """Estimates of all stages, extrapolated by tokens (including padding), examples and shards."""
    whole, fitting, mini = subject.layout, subject.fit_layout, probed.mini.layout
    examples = subject.examples
    growth = _shard_bytes(subject, whole.shard_examples) - _shard_bytes(subject, mini.shard_examples)
    fit_growth = _shard_bytes(subject, fitting.shard_examples) - _shard_bytes(subject, mini.shard_examples)
    if len(mini.shards) == 1 < len(fitting.shards):
        fit_growth = max(0, fit_growth) + probed.fit.state
    rows = 3 * int(probed.index.row_bytes) * (whole.shard_examples - mini.shard_examples)
    fit_memory = probed.fit.memory + max(0, fit_growth)
    if len(probed.fit.parts) > 1 and subject.fit.memory is not None:
        fit_memory = min(fit_memory, subject.fit.memory)
    fit = StagePlan(
        name="fit",
        seconds=probed.fit.seconds(fitting),
        memory=fit_memory,
        disk=probed.fit.disk,
        working=probed.fit.checkpoints + probed.fit.cached(fitting),
    )
    index = StagePlan(
        name="index",
        seconds=probed.index.seconds(whole, probed.mini.per_example),
        memory=probed.index.memory + max(0, growth) + max(0, rows) + 4 * 8 * examples,
        disk=int(probed.index.row_bytes * examples),
    )
    scan = StagePlan(
        name="scan",
        seconds=probed.scan.seconds(whole),
        memory=probed.scan.memory + max(0, growth) + ID_BYTES * examples,
        disk=int(probed.scan.row_bytes * examples),
        working=int(probed.scan.row_bytes * examples),
    )
    return fit, index, scan, _question(subject, probed, sketch)


def sketches_held(examples: int, sketch: Sketch, free: int | None = None) -> int:
    """Bytes of sketches that questions hold in memory: all, only the first part of each, or none.

    `free` is the free memory of the machine, half of which sketches may use.
    """
    room = (psutil.virtual_memory().available if free is None else free) * MEMORY_SHARE
    coarse = min(COARSE_BYTES, sketch.bytes)
    held = 0
    for width in (coarse, sketch.bytes - coarse):
        if examples * width <= room - held:
            held += examples * width
    return held


def _question(subject: Subject, probed: Probes, sketch: Sketch) -> StagePlan:
    examples = subject.examples
    seconds = probed.served.fixed + probed.served.per_example * examples
    held = sketches_held(examples, sketch)
    return StagePlan(
        name="question", seconds=seconds, memory=probed.served.memory + held + SEARCH_BYTES * examples, disk=0
    )


def _shard_bytes(subject: Subject, examples: int) -> int:
    """Bytes of the sequences of a shard, which a sweep reads at once."""
    tokens = float(subject.layout.lengths.mean())
    return int(examples * (SEQUENCE_BYTES + TOKEN_BYTES * tokens))
