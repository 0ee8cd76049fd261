"""Options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headwater.base.plugins import CURVATURES
from headwater.cli.complete import complete_name, complete_run, known
from headwater.serve.settings import DEFAULT_PORT as DEFAULT_PORT

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Directory of the run.", autocompletion=complete_run)]
CurvatureOption = Annotated[
    str,
    typer.Option(
        help="How the curvature is approximated: ekfac, kfac, diagonal, identity, exact, or what a plugin brings.",
        autocompletion=complete_name(CURVATURES),
        callback=known(CURVATURES),
    ),
]
PromptArgument = Annotated[str, typer.Argument(help="What the model was given.")]
SpanOption = Annotated[str | None, typer.Option(help="Explain only these words of the completion.")]
HtmlOption = Annotated[Path | None, typer.Option(help="Also write one self-contained page.")]
DampingOption = Annotated[
    str | None,
    typer.Option(
        help="Damping λ: an absolute value such as 1e-5, or a factor such as 0.1*mean (the default: 0.1 × each "
        "layer's mean eigenvalue).",
        show_default=False,
    ),
]
QueryRankOption = Annotated[
    int | None,
    typer.Option(
        help="Reduce the query's gradient to this rank in every layer (32 keeps nearly all): faster where layers are "
        "wide. Default: whole.",
        show_default=False,
    ),
]
LayersOption = Annotated[
    list[str] | None,
    typer.Option(help="Glob of layer names, or all-linear; may be repeated. Default: every MLP linear."),
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        help="Memory that a fit may take in all, such as 16GiB: layers that do not fit together are fitted a few at a "
        "time. Default: what is free.",
        show_default=False,
    ),
]
BlockWidthOption = Annotated[
    int | None,
    typer.Option(
        help="Take covariances wider than this for block-diagonal, with blocks of at most this width.",
        show_default=False,
        min=1,
    ),
]
DirectionsOption = Annotated[
    int | None,
    typer.Option(
        help="Sketch only so many of the strongest directions of every layer's inputs and outputs: far cheaper "
        "where layers are wide, and finds less. 0: all. Default: what the index has, or else all.",
        show_default=False,
        min=0,
    ),
]
FitExamplesOption = Annotated[
    int | None,
    typer.Option(help="Fit the curvature on this many examples, chosen by the seed. Default: all."),
]
TrustOption = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")]
TextFieldOption = Annotated[str, typer.Option(help="Field or column that holds the text.")]
PortOption = Annotated[int, typer.Option(help="Port to listen at; 0 takes any that is free.", min=0, max=65535)]
SeedOption = Annotated[int, typer.Option(help="Seed of everything random.")]
