"""Conversations as they are stored: which columns hold them, and their messages in one form, whatever the format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from headwater.corpus.options import ReadOptions
from headwater.errors import CorpusError

Message = dict[str, Any]
"""{"role": "user", "content": "…"}; an assistant's message may have "tool_calls", and other fields of its template."""
Messages = Sequence[Mapping[str, Any]]
"""[{"role": "user", "content": "…"}, …], or another format that `conversation_of` reads."""

COLUMNS = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns")
"""Columns that are read as conversations if their values are."""
TOOLS = "tools"
"""The column of the functions that the assistant may call, as JSON schemas."""
_OTHER_NAMES = {
    "user": ("human", "prompter"),
    "assistant": ("gpt", "chatgpt", "bot", "chatbot", "model", "ai", "bing", "bard", "function_call", "tool_call"),
    "tool": ("function", "function_response", "tool_response", "observation"),
}
ROLES = {name: role for role, names in _OTHER_NAMES.items() for name in names}
"""The role that chat templates know, for the names that other formats use."""
_FORM = 'not a conversation: write it as [{"role": "user", "content": "…"}, …]'


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """The messages of one conversation, in the form that chat templates read."""

    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    """JSON schemas of the functions that the assistant may call."""
    given: int = 0
    """The number of messages at the beginning that are a prompt: none of them carries loss."""


def conversation_of(value: Any, *, tools: Any = None, prompt: Any = None) -> Conversation:
    """The conversation in the value of a column, or in an object {"messages", "tools"}.

    It may be a list of messages with role and content or with from and value (ShareGPT), its JSON, or lists of roles
    and contents. A text is an assistant's message if a `prompt` comes before it. Raises CorpusError for another value,
    a part of a message that is no text, and a message without content and tool calls.
    """
    try:
        value = _parsed(value)
        if isinstance(value, Mapping) and "messages" in value:
            value, tools = cast(Any, value)["messages"], cast(Any, value).get(TOOLS, tools)
        before = [] if prompt is None else _messages(_as_list(prompt, "user"))
        messages = _messages(value if prompt is None else _as_list(value, "assistant"))
        found = tools_of(tools)
    except RecursionError:
        raise CorpusError("the conversation is nested too deeply") from None
    return Conversation(messages=[*before, *messages], tools=found, given=len(before))


def tools_of(value: Any) -> list[dict[str, Any]] | None:
    """The functions in a column of tools: a list of objects, or JSON of it. None for any other value."""
    value = _parsed(value)
    if not isinstance(value, list):
        return None
    each = [_parsed(tool) for tool in cast(list[Any], value)]
    return [_without_nulls(tool) for tool in each] if each and all(isinstance(tool, dict) for tool in each) else None


def text_of(message: Mapping[str, Any]) -> str:
    """What a message says, with the names and arguments of its tool calls."""
    calls = message.get("tool_calls")
    return message["content"] + ("" if not calls else json.dumps(calls, ensure_ascii=False))


# --- messages ---


def _messages(value: Any) -> list[Message]:
    value = _parsed(value)
    if isinstance(value, Mapping):
        value = _rows(cast(Mapping[str, Any], value))
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not value:
        raise CorpusError(_FORM)
    return [_message(message, number) for number, message in enumerate(cast(Sequence[Any], value), start=1)]


def _rows(columns: Mapping[str, Any]) -> Any:
    """The messages of {"role": […], "content": […]}, as some data sets store a list of objects."""
    lists = {name: cast(list[Any], each) for name, each in columns.items() if isinstance(each, list)}
    if len(lists) != len(columns) or len({len(each) for each in lists.values()}) != 1:
        return None
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _message(message: Any, number: int) -> Message:
    if not isinstance(message, Mapping):
        raise CorpusError(_FORM)
    fields = {str(name): each for name, each in cast(Mapping[Any, Any], message).items() if each is not None}
    role = fields.pop("role", None) or fields.pop("from", None)
    content = fields.pop("content", None) if "content" in fields else fields.pop("value", None)
    if not isinstance(role, str):
        raise CorpusError(_FORM)
    calls = _calls(fields.pop("tool_calls", None))
    if content is None and not calls and "reasoning_content" not in fields:
        raise CorpusError(f"{_FORM}; message {number} has no content")
    told = {"role": ROLES.get(role.strip().lower(), role), "content": _text("" if content is None else content, number)}
    return {**told, **({"tool_calls": calls} if calls else {}), **_without_nulls(fields)}


def _text(content: Any, number: int) -> str:
    """The text of a content, which may be a list of parts."""
    parts = cast(list[Any], content) if isinstance(content, list) else [content]
    texts: list[str] = []
    for part in parts:
        text = part
        if isinstance(part, Mapping):
            kind = cast(Mapping[str, Any], part).get("type", "text")
            if kind != "text":
                raise CorpusError(f"message {number} has a part of the type {kind!r}, and only text is read")
            text = cast(Mapping[str, Any], part).get("text")
        if not isinstance(text, str):
            raise CorpusError(f"the content of message {number} is not text")
        texts.append(text)
    return _whole("".join(texts), number)


def _whole(text: str, number: int) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"message {number} has an unpaired surrogate at character {error.start + 1}, which is not text"
        ) from None
    return text


def _calls(calls: Any) -> list[Any]:
    """Tool calls with their arguments as objects, which most templates expect."""
    calls = _parsed(calls)
    found: list[Any] = []
    for call in cast(list[Any], calls) if isinstance(calls, list) else []:
        call = _without_nulls(call)
        function: Any = call.get("function", call) if isinstance(call, dict) else None
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            arguments = _parsed(cast(dict[str, Any], function)["arguments"])
            function = {**function, "arguments": arguments}
            call = {**call, "function": function} if "function" in call else function
        found.append(call)
    return found


def _as_list(value: Any, role: str) -> Any:
    """A text as the message of a role; any other value as it is."""
    parsed = _parsed(value)
    return [{"role": role, "content": value}] if isinstance(parsed, str) else parsed


def _parsed(value: Any) -> Any:
    """The value that a text of JSON holds; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _without_nulls(value: Any) -> Any:
    """Without the fields that are null: Parquet gives every object the fields of all others."""
    if isinstance(value, dict):
        pairs = cast(dict[str, Any], value).items()
        return {name: _without_nulls(each) for name, each in pairs if each is not None}
    return [_without_nulls(each) for each in cast(list[Any], value)] if isinstance(value, list) else value


# --- columns ---


def layout_of(
    options: ReadOptions, values: Mapping[str, Any], *, any_layout: bool = False
) -> tuple[ReadOptions, str | None]:
    """The options that read rows like `values`, and a note that says so if they differ from `options`.

    Options that name fields stay as they are; with `any_layout`, only if the row has these fields. A column `text` is
    read as text.
    """
    if any_layout and not _has_fields(options, values):
        asked = options
        options = replace(options, text_field=ReadOptions.text_field, prompt_field=None, messages_field=None)
        found, note = _detected(options, values)
        return (asked, None) if found == options and not isinstance(values.get("text"), str) else (found, note)
    return (options, None) if names_fields(options) else _detected(options, values)


def names_fields(options: ReadOptions) -> bool:
    """Whether options say which fields hold the texts."""
    others = (options.messages_field, options.prompt_field, options.separator, options.offsets_field)
    return options.text_field != ReadOptions.text_field or any(each is not None for each in others)


def _detected(options: ReadOptions, values: Mapping[str, Any]) -> tuple[ReadOptions, str | None]:
    instead = "--text-field NAME reads a column as plain text."
    column = next((name for name in COLUMNS if _is_conversation(values.get(name))), None)
    if isinstance(values.get(options.text_field), str):
        if column is None:
            return options, None
        return options, (
            f'Reading the column "{options.text_field}" as plain text; --messages-field {column} reads the '
            f'conversations in "{column}".'
        )
    if column is not None:
        return replace(options, messages_field=column), f'Reading the column "{column}" as conversations; {instead}'
    prompt, completion = values.get("prompt"), values.get("completion")
    if _is_conversation(prompt) or _is_conversation(completion):
        if all(isinstance(each, str) or _is_conversation(each) for each in (prompt, completion)):
            return replace(options, prompt_field="prompt", messages_field="completion"), (
                'Reading the columns "prompt" and "completion" as conversations, of which the completion carries loss; '
                f"{instead}"
            )
    elif isinstance(prompt, str) and isinstance(completion, str):
        return replace(options, prompt_field="prompt", text_field="completion"), (
            f'Reading the column "completion" as texts after the prompts in "prompt", which carry no loss; {instead}'
        )
    return options, None


def _has_fields(options: ReadOptions, values: Mapping[str, Any]) -> bool:
    text = options.text_field if options.messages_field is None else options.messages_field
    return text in values and (options.prompt_field is None or options.prompt_field in values)


def _is_conversation(value: Any) -> bool:
    try:
        value = _parsed(value)
        return not isinstance(value, str) and bool(_messages(value))
    except (CorpusError, RecursionError):
        return _looks_like_one(value)


def _looks_like_one(value: Any) -> bool:
    """Whether the first object of a list has a role: it is a conversation, though one that cannot be read."""
    first: Any = cast(list[Any], value)[0] if isinstance(value, list) and value else None
    return isinstance(first, Mapping) and bool({"role", "from"} & set(cast(Mapping[str, Any], first)))
