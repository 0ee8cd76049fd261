"""`headwater fit`: read the corpus, fit the curvature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from headwater.base.byte_sizes import in_bytes, size_of
from headwater.cli import app
from headwater.cli.engine import EngineOptions
from headwater.cli.examples import examples
from headwater.cli.flags import CorpusFlags, FitFlags, ModelFlags
from headwater.cli.grouped import with_groups
from headwater.cli.options import RunPath
from headwater.cli.progress import progress_report, say
from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from headwater.corpus.read import Skipped
    from headwater.runs.run import Run


@app.command(epilog=examples("headwater fit runs/stories --model roneneldan/TinyStories-1M --corpus stories.jsonl"))
@with_groups
def fit(
    run: RunPath,
    model: ModelFlags = ModelFlags(),
    corpus: CorpusFlags = CorpusFlags(),
    fits: FitFlags = FitFlags(),
    engine: EngineOptions = EngineOptions(),
) -> None:
    """Fit an influence function: curvature of MODEL over CORPUS, kept in RUN.

    Stop it at any time; the same command goes on where it stopped.
    """
    from headwater.base.files import read_metadata
    from headwater.curvature.store import curvature_files, layers_of

    options = fits.options()
    opened = _open(run, model, corpus)
    with engine.start() as opened.engine, progress_report() as opened.report:
        path = opened.write_curvature(options)
    tracked, size = layers_of(read_metadata(path)), sum(map(size_of, curvature_files(path)))
    parameters = sum(layer.parameters for layer in tracked)
    say(f"Fitted {fits.curvature} over {len(tracked)} layers, {parameters:,} parameters ({path}, {in_bytes(size)}).")
    say(f'Now ask: headwater ask {run} "Once upon a time" " there was a"')


def _open(run: Path, model: ModelFlags, corpus: CorpusFlags) -> Run:
    from headwater.runs.run import Run

    skipped: list[Skipped] = []
    if model.model is None and corpus.corpus is None and (run / "manifest.json").exists():
        opened = Run.open(run)
    elif model.model is None or corpus.corpus is None:
        raise HeadwaterError("A new run needs both --model and --corpus.")
    else:
        say(f"Reading {corpus.corpus} for {model.model} …")
        with progress_report() as report:
            opened = Run.create(
                run,
                model.model,
                corpus.corpus,
                options=corpus.options(),
                loading=model.loading(),
                skipped=skipped,
                report=report,
            )
    _say_corpus(opened, skipped)
    return opened


def _say_corpus(run: Run, skipped: list[Skipped]) -> None:
    entry = run.manifest.corpus
    counts = entry.counts
    say(f"{counts.examples:,} examples, {counts.tokens:,} tokens, from {counts.records:,} records.")
    if counts.long:
        fate = "only their beginnings are kept" if entry.long_texts == "truncate" else "they are split into windows"
        say(f"{counts.long:,} records are longer than {entry.max_tokens} tokens: {fate} (--long, --max-tokens).")
    if counts.too_short:
        say(f"{counts.too_short:,} records with nothing to learn in them were left out.")
    if skipped:
        say(f"Skipped {entry.skipped:,} bad examples:")
        for bad in skipped[:20]:
            say(f"  {bad.source}: {bad.reason}")
        if entry.skipped > 20:
            say(f"  … and {entry.skipped - 20:,} more")
