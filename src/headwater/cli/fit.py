"""`headwater fit`: read the corpus, fit the curvature."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headwater.choices import DeviceMap, Dtype, Fisher, LongTexts
from headwater.cli import app
from headwater.cli.engine import EngineOptions, with_engine
from headwater.cli.examples import examples
from headwater.cli.options import (
    BlockWidthOption,
    CurvatureOption,
    DampingOption,
    LayersOption,
    MemoryOption,
    RunPath,
    SeedOption,
)
from headwater.cli.progress import progress_report, say
from headwater.errors import HeadwaterError
from headwater.sizes import in_bytes, parse_bytes, size_of

if TYPE_CHECKING:
    from headwater.corpus.read import Skipped
    from headwater.run import Run


@app.command(epilog=examples("headwater fit runs/stories --model roneneldan/TinyStories-1M --corpus stories.jsonl"))
@with_engine
def fit(
    run: RunPath,
    model: Annotated[str | None, typer.Option(help="Path or hub name of a causal language model.")] = None,
    corpus: Annotated[
        str | None,
        typer.Option(
            help="Training text: JSONL, Parquet, CSV, plain text (or .gz), a directory of these, a dataset's name, "
            "or a URL, which is streamed."
        ),
    ] = None,
    curvature: CurvatureOption = "ekfac",
    layers: LayersOption = None,
    fit_examples: Annotated[
        int | None,
        typer.Option(help="Fit the curvature on this many examples, chosen by the seed. Default: all."),
    ] = None,
    fisher: Annotated[
        Fisher, typer.Option(help="Labels of the Fisher: sampled from the model, or the text's own (empirical).")
    ] = "sampled",
    damping: DampingOption = None,
    seed: SeedOption = 0,
    max_tokens: Annotated[
        int | None, typer.Option(help="Longest example in tokens. Default: what the model can read.")
    ] = None,
    long: Annotated[
        LongTexts, typer.Option(help="Longer texts keep only their beginning, or are split into windows.")
    ] = "truncate",
    text_field: Annotated[str, typer.Option(help="Field or column that holds the text.")] = "text",
    id_field: Annotated[
        str | None,
        typer.Option(help="Field that holds the id. Default: 'id' where there is one, else file:line."),
    ] = None,
    prompt_field: Annotated[
        str | None,
        typer.Option(help="Field of what the model was given before the text; only the text is learned."),
    ] = None,
    messages_field: Annotated[
        str | None,
        typer.Option(help="Field of a conversation; only what the assistant says is learned."),
    ] = None,
    separator: Annotated[
        str | None, typer.Option(help="What parts the documents packed into one record, such as '<|endoftext|>'.")
    ] = None,
    offsets_field: Annotated[
        str | None, typer.Option(help="Field that lists where in the text each packed document begins.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of a dataset read by name.")] = "train",
    limit: Annotated[int | None, typer.Option(help="Read at most this many examples.")] = None,
    skip_bad: Annotated[bool, typer.Option(help="Leave bad examples out, with a count and a list.")] = False,
    memory: MemoryOption = None,
    block_width: BlockWidthOption = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Copy no texts into RUN, but read Parquet and JSONL from where they are. Takes globs.",
        ),
    ] = False,
    dtype: Annotated[
        Dtype,
        typer.Option(help="What the model runs in, int8 and nf4 its linears alone; sums are in float32 all the same."),
    ] = "fp32",
    gradient_checkpointing: Annotated[
        bool, typer.Option(help="Run each block again on the way back: less memory, the same results, more time.")
    ] = False,
    device_map: Annotated[
        DeviceMap | None, typer.Option(help="Spread the model over all devices there are. Default: one device.")
    ] = None,
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the model.")] = False,
    engine: EngineOptions = EngineOptions(),
) -> None:
    """Fit an influence function: curvature of MODEL over CORPUS, kept in RUN.

    Stop it at any time; the same command goes on where it stopped.
    """
    from headwater.corpus.read import ReadOptions
    from headwater.curvature.kind import kind_of
    from headwater.curvature.store import curvature_files, layers_of
    from headwater.files import read_metadata
    from headwater.lm.load import Loading
    from headwater.run import CorpusOptions, FitOptions, Run

    kind_of(curvature)  # before the corpus is read, which may take long
    read = ReadOptions(
        text_field, id_field, limit, skip_bad, split, prompt_field, messages_field, separator, offsets_field, stream
    )
    options = CorpusOptions(read, max_tokens, long)
    globs, most = tuple(layers) if layers else None, None if memory is None else parse_bytes(memory)
    fits = FitOptions(curvature, globs, fit_examples, fisher, seed, damping, block_width, most)
    skipped: list[Skipped] = []
    loading = Loading(trust_remote_code, dtype, gradient_checkpointing, device_map)
    create = partial(Run.create, options=options, loading=loading, skipped=skipped)
    opened = _open(run, model, corpus, create)
    _say_corpus(opened, skipped)
    with engine.start() as opened.engine, progress_report() as opened.report:
        path = opened.write_curvature(fits)
    tracked, size = layers_of(read_metadata(path)), sum(map(size_of, curvature_files(path)))
    parameters = sum(layer.parameters for layer in tracked)
    say(f"Fitted {curvature} over {len(tracked)} layers, {parameters:,} parameters ({path}, {in_bytes(size)}).")
    say(f'Now ask: headwater ask {run} "Once upon a time" " there was a"')


def _open(run: Path, model: str | None, corpus: str | None, create: Callable[..., Run]) -> Run:
    from headwater.run import Run

    if model is None and corpus is None and (run / "manifest.json").exists():
        return Run.open(run)
    if model is None or corpus is None:
        raise HeadwaterError("A new run needs both --model and --corpus.")
    say(f"Reading {corpus} for {model} …")
    with progress_report() as report:
        return create(run, model, corpus, report=report)


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
