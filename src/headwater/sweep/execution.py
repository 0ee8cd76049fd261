"""How long work is done: who does it, who hears of its progress, and in which pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from headwater.base.progress import Report, silent
from headwater.base.progress_bar import progress_bars, somebody_watches
from headwater.corpus.batches import TokenSequence
from headwater.lm.capture import Labels
from headwater.lm.layers import TrackedLayer
from headwater.lm.load import LanguageModel
from headwater.sweep.sweep import LOCAL_ENGINE, Engine, Sweep


@dataclass(frozen=True)
class Execution:
    """The engine, the progress report and the size of a shard. None of them changes a result, except for rounding."""

    engine: Engine = LOCAL_ENGINE
    """This process, or a RayEngine."""
    report: Report = silent
    """Called after every batch."""
    shard_examples: int | None = None
    """Examples in a shard, which an interruption loses at most; None is a sixteenth of the corpus, 256 to 4,096."""

    def sweep(
        self,
        stage: str,
        lm: LanguageModel,
        layers: Sequence[TrackedLayer],
        *,
        sequences: Sequence[TokenSequence],
        labels: Labels = Labels(),
    ) -> Sweep:
        """A pass over `sequences` that is done in this way."""
        return Sweep(
            stage=stage,
            lm=lm,
            layers=layers,
            sequences=sequences,
            labels=labels,
            engine=self.engine,
            shard_examples=self.shard_examples,
        )


LOCAL = Execution()
"""In this process, silently."""


@contextmanager
def visible(execution: Execution, progress: bool = True) -> Iterator[Execution]:
    """The execution with a progress bar, in a terminal or notebook; unchanged where it has a report of its own."""
    if not progress or execution.report is not silent or not somebody_watches():
        yield execution
        return
    with progress_bars() as report:
        yield replace(execution, report=report)
