"""Recall of an index against its bytes per example, measured on a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.attribution.index.recall import Found, found_by, sketched
from headwater.attribution.index.rescore import Budget
from headwater.attribution.index.search import SketchQuery
from headwater.attribution.index.sketch import sketch_of_width
from headwater.attribution.options import AskOptions
from headwater.attribution.preconditioned import question_gradients
from headwater.attribution.question import Question
from headwater.base.byte_sizes import in_bytes
from headwater.errors import HeadwaterError
from headwater.render.plots.scores import exact_scores
from headwater.render.plots.sheet import LIGHT, QUIET, Picture, sheet
from headwater.runs.run import Run

WIDTHS = (256, 512, 1024, 2048, 4096, 8192)
PROMPT, COMPLETION = 20, 8
"""Tokens of an example that become the prompt and the completion of a question, where no question is given."""


@dataclass(frozen=True)
class Recall(Picture):
    """Recall of sketches of several widths, for every question."""

    widths: list[int]
    """[W] bytes per example."""
    found: list[list[Found]]
    """[W][Q]"""
    k: int
    examples: int
    """N"""

    @property
    def alone(self) -> NDArray[np.float64]:
        """[W, Q] recall of the k by the sketches alone."""
        return np.array([[one.alone for one in row] for row in self.found])

    @property
    def asked(self) -> NDArray[np.float64]:
        """[W, Q] recall of the k that `ask` shows, after the best candidates are scored exactly."""
        return np.array([[one.recall for one in row] for row in self.found])

    @property
    def meaning(self) -> str:
        enough = self._enough()
        width, alone, asked = self.widths[enough], self.alone[enough].mean(), self.asked[enough].mean()
        scored = np.mean([one.scored for one in self.found[enough]])
        return (
            f"At {width:,} bytes per example ({in_bytes(width * self.examples)} for all {self.examples:,}) sketches "
            f"alone find {alone:.0%} of the exact top {self.k} of both ends. headwater ask scores the best candidates "
            f"exactly (about {scored:.0f}) and finds {asked:.1%}. Mean of {len(self.found[0])} questions; a dot is one "
            "question."
        )

    def _enough(self) -> int:
        """The narrowest width whose recall is within 0.01 of the best."""
        means = self.asked.mean(axis=1)
        return int(np.argmax(means >= means.max() - 0.01))

    def _drawn(self) -> Any:
        figure = sheet(f"Bytes of sketch against the exact top {self.k}", self.meaning)
        axes = figure.subplots()
        lines = (
            (self.asked, "o", LIGHT.raises_ink, -1, "best candidates scored exactly, as by headwater ask"),
            (self.alone, "s", LIGHT.lowers_ink, 1, "the sketches alone"),
        )
        for values, marker, colour, side, label in lines:
            for width, row in zip(self.widths, 100 * values, strict=True):
                beside = width * 2 ** (side * np.linspace(0.05, 0.16, len(row)))
                axes.plot(beside, row, ".", ms=3.5, color=colour, alpha=0.4, mew=0)
            axes.plot(self.widths, 100 * values.mean(axis=1), marker, ls="-", lw=1.6, ms=6, color=colour, label=label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(self.widths, [f"{width:,}\n{in_bytes(width * self.examples)}" for width in self.widths])
        axes.minorticks_off()
        axes.axhline(100, color=QUIET, lw=0.6)
        axes.set(ylim=(0, 104), xlabel="bytes of sketch per example, and for the whole corpus")
        axes.set_ylabel(f"recall of the exact top {self.k} of both ends, %")
        axes.grid()
        axes.legend(loc="lower right")
        return figure


def recall(run: Run, questions: Sequence[Question], k: int = 10, *, widths: Sequence[int] = WIDTHS) -> Recall:
    """Sketch the corpus in every width, in memory, and compare what each finds with exact scores.

    Takes two passes over the corpus; the run's own index is neither needed nor changed. Raises HeadwaterError where the
    corpus has fewer than 2 k examples, or there is no question.
    """
    if not questions or len(run.corpus) < 2 * k:
        raise HeadwaterError(f"Recall needs a question, and at least {2 * k} examples for -k {k}.")
    curvature = run.curvature()
    sketches = {sketch.bytes: sketch for sketch in (sketch_of_width(curvature.dimensions, width) for width in widths)}
    exact = exact_scores(run, questions)
    asked = question_gradients(run.lm, curvature.layers, questions, curvature=curvature)
    sketch_query = [SketchQuery(row) for row in curvature.whitened_from(asked).float().cpu().numpy()]
    budget = Budget(k, max(AskOptions().candidates, 2 * k))
    sweep = run.execution.sweep("sketches", run.lm, curvature.layers, sequences=run.corpus.sequences())
    found = [
        [found_by(loaded, one, exact[:, q], budget=budget) for q, one in enumerate(sketch_query)]
        for loaded in sketched(sweep, curvature, list(sketches.values()), report=run.execution.report)
    ]
    return Recall(list(sketches), found, k, len(run.corpus))


def own_questions(run: Run, count: int, seed: int = 0) -> list[Question]:
    """Questions made from the corpus: the first 20 tokens of an example are the prompt, the next 8 the completion.

    The examples are a seeded choice among those that are long enough. Raises HeadwaterError where there are none.
    """
    order = np.random.default_rng(seed).permutation(len(run.corpus)).tolist()
    questions: list[Question] = []
    for position in order:
        pieces = run.corpus[position].pieces
        if len(questions) == count:
            break
        if len(pieces) >= PROMPT + COMPLETION:
            completion = "".join(pieces[PROMPT : PROMPT + COMPLETION])
            questions.append(run.question("".join(pieces[:PROMPT]), completion, raw=True))
    if not questions:
        raise HeadwaterError(
            "The examples of the corpus are too short to make questions from. Give questions with --queries FILE."
        )
    return questions
