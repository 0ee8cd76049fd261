"""`headwater serve`: serve the web page and the HTTP API of a run."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

from headwater.cli import app
from headwater.cli.examples import examples
from headwater.cli.grouped import with_groups
from headwater.cli.options import RunPath
from headwater.cli.progress import say
from headwater.errors import HeadwaterError
from headwater.serve.settings import Settings, token_from_environment


@app.command(
    epilog=examples(
        "headwater serve runs/stories", "HEADWATER_TOKEN=secret headwater serve runs/stories --host 0.0.0.0"
    )
)
@with_groups
def serve(run: RunPath, settings: Settings = Settings()) -> None:
    """Serve a web page to ask RUN questions on, and the API behind it, until Ctrl-C.

    If the environment variable HEADWATER_TOKEN is set, callers of the API must send it.
    """
    require_extra()
    from headwater.serve.server import serve as serve_run

    serve_run(run, replace(settings, token=token_from_environment()), say)


def require_extra() -> None:
    """Raises HeadwaterError if the packages that serving needs are not installed."""
    if not all(find_spec(name) for name in ("fastapi", "uvicorn", "prometheus_client")):
        raise HeadwaterError("Serving needs more packages. Install them: pip install 'headwater[serve]'")
