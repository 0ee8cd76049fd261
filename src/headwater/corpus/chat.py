"""The text of a conversation by the tokenizer's chat template, and the parts of it that carry loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headwater.corpus.options import ReadOptions
from headwater.corpus.read import Render
from headwater.errors import CorpusError, HeadwaterError

Messages = Sequence[dict[str, str]]
"""[{"role": "user", "content": "…"}, …]"""


def renderer(tokenizer: Any, options: ReadOptions) -> Render | None:
    """A function from messages to their text and the spans that carry loss. None if `options` read no conversations.

    The assistant's messages carry loss, including the mark that ends its turn. The function raises CorpusError for a
    value that is not a conversation, and for one without a message of the assistant. Raises HeadwaterError if the
    tokenizer has no chat template.
    """
    if options.messages_field is None:
        return None
    _require_template(tokenizer)

    def render(messages: Any) -> tuple[str, tuple[tuple[int, int], ...]]:
        _check(messages)
        text = _rendered(tokenizer, messages)
        spans: list[tuple[int, int]] = []
        for place, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = _rendered(tokenizer, messages[:place], opened=True)
            said = _rendered(tokenizer, messages[: place + 1])
            if not (said.startswith(before) and text.startswith(said)):
                raise CorpusError(
                    "the chat template writes earlier messages differently after later ones, so the assistant's "
                    "messages cannot be found in the text; give prompts and texts with --prompt-field"
                )
            spans.append((len(before), len(said)))
        if not spans:
            raise CorpusError("the conversation has no message of the assistant, so nothing in it carries loss")
        return text, tuple(spans)

    return render


def chat_prompt(tokenizer: Any, messages: Messages) -> str:
    """The prompt that asks the model to answer a conversation. Raises HeadwaterError if it cannot be made."""
    _require_template(tokenizer)
    try:
        _check(messages)
        return _rendered(tokenizer, messages, opened=True)
    except CorpusError as error:
        raise HeadwaterError(f"The conversation cannot be asked: {error}.") from None


def _require_template(tokenizer: Any) -> None:
    if not getattr(tokenizer, "chat_template", None):
        raise HeadwaterError(
            "The model's tokenizer has no chat template, so conversations cannot be read. Give texts instead "
            "(--text-field, --prompt-field), or save a chat template with the tokenizer."
        )


def _check(messages: Any) -> None:
    """Raises CorpusError for a value that is not a conversation."""
    good = isinstance(messages, Sequence) and not isinstance(messages, str) and len(messages) > 0
    if not good or not all(_is_message(message) for message in messages):
        raise CorpusError('not a conversation: write it as [{"role": "user", "content": "…"}, …]')


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))


def _rendered(tokenizer: Any, messages: Messages, opened: bool = False) -> str:
    """The text of messages; if `opened`, the start of an answer follows. Without a first token that tokenising adds."""
    try:
        text: str = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=opened)
    except Exception as error:  # a template may raise anything
        raise CorpusError(f"the chat template refuses it: {error}") from error
    first: str | None = tokenizer.bos_token
    adds = tokenizer("", verbose=False)["input_ids"][:1] == [tokenizer.bos_token_id]
    return text.removeprefix(first) if first is not None and adds else text
