"""Layers that the influence of the strongest examples comes through, for one question or several."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.attribution.answer import Answer
from headwater.errors import HeadwaterError
from headwater.render.palette import blend
from headwater.render.plots.sheet import LIGHT, LINE, QUIET, SMALL, TEXT, Picture, sheet
from headwater.render.visible import one_line, shorten

MANY = 24
"""Maximum number of layers whose shares are written into the picture."""
MOST_QUESTIONS = 60
"""Maximum number of questions in one picture."""
KINDS = (LIGHT.raises_ink, LIGHT.raises, LIGHT.lowers_ink, LIGHT.lowers, LIGHT.ink, QUIET)
"""Colours of the layers of a block."""


@dataclass(frozen=True)
class Layer:
    """A tracked layer by its place in the model."""

    name: str
    block: int | None
    """Number of the block of the model that it is in; None where its name has no number."""
    kind: str
    """Its name within the block."""


@dataclass(frozen=True)
class Layers(Picture):
    """Shares of the influence by layer, of one question or several."""

    subjects: list[str]
    """[Q] the questions."""
    layers: list[Layer]
    """[L] in the order of the model."""
    examples: list[NDArray[np.float64]]
    """[Q] arrays [K, L]: the influence of each of the strongest proponents through every layer."""

    @property
    def shares(self) -> NDArray[np.float64]:
        """[Q, L] the part of the proponents' summed influence that comes through each layer; a row sums to 1."""
        sums = np.stack([parts.sum(axis=0) for parts in self.examples])
        return sums / sums.sum(axis=1, keepdims=True)

    @property
    def meaning(self) -> str:
        shares = self.shares
        count = max(len(parts) for parts in self.examples)
        who = "the strongest proponent" if count == 1 else f"the {count} strongest proponents"
        mean = shares.mean(axis=0)
        most = int(mean.argmax())
        words = (
            f"{mean[most]:.0%} of the influence of {who} comes through {self.layers[most].name}. {self._by_depth(mean)}"
        )
        if len(self.subjects) > 1:
            words = f"Mean of {len(self.subjects)} questions: {words}"
        if len(self.subjects) > 1:
            blocks = np.array([layer.block or 0 for layer in self.layers])
            late = shares[:, blocks > (blocks.max() + blocks.min()) / 2].sum(axis=1)
            if len(set(blocks.tolist())) > 1:
                words += (
                    f" The later half of the blocks carries from {late.min():.0%} to {late.max():.0%}, by question."
                )
        return words

    def _by_depth(self, mean: NDArray[np.float64]) -> str:
        """The parts of the first, middle and last third of the blocks, or of each block where there are up to three."""
        blocks = sorted({layer.block for layer in self.layers if layer.block is not None})
        if len(blocks) < 2 or any(layer.block is None for layer in self.layers):
            return ""
        of = {block: sum(mean[n] for n, layer in enumerate(self.layers) if layer.block == block) for block in blocks}
        if len(blocks) <= 3:
            return "By depth: " + ", ".join(f"block {block} {share:.0%}" for block, share in of.items()) + "."
        names = ("first", "middle", "last")
        thirds = zip(names, np.array_split(np.array(blocks), 3), strict=True)
        said = ", ".join(f"{name} third {sum(of[block] for block in part.tolist()):.0%}" for name, part in thirds)
        return f"By depth: {said}."

    def _drawn(self) -> Any:
        return self._one() if len(self.subjects) == 1 else self._several()

    def _one(self) -> Any:
        """Bars by layer, with a dot per example."""
        width = min(14.0, max(7.2, 1.2 + 0.3 * len(self.layers)))
        figure = sheet(f"Influence by layer: {self.subjects[0]}", self.meaning, width, height=3.4)
        axes = figure.subplots()
        own = self.examples[0] / self.examples[0].sum(axis=1, keepdims=True)
        kinds = list(dict.fromkeys(layer.kind for layer in self.layers))
        colours = {kind: KINDS[n % len(KINDS)] for n, kind in enumerate(kinds)}
        for kind in kinds:
            places = [n for n, layer in enumerate(self.layers) if layer.kind == kind]
            axes.bar(places, 100 * self.shares[0][places], 0.72, color=colours[kind], label=kind)
        spread = np.linspace(-0.2, 0.2, len(own)) if len(own) > 1 else np.zeros(1)
        for n in range(len(self.layers)):
            axes.plot(n + spread, 100 * own[:, n], "o", ms=2.6, mfc=LIGHT.background, mec=LIGHT.ink, mew=0.6)
        axes.axhline(0, color=QUIET, lw=0.8)
        axes.grid(axis="y")
        axes.set_xlim(-0.7, len(self.layers) - 0.3)
        self._name_layers(axes)
        axes.set_ylabel("share of the influence, %\n(bar: all, dots: one example each)")
        if 1 < len(kinds) <= len(KINDS):
            axes.legend(loc="upper left", ncols=3)
            low, high = axes.get_ylim()
            axes.set_ylim(low, high + 0.14 * (high - low))
        return figure

    def _several(self) -> Any:
        """A row per question, a column per layer."""
        shares = 100 * self.shares
        rows, columns = shares.shape
        width = min(14.0, max(7.2, 3.4 + 0.34 * columns))
        figure = sheet(f"Influence by layer, for {rows} questions", self.meaning, width, height=0.8 + 0.27 * rows)
        axes = figure.subplots()
        full = max(1.0, float(np.abs(shares).max()))
        for q, row in enumerate(shares):
            for n, share in enumerate(row):
                end = LIGHT.raises if share > 0 else LIGHT.lowers
                fill = blend(LIGHT.background, end, min(1.0, abs(share) / full))
                axes.add_patch(_share_cell(n, q, fill))
                if columns <= MANY:
                    axes.text(n, q, f"{share:.0f}".replace("-", "−"), ha="center", va="center", fontsize=SMALL)
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
        axes.set_yticks(range(rows), [shorten(subject, 46) for subject in self.subjects])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        self._name_layers(axes)
        figure.supxlabel(f"share of the influence, %, by {axes.get_xlabel()}", fontsize=TEXT)
        axes.set_xlabel("")
        return figure

    def _name_layers(self, axes: Any) -> None:
        """Ticks by block where all layers are in one, else by name."""
        blocks = [layer.block for layer in self.layers]
        if any(block is None for block in blocks):
            axes.set_xticks(range(len(blocks)), [shorten(layer.name, 28) for layer in self.layers], rotation=90)
            axes.set_xlabel("layer")
        elif len(blocks) <= MANY:
            names = [f"{layer.kind}\nblock {layer.block}" for layer in self.layers]
            long = max(len(layer.kind) for layer in self.layers) * len(names) > 90
            axes.set_xticks(range(len(names)), names, rotation=90 if long else 0)
            axes.set_xlabel("layer, from the input to the output")
        else:
            first = {block: n for n, block in reversed(list(enumerate(blocks)))}
            axes.set_xticks(list(first.values()), list(map(str, first)), fontsize=SMALL)
            axes.set_xlabel("block of the model, from the input to the output")


def layers(answers: Sequence[Answer], k: int = 10) -> Layers:
    """Influence by layer of the k strongest proponents of each answer.

    Raises HeadwaterError where an answer has no proponent, the answers have different layers, or there are too many.
    """
    if not 1 <= len(answers) <= MOST_QUESTIONS:
        raise HeadwaterError(f"{len(answers)} questions: a picture of layers takes from 1 to {MOST_QUESTIONS}.")
    subjects = [shorten(one_line(answer.query.prompt + answer.query.completion), 90) for answer in answers]
    names: list[str] | None = None
    for subject, answer in zip(subjects, answers, strict=True):
        if not answer.proponents:
            raise HeadwaterError(f"Nothing raised “{subject}”, so there are no layers to draw.")
        found = list(answer.proponents[0].layers)
        if names is not None and found != names:
            raise HeadwaterError(f"The answer to “{subject}” has other layers than the answers before it.")
        names = found
    parts = [np.array([list(e.layers.values()) for e in answer.proponents[:k]], np.float64) for answer in answers]
    return Layers(subjects, [_placed(name) for name in names or []], parts)


def _placed(name: str) -> Layer:
    """A layer by its name: "transformer.h.3.mlp.c_fc" is c_fc of block 3."""
    found = re.search(r"(?:^|\.)(\d+)\.(.*)$", name)
    if found is None:
        return Layer(name, None, name)
    return Layer(name, int(found[1]), found[2].removeprefix("mlp."))


def _share_cell(column: float, row: float, fill: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=fill, edgecolor=LINE, linewidth=0.6)
