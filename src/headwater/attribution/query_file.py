"""Reading queries from a JSONL file: `{"id", "prompt", "completion"}` per line, or "messages" instead of "prompt"."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from headwater.corpus.chat_formats import Conversation, conversation_of, text_of
from headwater.corpus.lines import read_lines
from headwater.errors import CorpusError, HeadwaterError


@dataclass(frozen=True, kw_only=True)
class QueryLine:
    """One line of a queries file."""

    id: str
    completion: str | None = None
    """None if the last of `messages` is the assistant's: that is the completion."""
    prompt: str | None = None
    span: str | None = None
    messages: list[dict[str, Any]] | None = None
    """A conversation instead of a prompt."""
    raw: bool = False
    """Whether the prompt is the text that the model reads, though the run's corpus holds conversations."""

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages, not both or neither")
        answered = self.messages is not None and conversation_of(self.messages).messages[-1]["role"] == "assistant"
        if self.completion is None and not answered:
            raise ValueError("give the completion, which may be the last of messages if the assistant says it")

    @property
    def text(self) -> str:
        """Prompt and completion in words, without the chat template."""
        if self.messages is None:
            return (self.prompt or "") + (self.completion or "")
        texts = [text_of(message) for message in conversation_of(self.messages).messages]
        return " ".join(texts) + (self.completion or "")


def read_conversation(path: Path) -> Conversation:
    """The conversation in a JSON file: a list of messages, or an object with `messages` and perhaps `tools`.

    Raises HeadwaterError if the file cannot be read or holds none.
    """
    try:
        return conversation_of(json.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError) as error:
        raise HeadwaterError(f"Cannot read the conversation in {path}: {error}") from error
    except CorpusError as error:
        raise HeadwaterError(f"{path}: {error}.") from error
    except (ValueError, RecursionError) as error:
        raise HeadwaterError(f"{path} is not JSON: {error}. Write a list of messages.") from error


def read_queries(path: Path) -> list[QueryLine]:
    """All queries of a file, or of standard input (`-`). Raises HeadwaterError with the place of the first bad one."""
    lines = read_lines(path, "the queries")
    found: list[QueryLine] = []
    adapter = TypeAdapter(QueryLine)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(adapter.validate_python(json.loads(line)))
        except json.JSONDecodeError as error:
            raise HeadwaterError(f"{path}:{number} is not JSON: {error.msg} at column {error.colno}.") from error
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "the line"
            raise HeadwaterError(
                f'{path}:{number}: {field}: {first["msg"]}. A query is {{"id": "q1", "prompt": "Once upon a", '
                '"completion": " time"}.'
            ) from error
    if not found:
        raise HeadwaterError(
            f'{path} contains no query. A query is a line such as {{"id": "q1", "prompt": "Once upon a", '
            '"completion": " time"}.'
        )
    return found
