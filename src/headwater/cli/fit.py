"""`headwater fit`: read a corpus and fit a curvature over it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from headwater.base.byte_sizes import in_bytes, size_of
from headwater.cli import app
from headwater.cli.engine import EngineOptions
from headwater.cli.examples import examples
from headwater.cli.grouped import with_groups
from headwater.cli.options import CorpusOption, ModelOption, RunPath
from headwater.cli.progress import progress_report, say
from headwater.corpus.options import CorpusOptions
from headwater.curvature.options import FitOptions
from headwater.errors import HeadwaterError
from headwater.lm.options import Loading

if TYPE_CHECKING:
    from headwater.corpus.read import Skipped
    from headwater.runs.run import Run
    from headwater.sweep.execution import Execution


@app.command(epilog=examples("headwater fit runs/stories --model roneneldan/TinyStories-1M --corpus stories.jsonl"))
@with_groups
def fit(
    run: RunPath,
    model: ModelOption = None,
    loading: Loading = Loading(),
    corpus: CorpusOption = None,
    reading: CorpusOptions = CorpusOptions(),
    options: FitOptions = FitOptions(),
    engine: EngineOptions = EngineOptions(),
) -> None:
    """Fit an influence function: curvature of MODEL over CORPUS, kept in RUN.

    Stop it at any time; the same command resumes. For an existing run, --model alone says where its model is now.
    """
    from headwater.base.files import read_metadata
    from headwater.curvature.registry import kind_of
    from headwater.curvature.store import curvature_files, layers_of
    from headwater.lm.coverage import coverage_in
    from headwater.render.familiarity import usual, warning
    from headwater.runs.create import keep_model
    from headwater.runs.info import read_familiarity
    from headwater.runs.run import Run

    kind_of(options.curvature)  # raises before the corpus is read, which can take long
    exists = corpus is None and (run / "manifest.json").exists()
    if not exists and (model is None or corpus is None):
        raise HeadwaterError("A new run needs both --model and --corpus.")
    with progress_report() as report, engine.start(report) as execution:
        if model is None or corpus is None:
            moved = None if model is None else keep_model(run, model, loading)
            opened = Run.open(run, moved, execution=execution)
        else:
            opened = _create(run, model, corpus, loading=loading, reading=reading, execution=execution)
        path = opened.write_curvature(options)
    metadata = read_metadata(path)
    tracked, coverage, size = layers_of(metadata), coverage_in(metadata), sum(map(size_of, curvature_files(path)))
    parameters = sum(layer.parameters for layer in tracked)
    say(f"Fitted {options.curvature} over {len(tracked)} layers, {parameters:,} parameters ({path}, {in_bytes(size)}).")
    if found := read_familiarity(opened.paths):
        say(usual(found))
        if problem := warning(found):
            say(f"Warning: {problem}")
    if coverage is not None:
        say(f"It tracks {coverage.describe()}.")
    say(f'Now ask: headwater ask {run} "Once upon a time" " there was a"')


def _create(
    run: Path, model: str, corpus: str, *, loading: Loading, reading: CorpusOptions, execution: Execution
) -> Run:
    from headwater.runs.run import Run

    skipped: list[Skipped] = []
    say(f"Reading {corpus} for {model} …")
    made = Run.create(run, model, corpus, options=reading, loading=loading, skipped=skipped, execution=execution)
    _say_corpus(made, skipped)
    return made


def _say_corpus(run: Run, skipped: list[Skipped]) -> None:
    entry = run.manifest.corpus
    counts = entry.counts
    say(f"{counts.examples:,} examples, {counts.tokens:,} tokens, from {counts.records:,} records.")
    if counts.long:
        cut = "only their beginnings are kept" if entry.long_texts == "truncate" else "they are split into windows"
        say(f"{counts.long:,} records are longer than {entry.max_tokens} tokens: {cut} (--long, --max-tokens).")
    if counts.too_short:
        say(f"{counts.too_short:,} records were skipped: they have no token to learn.")
    if skipped:
        say(f"Skipped {entry.skipped:,} bad examples:")
        for bad in skipped[:20]:
            say(f"  {bad.source}: {bad.reason}")
        if entry.skipped > 20:
            say(f"  … and {entry.skipped - 20:,} more")
