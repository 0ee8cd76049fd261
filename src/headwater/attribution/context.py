"""The context that a question is answered in: model, training corpus, fitted curvature, and who does the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headwater.corpus.batches import TokenSequence
from headwater.corpus.corpus import Corpus
from headwater.curvature.base import Curvature
from headwater.lm.layers import TrackedLayer, named
from headwater.lm.load import LanguageModel
from headwater.sweep.execution import LOCAL, Execution
from headwater.sweep.sweep import Sweep


@dataclass(frozen=True)
class AttributionContext:
    """What every answer needs."""

    lm: LanguageModel
    corpus: Corpus
    curvature: Curvature
    execution: Execution = LOCAL

    def layers(self, globs: Sequence[str] | None) -> tuple[TrackedLayer, ...]:
        """The tracked layers that `globs` name; None names all. Raises HeadwaterError for a glob that names none."""
        return self.curvature.layers if globs is None else named(self.curvature.layers, globs)

    def sweep(self, stage: str, sequences: Sequence[TokenSequence] | None = None) -> Sweep:
        """A pass over `sequences`, by default the whole corpus, through the tracked layers."""
        return self.execution.sweep(
            stage,
            self.lm,
            self.curvature.layers,
            sequences=self.corpus.sequences() if sequences is None else sequences,
        )
