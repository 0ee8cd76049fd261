"""Arguments and options that several commands share and that only the command line has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headwater.cli.complete import complete_run

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Directory of the run.", autocompletion=complete_run)]
PromptArgument = Annotated[str, typer.Argument(help="Text that the model was given.")]
SpanOption = Annotated[str | None, typer.Option(help="Words of the completion to explain. Default: all of it.")]
HtmlOption = Annotated[Path | None, typer.Option(help="Also write a self-contained HTML page to this file.")]
SeedOption = Annotated[int, typer.Option(help="Seed of everything random.")]
ModelOption = Annotated[
    str | None,
    typer.Option(help="Path or hub name of a causal language model.", rich_help_panel="Model"),
]
CorpusOption = Annotated[
    str | None,
    typer.Option(
        help="Training text: JSON, Parquet, CSV, plain text (also .gz, .zst, .bz2, .xz), a directory of these, - for "
        "standard input, a dataset's name, or a URL, which is streamed.",
        rich_help_panel="Corpus",
    ),
]
