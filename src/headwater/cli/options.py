"""Arguments and options that several commands share and that only the command line has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headwater.cli.complete import complete_run
from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from headwater.corpus.chat_formats import Conversation

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Directory of the run.", autocompletion=complete_run)]
PromptArgument = Annotated[str, typer.Argument(help="Text that the model was given.")]
MaybePrompt = Annotated[str | None, typer.Argument(help="Text that the model was given.", show_default=False)]
MessagesOption = Annotated[
    Path | None,
    typer.Option(
        help="Conversation instead of PROMPT: a JSON list of messages, or an object with `messages`. If the assistant "
        "says the last one, that is the completion."
    ),
]
RawOption = Annotated[
    bool,
    typer.Option(
        "--raw", help="Take PROMPT as it is. Default: as a user's message, if the corpus holds conversations."
    ),
]
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


def asked_with(
    prompt: str | None, completion: str | None, messages: Path | None
) -> tuple[str | Conversation, str | None]:
    """What the model was given, and the completion. With a file of messages, the only text is the completion.

    Raises HeadwaterError if there is no prompt, or there are two.
    """
    if messages is None:
        if prompt is None:
            raise HeadwaterError("Give a PROMPT, or a conversation: --messages FILE.")
        return prompt, completion
    if completion is not None:
        raise HeadwaterError(f"--messages {messages} takes the place of PROMPT: give only the completion beside it.")
    from headwater.attribution.query_file import read_conversation

    return read_conversation(messages), prompt
