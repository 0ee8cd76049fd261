"""`headwater info`: show the contents of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headwater.base.byte_sizes import in_bytes
from headwater.cli import app
from headwater.cli.examples import examples
from headwater.cli.options import RunPath

if TYPE_CHECKING:
    from headwater.runs.info import CorpusInfo, CurvatureInfo, IndexInfo, RunInfo


@app.command(epilog=examples("headwater info runs/stories"))
def info(
    run: RunPath,
    json: Annotated[bool, typer.Option("--json", help="Print the description as JSON.")] = False,
) -> None:
    """Show what is fitted and indexed in a run, with sizes, settings and fingerprints. Loads no model."""
    from headwater.runs.info import describe_run

    found = describe_run(run)
    if json:
        typer.echo(found.to_json())
    else:
        Console().print(_layout(found))


def _layout(found: RunInfo) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    _section(grid, "run", [f"{found.path}, {in_bytes(found.bytes)}, made by Headwater {found.version}"])
    _section(
        grid,
        "model",
        [found.model, f"fingerprint {found.model_fingerprint}, tokenizer {found.tokenizer_fingerprint}"],
    )
    _section(grid, "corpus", _corpus(found.corpus))
    _section(grid, "curvature", _curvature(found))
    _section(grid, "index", _index(found))
    cached = "cached, for relative ranking" if found.self_influence else "not cached; computed when needed"
    _section(grid, "self-influence", [cached])
    if found.advice:
        _section(grid, "next", list(found.advice))
    return grid


def _section(grid: Table, name: str, lines: list[str]) -> None:
    for k, line in enumerate(lines):
        grid.add_row("" if k else name, Text(line))


def _corpus(corpus: CorpusInfo) -> list[str]:
    lines = [
        corpus.source,
        f"{corpus.examples:,} examples, {corpus.tokens:,} tokens, {in_bytes(corpus.bytes)}; "
        f"fingerprint {corpus.fingerprint}",
    ]
    if corpus.streamed:
        lines.append(f"texts are streamed from {corpus.streamed:,} files at {corpus.root}")
    lines += corpus.notes
    if corpus.added or corpus.removed:
        files = corpus.segments - (corpus.streamed or 1)
        lines.append(f"{corpus.added:,} examples added in {files} files, {corpus.removed:,} removed")
    left_out = [
        (corpus.long, f"longer than {corpus.max_tokens} tokens ({corpus.long_texts})"),
        (corpus.too_short, "too short"),
        (corpus.skipped, "bad and skipped"),
    ]
    counts = [f"{count:,} {what}" for count, what in left_out if count]
    return [*lines, f"of {corpus.records:,} records " + ", ".join(counts)] if counts else lines


def _curvature(found: RunInfo) -> list[str]:
    from headwater.render.familiarity import usual, warning

    made: CurvatureInfo | None = found.curvature
    unfinished = f"a fit was interrupted; resume it: headwater fit {found.path}"
    if made is None:
        return [unfinished if found.fit_interrupted else f"not fitted; fit it: headwater fit {found.path}"]
    lines = [
        f"{made.kind} over {len(made.layers)} layers, {made.parameters:,} parameters, {in_bytes(made.bytes)}",
        f"fitted on {made.fit_examples:,} examples, {made.labels} labels, seed {made.seed}; damping {made.damping}",
        _shortened(made.layers),
        "share of the model not recorded" if made.coverage is None else f"tracks {made.coverage.describe()}",
    ]
    if made.familiarity is not None:
        lines += [text for text in (usual(made.familiarity), warning(made.familiarity)) if text]
    if not made.current:
        lines.append(f"fitted on another model or corpus; delete it and fit again: headwater fit {found.path}")
    return [*lines, unfinished] if found.fit_interrupted else lines


def _shortened(names: tuple[str, ...]) -> str:
    return ", ".join(names if len(names) <= 6 else (*names[:3], "…", *names[-2:]))


def _index(found: RunInfo) -> list[str]:
    made = found.index
    if made is None:
        return [f"none; build it: headwater index {found.path}"]
    size = made.url if made.bytes is None else in_bytes(made.bytes)
    numbers = ", ".join(f"{name} {number}" for name, number in made.sketch.items())
    return [
        f"{made.examples:,} examples, {made.bytes_each:,} bytes of sketch per example, {size}, version {made.version}",
        f"sketch {made.kind}: {numbers}",
        f"columns: {', '.join(made.columns)}",
        _state(made, found.path),
    ]


def _state(made: IndexInfo, path: str) -> str:
    fix = f"headwater index {path}"
    if made.stale:
        return f"built for another {made.stale}; build it again: {fix}"
    counts = [(made.missing, "examples are missing"), (made.surplus, "rows are of removed examples")]
    wrong = [f"{count:,} {what}" for count, what in counts if count]
    if not wrong and not made.words:
        wrong = ["the full-text index is missing"]
    return f"{', '.join(wrong)}; update it: {fix}" if wrong else "up to date"
