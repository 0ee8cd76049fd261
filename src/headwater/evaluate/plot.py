"""Accuracy against cost, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from headwater.evaluate.leaderboard import Result
from headwater.files import replacing

CHEAPEST = 1e-3
"""Trainings; what costs less is drawn there."""


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def plot(results: Sequence[Result], unit: float, ceiling: float | None, path: Path) -> None:
    """LDS with its interval over the cost in trainings, as an SVG; methods that need no gradients are squares."""
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.subplots()
    words = {"bm25", "overlap", "planted", "random"}
    for result in results:
        drawn = result.found["LDS"].value
        if drawn is None:
            continue
        interval, cost = drawn.interval, max(result.cpu_seconds / unit, CHEAPEST)
        textual = result.method.name in words
        bars = [[interval.value - interval.low], [interval.high - interval.value]]
        axes.errorbar(
            [cost], [interval.value], yerr=bars, fmt="s" if textual else "o", capsize=2, linewidth=0.8,
            color="#EF8A62" if textual else "#2166AC",
        )  # fmt: skip
        axes.annotate(result.method.name, (cost, interval.value), xytext=(5, 3), textcoords="offset points", fontsize=7)
    if ceiling is not None:
        axes.axhline(ceiling, color="#888888", linestyle="--", linewidth=0.8)
        axes.annotate("noise ceiling", (CHEAPEST, ceiling), xytext=(0, 3), textcoords="offset points", fontsize=7)
    axes.axhline(0, color="#888888", linewidth=0.5)
    axes.set_xscale("log")
    axes.set_xlabel("cost, in trainings of the model (CPU time)")
    axes.set_ylabel("LDS, 95 % interval")
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as part:
        figure.savefig(part, format="svg", metadata={"Date": None})
