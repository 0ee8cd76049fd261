"""The context in which a question is answered: model, corpus, fitted curvature and execution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headwater.corpus.batches import TokenSequence
from headwater.corpus.corpus import Corpus
from headwater.curvature.base import Curvature
from headwater.lm.layers import TrackedLayer, select_layers
from headwater.lm.load import LanguageModel
from headwater.sweep.execution import LOCAL, Execution
from headwater.sweep.sweep import Sweep


@dataclass(frozen=True)
class AttributionContext:
    """Model, corpus, fitted curvature and execution: what every answer is computed with."""

    lm: LanguageModel
    corpus: Corpus
    curvature: Curvature
    execution: Execution = LOCAL

    def layers(self, globs: Sequence[str] | None) -> tuple[TrackedLayer, ...]:
        """The tracked layers that match `globs`; None matches all. Raises HeadwaterError if a glob matches none."""
        return self.curvature.layers if globs is None else select_layers(self.curvature.layers, globs)

    def sweep(self, stage: str, sequences: Sequence[TokenSequence] | None = None) -> Sweep:
        """A sweep over `sequences`, by default the whole corpus."""
        return self.execution.sweep(
            stage,
            self.lm,
            self.curvature.layers,
            sequences=self.corpus.sequences() if sequences is None else sequences,
        )
