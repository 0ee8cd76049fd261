"""Conversations as the model reads them, and which parts of them it learned to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headwater.corpus.options import ReadOptions
from headwater.corpus.read import Render
from headwater.errors import CorpusError, HeadwaterError

Messages = Sequence[dict[str, str]]
"""[{"role": "user", "content": "…"}, …]"""


def renderer(tokenizer: Any, options: ReadOptions) -> Render | None:
    """Makes texts of conversations by the tokenizer's chat template; what an assistant says carries loss, with the mark
    that ends its turn. None where `options` read no conversations.

    The returned function raises CorpusError for what is no conversation, or has nothing that an assistant says. Raises
    HeadwaterError where the tokenizer has no chat template.
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
                    "the chat template writes earlier messages otherwise once others follow, so that what the "
                    "assistant says cannot be found in it; give prompts and texts with --prompt-field"
                )
            spans.append((len(before), len(said)))
        if not spans:
            raise CorpusError("the conversation has nothing that an assistant says, so there is nothing to learn")
        return text, tuple(spans)

    return render


def chat_prompt(tokenizer: Any, messages: Messages) -> str:
    """What the model is given to answer a conversation. Raises HeadwaterError where it cannot be made."""
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
    """Raises CorpusError for what is no conversation."""
    good = isinstance(messages, Sequence) and not isinstance(messages, str) and len(messages) > 0
    if not good or not all(_is_message(message) for message in messages):
        raise CorpusError('not a conversation: it is written as [{"role": "user", "content": "…"}, …]')


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))


def _rendered(tokenizer: Any, messages: Messages, opened: bool = False) -> str:
    """The text of messages, `opened` for an answer; without a first token that the tokenizer will add itself."""
    try:
        text: str = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=opened)
    except Exception as error:  # a template raises what it likes
        raise CorpusError(f"the chat template refuses it: {error}") from error
    first: str | None = tokenizer.bos_token
    adds = tokenizer("", verbose=False)["input_ids"][:1] == [tokenizer.bos_token_id]
    return text.removeprefix(first) if first is not None and adds else text
