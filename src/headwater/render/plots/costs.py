"""How well methods predict retraining, against their cost."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.errors import HeadwaterError
from headwater.evaluate.board import Board
from headwater.render.plots.sheet import LIGHT, QUIET, SMALL, Picture, numbered, sheet

CHEAPEST = 1e-3
"""Lowest cost that is drawn, in trainings, or a tenth of it in CPU seconds; lower costs are drawn there."""
METRIC = "LDS"
WIDE, HIGH, LETTER, ASIDE = 500.0, 280.0, 4.6, 6.0
"""Approximate size of the axes, of a letter of a name, and the distance of names from marks, in points."""
WORDS = ("bm25", "overlap", "planted", "random")
"""Methods that read only the texts, without the model."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One method: its LDS with the 95 % interval, and its cost for all queries."""

    method: str
    value: float
    low: float
    high: float
    cpu_seconds: float


@dataclass(frozen=True)
class Costs(Picture):
    """Methods compared with retraining on halves of the corpus."""

    points: list[Point]
    unit: float | None
    """CPU seconds of one training of the model; None where it is not known, and costs are drawn in seconds."""
    ceiling: float | None
    """The LDS of a method that predicts the mean of many trainings; None where it is not known."""

    def spent(self, point: Point) -> float:
        """Cost in trainings, or in CPU seconds; at least the lowest cost that is drawn."""
        return max(point.cpu_seconds / self.unit, CHEAPEST) if self.unit else max(point.cpu_seconds, 10 * CHEAPEST)

    @property
    def meaning(self) -> str:
        best = max(self.points, key=lambda point: point.value)
        words = f"Higher: the method predicts better how models trained on other halves behave. Best: {_said(best)}"
        others = [point for point in self.points if point.method.partition(":")[0] not in WORDS]
        if others and best not in others:
            words += f"; best of the methods that use the model: {_said(max(others, key=lambda point: point.value))}"
        if self.ceiling is not None:
            words += f". Trainings differ by chance: the noise ceiling is about {self.ceiling:.2f}"
        return words + "."

    def _drawn(self) -> Any:
        figure = sheet("Accuracy against cost", self.meaning, 8.0, height=4.4)
        axes = figure.subplots()
        kinds = (
            (False, "o", LIGHT.raises_ink, "uses the model"),
            (True, "s", LIGHT.lowers_ink, "reads only the texts"),
        )
        for textual, marker, colour, label in kinds:
            points = [p for p in self.points if (p.method.partition(":")[0] in WORDS) is textual]
            if not points:
                continue
            bars = [[p.value - p.low for p in points], [p.high - p.value for p in points]]
            axes.errorbar(
                list(map(self.spent, points)),
                [p.value for p in points],
                yerr=bars,
                fmt=marker,
                ms=5.5,
                color=colour,
                elinewidth=0.9,
                capsize=2,
                label=label,
            )
        if self.ceiling is not None:
            axes.axhline(self.ceiling, color=QUIET, ls="--", lw=0.9, label="noise ceiling")
        axes.axhline(0, color=QUIET, lw=0.6)
        axes.set_xscale("log")
        axes.margins(x=0.09)
        self._name(axes)
        numbered(axes.xaxis)
        spent = "trainings of the model (CPU time)" if self.unit else "CPU seconds"
        axes.set(xlabel=f"cost for all queries, fitting included: {spent}", ylabel="LDS, with its 95% interval")
        axes.grid()
        axes.legend(loc="lower right", frameon=True, edgecolor=LIGHT.background)
        return figure

    def _name(self, axes: Any) -> None:
        """The methods' names to the right of their marks, moved down where another name is in the way."""
        left, right = (math.log(end) for end in axes.get_xlim())
        bottom, top = axes.get_ylim()
        taken: list[tuple[float, float, float]] = []
        for point in sorted(self.points, key=lambda point: -point.value):
            x = WIDE * (math.log(self.spent(point)) - left) / (right - left) + ASIDE
            wide, y = LETTER * len(point.method), HIGH * (point.value - bottom) / (top - bottom) + 3
            lowered = y
            for start, end, line in sorted(taken, key=lambda one: -one[2]):
                if start < x + wide and x < end and abs(line - lowered) < SMALL + 1:
                    lowered = line - SMALL - 1
            taken.append((x, x + wide, lowered))
            axes.annotate(
                point.method,
                (self.spent(point), point.value),
                (ASIDE, 3 + lowered - y),
                textcoords="offset points",
                fontsize=SMALL,
            )


def cost(points: Sequence[Point], unit: float | None = None, ceiling: float | None = None) -> Costs:
    """Methods by cost. Raises HeadwaterError where no method was measured."""
    if not points:
        raise HeadwaterError(
            "No LDS was measured, so there is nothing to draw. Measure it: headwater evaluate RUN --metric lds"
        )
    return Costs(list(points), unit, ceiling)


def costs_of(board: Board) -> Costs:
    """The methods of an evaluation. Raises HeadwaterError where no LDS was measured."""
    points: list[Point] = []
    for result in board.results:
        drawn = result.found[METRIC].value if METRIC in result.found else None
        if drawn is not None:
            interval = drawn.interval
            point = Point(
                method=result.method.name,
                value=interval.value,
                low=interval.low,
                high=interval.high,
                cpu_seconds=result.cpu_seconds,
            )
            points.append(point)
    return cost(points, board.unit, board.ceiling)


def read_costs(path: Path) -> Costs:
    """Read `results.parquet` of `headwater evaluate`, or that of the run at `path`.

    Raises HeadwaterError where there is none, or no LDS in it.
    """
    path = path / "evaluate" / "results.parquet" if path.is_dir() else path
    if not path.exists():
        raise HeadwaterError(f"There is no {path}. Measure methods first: headwater evaluate RUN")
    try:
        table = pq.read_table(path)
        rows: list[dict[str, Any]] = table.to_pylist()
        facts = json.loads((table.schema.metadata or {}).get(b"headwater", b"{}"))
        found = {row["method"]: row for row in rows if row["metric"] == METRIC and row["value"] is not None}
        points = [
            Point(method=name, value=row["value"], low=row["low"], high=row["high"], cpu_seconds=row["cpu_seconds"])
            for name, row in found.items()
        ]
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise HeadwaterError(f"{path} is not a result of headwater evaluate: {error}") from error
    return cost(points, facts.get("unit"), facts.get("ceiling"))


def _said(point: Point) -> str:
    return f"{point.method}, {point.value:.2f}"
