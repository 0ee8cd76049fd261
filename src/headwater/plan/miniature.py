"""Makes a miniature of the corpus from some of its batches, on which a plan probes the stages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from headwater.corpus.batches import pad
from headwater.corpus.corpus import Corpus
from headwater.lm.capture import Capture, Labels
from headwater.plan.layout import Layout
from headwater.plan.subject import Subject, copy_examples
from headwater.plan.timing import Clock, SweepCost, seconds_of, sweep_cost
from headwater.sweep.sweep import Sweep

FEWEST_BATCHES, MOST_BATCHES = 6, 40
STAGE_SECONDS = 4.0
"""Target time of one sweep of the probe."""
PASSES = 3.0
"""Upper estimate of the time of a batch in a sweep, in units of its forward and backward pass."""


@dataclass(frozen=True, kw_only=True)
class Miniature:
    """A few whole batches of the corpus as a separate corpus."""

    subject: Subject
    folder: Path
    corpus: Corpus
    layout: Layout
    per_example: float
    """Seconds to read one example of the whole corpus."""
    per_copy: float
    """Seconds to read one example of the miniature."""

    @cached_property
    def sweep(self) -> Sweep:
        return Sweep(stage="probe", lm=self.subject.lm, layers=self.subject.layers, sequences=self.corpus.sequences())

    def cost_of_sweep(self, clock: Clock, stage: str, start: float, *, end: float) -> SweepCost:
        cost = sweep_cost(self.layout, clock.stamps[stage], start, end=end, per_example=self.per_copy)
        return replace(cost, per_example=self.per_example)


def make_miniature(subject: Subject, folder: Path) -> Miniature:
    """Choose batches and write them to `folder`. Their number depends on the time of one batch."""
    count = _batch_count(subject)
    stand_ins = subject.stand_ins(subject.examples)
    places = subject.layout.sample(count)
    corpus = copy_examples(subject.corpus, [stand_ins[k] for k in places], folder / "corpus" / "examples.arrow")
    sweep = Sweep(stage="probe", lm=subject.lm, layers=subject.layers, sequences=corpus.sequences())
    layout = Layout(subject.layout.lengths[places], sweep.shards(), sweep.token_budget)
    copied = seconds_of(lambda: sweep.sequences[:]) / len(corpus)
    if subject.corpus.streamed:
        read = range(min(len(corpus), len(subject.corpus)))
        per_example = seconds_of(lambda: subject.corpus.sequences(read)[:]) / len(read)
    else:
        per_example = (subject.reading.per_pass if subject.reading else None) or copied
    return Miniature(
        subject=subject, folder=folder, corpus=corpus, layout=layout, per_example=per_example, per_copy=copied
    )


def _batch_count(subject: Subject) -> int:
    """Number of batches of a probe's sweep, from a timed pass. The pass also warms up the process."""
    sequences = subject.corpus.sequences(subject.stand_ins(subject.examples))
    widest = max(subject.layout.batches, key=lambda batch: batch.width)
    batch = pad([sequences[int(row)] for row in widest.rows], range(len(widest.rows)))
    with Capture(subject.lm, subject.layers) as capture:
        capture(batch, Labels())
        seconds = min(seconds_of(lambda: capture(batch, Labels())) for _ in range(2))
    return max(FEWEST_BATCHES, min(MOST_BATCHES, int(STAGE_SECONDS / (PASSES * seconds))))
