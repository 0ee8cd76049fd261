"""From what the probe has shown to what every stage will take."""

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
"""Of one id held in memory."""
TOKEN_BYTES = 9
"""Of one token of a shard held in memory: its number and whether it is predicted."""
SEQUENCE_BYTES = 500
"""Of one sequence of a shard held in memory, its tokens not counted."""
SEARCH_BYTES = 32
"""Of one example in a search, its sketch not counted: key, row, order, scale and self-influence."""


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """What one stage will take."""

    name: str
    """corpus, fit, index, scan or question."""
    seconds: float
    memory: int
    """Bytes that the process holds at most; the corpus file's pages, which the system takes back, not counted."""
    disk: int
    """Bytes that are kept."""
    working: int = 0
    """Bytes on disk that are needed until the stage is done, and then freed."""
    done: bool = False
    """Whether the run has this already."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the stages will take, each from nothing, and what that was estimated from."""

    model: str
    curvature: str
    layers: int
    parameters: int
    """D: tracked parameters."""
    examples: int
    tokens: int
    fit_examples: int
    sketch_bytes: int
    queries: int
    stages: tuple[StagePlan, ...]
    whole_sketches: bool
    """Whether questions will hold whole sketches in memory; where there is no room, a part of each, or none."""
    probe_tokens: int
    probe_seconds: float
    records: int | None
    """Records of a corpus that is not tokenised yet."""
    sampled_records: int | None
    """How many of them were tokenised for the plan."""
    next_command: str
    parts: tuple[Section, ...] = ()
    """The layers that are fitted at a time; one part where they are fitted together."""

    def stage(self, name: str) -> StagePlan:
        return next(stage for stage in self.stages if stage.name == name)

    @property
    def seconds(self) -> float:
        """Of all stages but the question."""
        return sum(stage.seconds for stage in self.stages if stage.name != "question")

    @property
    def memory(self) -> int:
        """Bytes, at most, over all stages."""
        return max(stage.memory for stage in self.stages)

    @property
    def disk(self) -> int:
        """Bytes kept once all is done."""
        return sum(stage.disk for stage in self.stages)

    def to_json(self) -> str:
        whole = {"seconds": self.seconds, "memory": self.memory, "disk": self.disk}
        return json.dumps(asdict(self) | {"total": whole}, indent=2, ensure_ascii=False)


@dataclass(frozen=True, kw_only=True)
class Probes:
    """All that was tried."""

    mini: Miniature
    fit: FitProbe
    index: IndexProbe
    scan: ScanProbe
    served: QuestionProbe


def estimate(subject: Subject, probed: Probes, sketch: Sketch) -> tuple[StagePlan, ...]:
    """Every stage of the real work, extrapolated from the probe by tokens (padding included), examples and shards."""
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
        working=probed.fit.checkpoints + probed.fit.kept(fitting),
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
    """Bytes of sketches that questions hold in memory: all, only the first part of each, or none, as memory allows.

    `free` are the machine's free bytes, half of which sketches may take.
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
    """Bytes of the sequences of a shard, which a sweep reads in one go."""
    tokens = float(subject.layout.lengths.mean())
    return int(examples * (SEQUENCE_BYTES + TOKEN_BYTES * tokens))
