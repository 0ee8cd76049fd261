"""An evaluation's leaderboard: title, table and notes, for a terminal and as Markdown, and its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headwater.base.files import write_text
from headwater.evaluate.board import Board, write_results
from headwater.evaluate.leaderboard import MethodResult
from headwater.evaluate.metrics import Bootstrapped
from headwater.render.plots.costs import METRIC, costs_of
from headwater.render.plots.sheet import can_draw

NONE = "–"
"""A cell without a number."""


def title(board: Board) -> str:
    """What the methods were measured on."""
    said = f"{len(board.context.queries)} queries, {len(board.context.run.corpus):,} training examples"
    if board.truth is None:
        return said
    seeds, subsets, _ = board.truth.by_seed.shape
    return f"{said}, {subsets} halves × {seeds} {'trainings' if seeds > 1 else 'training'}"


def notes(board: Board) -> list[str]:
    """What a reader of the table has to know."""
    found: list[str] = []
    if board.unit is not None:
        found.append(
            f"One training on the whole corpus takes {board.unit:.0f} s of CPU time. The cost of a method is its CPU "
            "time for all queries, fitting included, in units of that training."
        )
    if board.ceiling is not None:
        found.append(
            "Noise ceiling: trainings differ by chance. A method that predicts their mean exactly would have an LDS "
            f"of about {board.ceiling:.2f} here."
        )
    if _has_lds(board) and not can_draw():
        found.append('For a plot of accuracy against cost: pip install "headwater[plots]"')
    return found


def table(board: Board) -> list[list[str]]:
    """A header and one row per method.

    The LDS of the others is compared with that of the board's reference, where it was measured.
    """
    names = _columns(board.results)
    against = board.reference if METRIC in names else None
    reference = None if against is None else _value(against, METRIC)
    spent = "CPU s" if board.unit is None else "cost, trainings"
    compared = [] if against is None else [f"{METRIC} minus {against.method.name}'s"]
    rows = [["method", *names, *compared, spent]]
    for result in board.results:
        cells = [_cell(name, _value(result, name)) for name in names]
        if reference is not None:
            own = _value(result, METRIC)
            cells.append(NONE if result is against or own is None else _bounded(own.less(reference), sign=True))
        cost = f"{result.cpu_seconds:.1f}" if board.unit is None else f"{result.cpu_seconds / board.unit:.2f}"
        rows.append([result.method.name, *cells, cost])
    return rows


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The table as Markdown."""
    lines = [rows[0], ["---", *["---:"] * (len(rows[0]) - 1)], *rows[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_leaderboard(board: Board) -> list[Path]:
    """`results.parquet`, `results.md`, and `results.svg` where there are an LDS and matplotlib; returns their paths."""
    work = board.context.work
    written = [write_results(board, work / "results.parquet")]
    added = "".join(f"\n{note}\n" for note in notes(board))
    written.append(write_text(work / "results.md", f"{title(board)}\n\n{markdown(table(board))}{added}"))
    if _has_lds(board) and can_draw():
        written.append(costs_of(board).save(work / "results.svg"))
    return written


def _has_lds(board: Board) -> bool:
    return board.truth is not None and "lds" in board.plan.metrics


def _columns(results: Sequence[MethodResult]) -> list[str]:
    """The columns that have a value for some method, in their order."""
    names = dict.fromkeys(name for result in results for name in result.found)
    return [name for name in names if any(_value(result, name) is not None for result in results)]


def _cell(name: str, drawn: Bootstrapped | None) -> str:
    """A number with its bounds; without them for a recall, which is a share of few queries."""
    if drawn is None:
        return NONE
    return f"{drawn.value:.2f}" if name.startswith("recall") else _bounded(drawn)


def _bounded(drawn: Bootstrapped, sign: bool = False) -> str:
    """A number with its bounds."""
    form = "+.3f" if sign else ".3f"
    interval = drawn.interval
    return f"{interval.value:{form}} [{interval.low:{form}}, {interval.high:{form}}]".replace("-", "−")


def _value(result: MethodResult, name: str) -> Bootstrapped | None:
    return result.found[name].value if name in result.found else None
