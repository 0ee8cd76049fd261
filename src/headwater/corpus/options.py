"""Options of reading a corpus and cutting it into examples. Loads neither numpy nor pyarrow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from headwater.base.options import Option

LongTexts = Literal["truncate", "split"]
"""What happens to texts longer than the maximum."""
NUMBERED = "none"
"""The id field that stands for none: rows get numbers as ids, whatever fields they have."""
TextField = Annotated[str, Option(help="Field or column that holds the text.")]
Limit = Annotated[int | None, Option(help="Maximum number of examples to read.", none="no limit", minimum=1)]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Which fields and how many examples are read, and what happens to bad ones."""

    panel: ClassVar = "Corpus"
    text_field: TextField = "text"
    id_field: Annotated[
        str | None,
        Option(
            help="Field that holds the id; 'none' numbers the rows, as file:line.",
            none="the field 'id', or else file:line",
        ),
    ] = None
    limit: Limit = None
    skip_bad: Annotated[bool, Option(help="Skip bad examples, and list them.")] = False
    split: Annotated[
        str, Option(help="Split of a dataset, or of a folder whose files name splits; 'all' reads every file.")
    ] = "train"
    prompt_field: Annotated[
        str | None,
        Option(help="Field of the prompt before the text or messages, which carries no loss.", none="no prompts"),
    ] = None
    messages_field: Annotated[
        str | None,
        Option(
            help="Field of a conversation; only the assistant's messages carry loss.",
            none="found by its name and form, unless a field is named",
        ),
    ] = None
    separator: Annotated[
        str | None,
        Option(help="Text between documents packed into one record, such as '<|endoftext|>'.", none="not packed"),
    ] = None
    offsets_field: Annotated[
        str | None,
        Option(help="Field that lists the character at which each packed document begins.", none="not packed"),
    ] = None
    stream: Annotated[
        bool, Option(help="Leave the texts where they are and read them from there: Parquet and JSONL, also globs.")
    ] = False


@dataclass(frozen=True)
class CorpusOptions:
    """How a corpus is read and cut."""

    panel: ClassVar = "Corpus"
    read: ReadOptions = ReadOptions()
    max_tokens: Annotated[
        int | None, Option(help="Maximum tokens of an example.", none="what the model can read", minimum=2)
    ] = None
    long_texts: Annotated[
        LongTexts,
        Option(help="Longer texts keep only their beginning, or are split into windows.", flags=("--long",)),
    ] = "truncate"
