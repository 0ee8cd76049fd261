"""Pictures that only docs/how.md uses: over many questions, and of the effect of settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.render.plots.by_rank import fewest_for_half
from headwater.render.plots.sheet import LIGHT, LINE, QUIET, SMALL, Picture, numbered, sheet

TENTHS = 10
FLAT = 1e-6
"""Eigenvalues below this share of the mean count as zero."""


@dataclass(frozen=True)
class Tails(Picture):
    """Concentration of the positive influence for many questions."""

    scores: NDArray[np.float64]
    """[N, Q]"""
    laws: int
    """Number of questions for which a power law is not ruled out."""

    @property
    def meaning(self) -> str:
        total = len(self.scores)
        falling = [np.sort(column[column > 0])[::-1] for column in self.scores.T]
        halves = np.array([fewest_for_half(values) for values in falling])
        tops = np.array([values[: total // 100].sum() / values.sum() for values in falling])
        return (
            f"Half of the positive influence on a question comes from {halves.min()} to {halves.max()} of "
            f"{total:,} examples (median {np.median(halves):.0f}), and the strongest 1% hold {tops.min():.0%} to "
            f"{tops.max():.0%} of it (median {np.median(tops):.0%}). For {self.laws} of the "
            f"{self.scores.shape[1]} a power law is not ruled out."
        )

    def _drawn(self) -> Any:
        total, questions = self.scores.shape
        figure = sheet(f"How much the strongest examples hold, for {questions} questions", self.meaning, height=3.6)
        axes = figure.subplots()
        places = np.unique(np.geomspace(1, total, 50).round().astype(int))
        rows: list[NDArray[np.float64]] = []
        for column in self.scores.T:
            raised = np.sort(np.maximum(column, 0))[::-1]
            rows.append(100 * np.cumsum(raised)[places - 1] / raised.sum())
        for row in rows:
            axes.plot(100 * places / total, row, color=LIGHT.raises, lw=0.5, alpha=0.5)
        axes.plot(100 * places / total, np.median(rows, axis=0), color=LIGHT.raises_ink, lw=2.2, label="median")
        axes.axhline(50, color=QUIET, lw=0.9, ls=":")
        axes.axvline(1, color=QUIET, lw=0.9, ls=":")
        axes.set(
            xscale="log",
            xlim=(100 / total, 100),
            ylim=(0, 101),
            xlabel="share of the examples, the strongest first, %",
        )
        axes.set_ylabel("share of the positive influence, %")
        numbered(axes.xaxis)
        axes.grid()
        axes.legend(loc="upper left")
        return figure


@dataclass(frozen=True)
class Certainty(Picture):
    """Effect of a question's strongest example, against how sure the model is of the completion."""

    losses: NDArray[np.float64]
    """[Q] nats"""
    strongest: NDArray[np.float64]
    """[Q] largest predicted change of log p in nats from removing one example."""
    times: NDArray[np.int64]
    """[Q] number of stories that state the fact."""

    @property
    def meaning(self) -> str:
        sure, unsure = self.losses < 0.1, self.losses > 1
        return (
            f"For the {sure.sum()} completions with a probability above 90%, no example changes log p by more than "
            f"{self.strongest[sure].max():.2g} nats (median {np.median(self.strongest[sure]):.2g}). For the "
            f"{unsure.sum()} below 37%, the median is {np.median(self.strongest[unsure]):.1f}. A completion that the "
            "model is sure of has almost no gradient."
        )

    def _drawn(self) -> Any:
        figure = sheet(f"Certainty has no gradient: {len(self.losses)} questions", self.meaning, height=3.6)
        axes = figure.subplots()
        marks = zip(sorted(set(self.times.tolist())), ("o", "D", "s"), (None, QUIET, None), strict=False)
        fills = {1: LIGHT.lowers_ink, 3: QUIET, 10: LIGHT.raises_ink}
        for times, marker, _ in marks:
            of = self.times == times
            axes.plot(
                self.losses[of],
                self.strongest[of],
                marker,
                ms=4.5,
                mfc="none",
                mec=fills.get(times, QUIET),
                label=f"stated {times}×",
            )
        axes.set(xscale="log", yscale="log", xlabel="surprisal of the completion, nats")
        axes.set_ylabel("largest predicted change of log p\nby one example, nats")
        numbered(axes.xaxis)
        numbered(axes.yaxis)
        axes.grid()
        axes.legend(loc="lower right", title="the fact asked about is")
        return figure


@dataclass(frozen=True, kw_only=True)
class Loud(Picture):
    """Share of the top ten places of many questions, by gradient size of the examples."""

    shares: dict[str, NDArray[np.float64]]
    """Ranking -> [10] share of all places that each tenth of the examples takes, smallest √I(z, z) first."""
    questions: int
    spread: float
    """Largest √I(z, z) divided by the median."""
    stating: tuple[float, float]
    """Share of examples that state a fact: in the loudest tenth, and in all."""
    most: int
    """Maximum number of questions for which one example is among the top ten by influence."""

    @property
    def meaning(self) -> str:
        by, relative = self.shares["influence"], self.shares["relative"]
        loudest, all_of_them = self.stating
        return (
            f"Ranked by influence, the loudest tenth of the examples takes {by[-1]:.0%} of the top ten places of "
            f"{self.questions} questions, and the quietest tenth {by[0]:.0%}; ranked by relative influence "
            f"{relative[-1]:.0%} and {relative[0]:.0%}. Not all of that is undue: {loudest:.0%} of the loudest tenth "
            f"state some fact, and {all_of_them:.0%} of all examples. The loudest is {self.spread:.1f} times as loud "
            f"as the median; no example comes up for more than {self.most} questions."
        )

    def _drawn(self) -> Any:
        figure = sheet("Loud examples come up more often", self.meaning, height=3.2)
        axes = figure.subplots()
        looks = {"influence": (-0.2, LIGHT.lowers_ink), "relative": (0.2, LIGHT.raises)}
        for name, (aside, fill) in looks.items():
            axes.bar(np.arange(TENTHS) + aside, 100 * self.shares[name], 0.38, color=fill, label=f"--rank-by {name}")
        axes.axhline(100 / TENTHS, color=QUIET, lw=0.9, ls="--")
        axes.annotate("by chance", (0, 100 / TENTHS), (-22, 3), textcoords="offset points", color=QUIET, fontsize=SMALL)
        names = ["quietest", *("" for _ in range(TENTHS - 2)), "loudest"]
        axes.set_xticks(range(TENTHS), names)
        axes.tick_params(axis="x", length=0)
        axes.set(xlabel="tenths of the examples by √I(z, z)", ylabel="of all top ten places, %")
        axes.grid(axis="y")
        axes.legend(loc="upper left")
        return figure


def loud(scores: NDArray[np.float64], norms: NDArray[np.float64], stating: NDArray[np.bool_]) -> Loud:
    """The picture from scores [N, Q], √I(z, z) [N], and whether an example states a fact [N]."""
    tenth = (norms.argsort().argsort() * TENTHS) // len(norms)

    def shares(strengths: NDArray[np.float64]) -> NDArray[np.float64]:
        top = np.argsort(-strengths, axis=0)[:10].ravel()
        return np.bincount(tenth[top], minlength=TENTHS) / len(top)

    ways = {"influence": shares(scores), "relative": shares(scores / norms[:, None])}
    stating_shares = float(stating[tenth == TENTHS - 1].mean()), float(stating.mean())
    most = int(np.bincount(np.argsort(-scores, axis=0)[:10].ravel()).max())
    return Loud(
        shares=ways,
        questions=scores.shape[1],
        spread=float(norms.max() / np.median(norms)),
        stating=stating_shares,
        most=most,
    )


@dataclass(frozen=True)
class Spectrum(Picture):
    """The eigenvalues Λ of each layer, and the default λ."""

    layers: dict[str, NDArray[np.float64]]
    """Layer -> eigenvalues divided by their mean, descending."""
    factor: float = 0.1

    @property
    def meaning(self) -> str:
        above = [float((values > self.factor).mean()) for values in self.layers.values()]
        flat = max(float((values < FLAT).mean()) for values in self.layers.values())
        return (
            f"In {min(above):.0%} to {max(above):.0%} of a layer's directions, the curvature is above the default λ = "
            f"{self.factor:g} × mean(Λ), and the inverse divides by about the curvature. Along about {flat:.0%}, the "
            "curvature is zero: there only λ keeps the inverse finite."
        )

    def _drawn(self) -> Any:
        figure = sheet("The eigenvalues of each layer, beside λ", self.meaning, height=3.4)
        axes = figure.subplots()
        looks = ((LIGHT.raises_ink, "-"), (LIGHT.raises_ink, "--"), (LIGHT.lowers_ink, "-"), (LIGHT.lowers_ink, "--"))
        for n, (name, values) in enumerate(self.layers.items()):
            colour, line = looks[n % len(looks)]
            ranks = np.unique(np.linspace(1, len(values), 240).round().astype(int))
            axes.plot(100 * ranks / len(values), values[ranks - 1], line, color=colour, lw=1.5, label=name)
        axes.axhline(self.factor, color=LIGHT.ink, lw=0.9, ls=":")
        axes.annotate("λ, the default", (0, self.factor), (4, -11), textcoords="offset points", fontsize=SMALL)
        axes.set(
            yscale="log", xlim=(0, 100), ylim=(1e-3, None), xlabel="directions of the layer, the steepest first, %"
        )
        axes.set_ylabel("Λ over the layer's mean")
        numbered(axes.yaxis)
        axes.grid()
        axes.legend(loc="upper right")
        return figure


@dataclass(frozen=True, kw_only=True)
class DampingEffect(Picture):
    """Effect of damping on the top ten of many questions."""

    factors: Sequence[float]
    """λ / mean(Λ)."""
    found: NDArray[np.float64]
    """[factors] share of the top ten that state the fact."""
    same: NDArray[np.float64]
    """[factors] share of the top ten that are also in the default's top ten."""
    gradient: float
    """Share for the dot product of gradients, the limit λ → ∞."""
    questions: int

    @property
    def meaning(self) -> str:
        best = int(self.found.argmax())
        at = dict(zip(self.factors, self.found, strict=True))
        return (
            f"{self.questions} facts stated by ten stories each: at the default 0.1 × mean(Λ), {at[0.1]:.0%} of the "
            f"top ten state the fact. The maximum is {self.found[best]:.0%} at {self.factors[best]:g}. With large λ, "
            f"it falls to {self.found[-1]:.0%}, close to the {self.gradient:.0%} of a dot product of gradients."
        )

    def _drawn(self) -> Any:
        figure = sheet("What damping does to the top ten", self.meaning, height=3.4)
        axes = figure.subplots()
        axes.plot(self.factors, 100 * self.found, "o-", color=LIGHT.raises_ink, lw=1.8, label="state the fact")
        axes.plot(self.factors, 100 * self.same, "s--", color=LIGHT.lowers_ink, lw=1.2, label="are the default's too")
        axes.axhline(100 * self.gradient, color=QUIET, lw=0.9, ls=":")
        axes.annotate(
            "state it, by a product of gradients",
            (self.factors[0], 100 * self.gradient),
            (0, 3),
            textcoords="offset points",
            fontsize=SMALL,
            color=QUIET,
        )
        axes.axvline(0.1, color=LINE, lw=6, zorder=0)
        axes.annotate("default", (0.1, 0), (0, 4), textcoords="offset points", ha="center", fontsize=SMALL, color=QUIET)
        axes.set(xscale="log", ylim=(0, 104), xlabel="λ over mean(Λ) of each layer", ylabel="of the top ten, %")
        numbered(axes.xaxis)
        axes.grid()
        axes.legend(loc="upper right", bbox_to_anchor=(1, 0.95))
        return figure
