"""The text of a conversation by the tokenizer's chat template, and the parts of it that carry loss."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import Any

from headwater.corpus.chat_formats import Conversation, Message, conversation_of
from headwater.corpus.read import Render, Rendered
from headwater.errors import CorpusError, HeadwaterError

TODAY = date(2024, 7, 26)
"""The date that templates are told, so that a text is the same on every day. Llama 3.2 falls back to it."""
PROBE = "\ue000"
"""A character of private use. It stands for a message, to find where the template puts messages."""
MARK_LENGTH = 6
"""Characters at the end of the mark that begins a user's message, by which it is found again."""
_TAGS = re.compile(r"\{%-?\s*generation\s*-?%\}")
_CLOCK = re.compile(r"strftime_now\(\s*(?:\"([^\"]*)\"|'([^']*)')\s*\)")

Note = Callable[[str], None]


def renderer(tokenizer: Any, note: Note | None = None) -> Render:
    """A function from a conversation to the examples it makes: each a text, and the spans that carry loss.

    The assistant's messages carry loss, including the mark that ends each turn. There is one example if the template
    writes a message in the same way whatever follows it; else one example for each turn of the assistant. `note` is
    told about that, and about a date in the template. The function raises CorpusError if the template refuses the
    conversation or leaves out a part of it, and if nothing carries loss; HeadwaterError if there is no template.
    """
    return _Renderer(ChatTemplate(tokenizer), note)


def asked(tokenizer: Any, conversation: Conversation) -> tuple[str, str | None]:
    """The prompt that asks the model to answer a conversation, and its answer if the last message is the assistant's.

    Raises HeadwaterError if the prompt cannot be made.
    """
    template = ChatTemplate(tokenizer)
    try:
        if conversation.messages[-1]["role"] == "assistant":
            turn = template.turn(conversation, len(conversation.messages) - 1)
            template.require_all_said(replace(conversation, messages=conversation.messages[:-1]), turn.text)
            return turn.text[: turn.start], turn.text[turn.start : turn.said]
        text = template.text(conversation.messages, conversation.tools, opened=True)
        template.require_all_said(conversation, text)
    except CorpusError as error:
        raise HeadwaterError(f"The conversation cannot be asked: {error}.") from None
    return text, None


def is_formatted(tokenizer: Any, prompt: str) -> bool:
    """Whether a prompt has the marks with which the chat template ends a user's message and begins an answer."""
    try:
        empty = ChatTemplate(tokenizer).text([{"role": "user", "content": PROBE}], None, opened=True)
    except HeadwaterError:
        return False
    mark = empty.rpartition(PROBE)[2].strip()
    return bool(mark) and mark in prompt


def last_question(tokenizer: Any, prompt: str) -> str | None:
    """What the user says last in a prompt that the chat template formatted. None if that is not found."""
    try:
        empty = ChatTemplate(tokenizer).text([{"role": "user", "content": PROBE}], None, opened=True)
    except HeadwaterError:
        return None
    before, _, after = empty.rpartition(PROBE)
    end = prompt.rfind(after.strip())
    place = prompt.rfind(before[-MARK_LENGTH:], 0, max(0, end))
    start = place + len(before[-MARK_LENGTH:])
    return prompt[start:end].strip() or None if before and after.strip() and place >= 0 and start < end else None


def as_conversation(prompt: Any) -> Conversation:
    """The conversation of a prompt. Raises HeadwaterError if it is none."""
    try:
        return conversation_of(prompt)
    except CorpusError as error:
        raise HeadwaterError(f"The conversation cannot be asked: {error}.") from None


@dataclass(frozen=True)
class Turn:
    """One message of the assistant, at the end of the text that it answers."""

    text: str
    start: int
    """Where the model begins to speak."""
    said: int
    """Where the message ends; the mark that ends the turn follows."""


@dataclass(frozen=True)
class ChatTemplate:
    """The chat template of a tokenizer."""

    tokenizer: Any

    def text(self, messages: list[Message], tools: Any = None, *, opened: bool = False) -> str:
        """The text of messages, without a first token that tokenising adds. If `opened`, an answer begins after it.

        Raises CorpusError if the template refuses the messages, and HeadwaterError if there is no template.
        """
        text: str = self._apply(messages, tools, add_generation_prompt=opened, tokenize=False)
        return text.removeprefix(self._added)

    def tagged(self, conversation: Conversation) -> list[tuple[int, int]] | None:
        """The spans of the text that the template itself marks as generated. None if it marks none."""
        if not _TAGS.search(self._source(conversation.tools)):
            return None
        options = {"return_dict": True, "return_assistant_tokens_mask": True}
        given = {"tokenizer_kwargs": {"return_offsets_mapping": True}}
        found = self._apply(conversation.messages, conversation.tools, tokenize=True, **options, **given)
        whole: str = self._apply(conversation.messages, conversation.tools, tokenize=False)
        spans: list[tuple[int, int]] = []
        first = len(whole) - len(whole.removeprefix(self._added))
        for (start, stop), marked in zip(found["offset_mapping"], found["assistant_masks"], strict=True):
            if marked and spans and spans[-1][1] == start - first:
                spans[-1] = (spans[-1][0], stop - first)
            elif marked:
                spans.append((start - first, stop - first))
        return spans

    def turn(self, conversation: Conversation, place: int) -> Turn:
        """The assistant's message at `place`, found by comparing renderings: with it, without it, and with a probe."""
        messages, tools = conversation.messages, conversation.tools
        whole = self.text(messages[: place + 1], tools)
        start, said = self._around(messages[: place + 1], tools, whole)
        before = self.text(messages[:place], tools, opened=True) if place else None
        if before is not None and whole.startswith(before):
            start = len(before)
        elif start is None:
            raise CorpusError(f"the chat template leaves out message {place + 1}, which is the assistant's")
        if messages[place].get("tool_calls"):
            said = end = len(whole.rstrip())
        else:
            said = max(start, len(whole.rstrip()) if said is None else said)
            end = self._end(whole, said)
        if before is None or whole.startswith((before, self.text(messages[:place], tools))):
            return Turn(whole[:end], start, said)
        # The template writes what came before differently after an answer. The model answered `before`.
        start = _after(before, whole[:start])
        return Turn(before + whole[start:end], len(before), len(before) + said - start)

    def require_all_said(self, conversation: Conversation, text: str) -> None:
        """Raises CorpusError if the text lacks a message that is not the assistant's, or a tool call."""
        squeezed = _squeezed(text)
        for number, message in enumerate(conversation.messages, start=1):
            calls = message.get("tool_calls") or ()
            names = [call.get("function", call).get("name") for call in calls if isinstance(call, dict)]
            if any(isinstance(name, str) and name not in text for name in names):
                raise CorpusError(f"the chat template leaves out the tool calls of message {number}")
            role, content = message["role"], message["content"]
            forms = (_squeezed(content), _squeezed(json.dumps(content, ensure_ascii=False)[1:-1]))
            written = any(form in squeezed for form in forms) and self._writes(conversation, number - 1)
            if role != "assistant" and not written:
                raise CorpusError(f"the chat template leaves out message {number}, whose role is {role!r}")

    def _writes(self, conversation: Conversation, place: int) -> bool:
        """Whether the template writes the message at `place`. Each role is tried once, with a probe."""
        messages, role = conversation.messages, conversation.messages[place]["role"]
        if role not in self._written:
            probed = [*messages[:place], {**messages[place], "content": PROBE}, *messages[place + 1 :]]
            opened = messages[-1]["role"] != "assistant"
            text = self.text(probed, conversation.tools, opened=opened)
            if PROBE not in text and PROBE.encode("ascii", "backslashreplace").decode() not in text:
                return False
            self._written.add(role)
        return True

    @cached_property
    def _written(self) -> set[str]:
        """The roles that the template is known to write."""
        return set()

    @property
    def dated(self) -> bool:
        """Whether the template asks for today's date."""
        return "strftime_now" in self._source(None)

    def _around(self, messages: list[Message], tools: Any, whole: str) -> tuple[int | None, int | None]:
        """Where the last message's content begins and ends in `whole`, by a rendering with a probe in its place."""
        try:
            probed = self.text([*messages[:-1], {**messages[-1], "content": PROBE}], tools)
        except CorpusError:
            return None, None
        before, found, after = probed.rpartition(PROBE)
        if not found:
            return None, None
        said = len(whole) - len(after) if whole.endswith(after) else None
        return len(before) if whole.startswith(before) else None, said

    def _end(self, whole: str, said: int) -> int:
        """Where the mark stops that ends the turn. It follows the message; white space after it is not the model's."""
        rest = whole[said:]
        begin = len(rest) - len(rest.lstrip())
        if begin == len(rest):
            return len(whole)
        for mark in self._marks:
            if rest.startswith(mark, begin):
                return said + begin + len(mark)
        line = rest.find("\n", begin)
        return len(whole) if line < 0 else said + line

    @cached_property
    def _marks(self) -> list[str]:
        """The tokenizer's special tokens, the longest first."""
        return sorted({*self.tokenizer.all_special_tokens, *self.tokenizer.get_added_vocab()}, key=len, reverse=True)

    @cached_property
    def _added(self) -> str:
        """The beginning-of-text token, if tokenising adds it."""
        first: str | None = self.tokenizer.bos_token
        adds = self.tokenizer("", verbose=False)["input_ids"][:1] == [self.tokenizer.bos_token_id]
        return first if first is not None and adds else ""

    def _source(self, tools: Any) -> str:
        if not getattr(self.tokenizer, "chat_template", None):
            raise HeadwaterError(
                "The model's tokenizer has no chat template, so conversations cannot be read. Give texts instead "
                "(--text-field, --prompt-field), or save a chat template with the tokenizer."
            )
        try:
            return self.tokenizer.get_chat_template(None, tools)
        except ValueError as error:
            raise HeadwaterError(f"The tokenizer's chat template cannot be used: {error}") from None

    def _apply(self, messages: list[Message], tools: Any, **options: Any) -> Any:
        source = self._source(tools)
        if "strftime_now" in source:
            source = _clock(source) + source
        try:
            return self.tokenizer.apply_chat_template(messages, tools=tools, chat_template=source, **options)
        except Exception as error:  # a template may raise anything
            why = str(error).rstrip(".") or type(error).__name__
            raise CorpusError(f"the chat template refuses it: {why}") from None


class _Renderer:
    """Makes the examples of conversations, and tells once what is unusual about them."""

    def __init__(self, template: ChatTemplate, note: Note | None) -> None:
        self.template = template
        self._note = note
        self._told: set[str] = set()

    def __call__(self, conversation: Conversation) -> list[Rendered]:
        template = self.template
        whole = template.text(conversation.messages, conversation.tools)
        if template.dated:
            self._tell(f"The chat template writes today's date. Headwater always writes {TODAY:%d %B %Y} there.")
        learned = [
            place
            for place, message in enumerate(conversation.messages)
            if message["role"] == "assistant" and place >= conversation.given
        ]
        if not learned:
            raise CorpusError("the conversation has no message of the assistant, so nothing in it carries loss")
        tagged = template.tagged(conversation)
        if tagged is not None:
            template.require_all_said(conversation, whole)
            return [(whole, self._after_prompt(conversation, tagged))]
        turns = [template.turn(conversation, place) for place in learned]
        if all(whole.startswith(turn.text) for turn in turns):
            template.require_all_said(conversation, whole)
            return [(whole, tuple((turn.start, len(turn.text)) for turn in turns))]
        template.require_all_said(replace(conversation, messages=conversation.messages[: learned[-1]]), turns[-1].text)
        if len(turns) > 1:
            self._tell(
                "The chat template writes earlier messages differently once others follow them, so each turn of the "
                "assistant is an example of its own."
            )
        return [(turn.text, ((turn.start, len(turn.text)),)) for turn in turns]

    def _after_prompt(self, conversation: Conversation, spans: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        """The spans that the template marks, without those of a given prompt."""
        prompt = conversation.messages[: conversation.given]
        known = self.template.tagged(replace(conversation, messages=prompt)) if prompt else None
        found = spans[len(known or ()) :]
        if not found:
            raise CorpusError("the chat template marks nothing as generated, so nothing carries loss")
        return tuple(found)

    def _tell(self, text: str) -> None:
        if self._note is not None and text not in self._told:
            self._told.add(text)
            self._note(text)


def _clock(source: str) -> str:
    """A macro that takes the place of the clock, for the formats that a template asks for."""
    formats = {double or single for double, single in _CLOCK.findall(source)}
    told = json.dumps({each: TODAY.strftime(each) for each in sorted(formats)})
    macro = "{%- macro strftime_now(format) -%}{{- " + told + f".get(format, '{TODAY.isoformat()}') -}}}}"
    return macro + "{%- endmacro -%}{{ '' }}"


def _after(before: str, whole: str) -> int:
    """Where `whole` goes on after its last occurrence of the end of `before`."""
    for length in (16, 8, 4, 2, 1):
        end = before[-length:]
        place = whole.rfind(end, max(0, len(whole) - 64))
        if place >= 0:
            return place + len(end)
    return len(whole)


def _squeezed(text: str) -> str:
    return "".join(text.split())
