"""`headwater push`: upload a run to the Hugging Face hub."""

from __future__ import annotations

from typing import Annotated

import typer

from headwater.cli import app
from headwater.cli.examples import examples
from headwater.cli.options import RunPath
from headwater.cli.progress import say


@app.command(epilog=examples("headwater push runs/stories you/stories-influence"))
def push(
    run: RunPath,
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="Dataset repository on the Hugging Face hub.")
    ],
    public: Annotated[bool, typer.Option(help="Make the repository public. Default: private.")] = False,
) -> None:
    """Upload a run to the Hugging Face hub, with a card that says what it is. Needs HF_TOKEN.

    The texts of the corpus go with it, unless they are streamed, and the model does not. Open it elsewhere with
    Run.from_hub(OWNER/NAME, RUN), or fetch it with headwater cloud fetch.
    """
    from headwater.runs.card import card_of, manifest_of
    from headwater.runs.hub import push_run

    texts = {"README.md": card_of(run, repository), "manifest.json": manifest_of(run)}
    say(f"Uploading {run} to {repository} …")
    say(f"Uploaded to {push_run(run, repository, texts, public=public)}")
