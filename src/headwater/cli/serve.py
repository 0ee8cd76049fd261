"""`headwater serve`: the page and the API over a run."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from headwater.cli import app
from headwater.cli.examples import examples
from headwater.cli.options import DEFAULT_PORT, PortOption, RunPath
from headwater.cli.progress import say
from headwater.errors import HeadwaterError


@app.command(
    epilog=examples(
        "headwater serve runs/stories", "HEADWATER_TOKEN=secret headwater serve runs/stories --host 0.0.0.0"
    )
)
def serve(
    run: RunPath,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 is all of this machine's.")] = "127.0.0.1",
    port: PortOption = DEFAULT_PORT,
    queue: Annotated[int, typer.Option(help="How many questions may wait for their turn.", min=1)] = 32,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A further name that the server goes by; may be repeated.")
    ] = None,
    frame_ancestors: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE",
            help="Who may show the page in a frame, such as https://example.org; may be repeated. Default: 'self'.",
        ),
    ] = None,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
) -> None:
    """Serve a page on which to ask RUN questions, and the API behind it, until Ctrl-C.

    Where the environment variable HEADWATER_TOKEN is set, callers of the API must bring it.
    """
    require_extra()
    from headwater.serve.server import serve as serve_run
    from headwater.serve.settings import Settings, token_from_environment

    ancestors = tuple(frame_ancestors or ("'self'",))
    settings = Settings(
        host=host,
        port=port,
        queue=queue,
        token=token_from_environment(),
        allow_hosts=tuple(allow_host or ()),
        frame_ancestors=ancestors,
        open=open_,
    )
    serve_run(run, settings, say)


def require_extra() -> None:
    """Raises HeadwaterError where the packages that serving needs are not installed."""
    if not all(find_spec(name) for name in ("fastapi", "uvicorn", "prometheus_client")):
        raise HeadwaterError("Serving needs a few more packages. Install them: pip install 'headwater[serve]'")
