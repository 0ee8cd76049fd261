"""Conversations as people store them: they are recognised, read alike, and asked by what a user says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.corpus.chat_formats import conversation_of, layout_of
from headwater.corpus.options import CorpusOptions, ReadOptions
from headwater.errors import CorpusError, HeadwaterError
from headwater.runs.run import Run
from tests.test_chat import CHAT, chat_model, learned

SHAREGPT = [
    {"from": "human", "value": "Who found it?"},
    {"from": "gpt", "value": "Lily did."},
    {"from": "human", "value": "So?"},
    {"from": "gpt", "value": "The fox."},
]
PARTS = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in CHAT]
LISTS = {"role": [message["role"] for message in CHAT], "content": [message["content"] for message in CHAT]}


@pytest.mark.parametrize(
    "stored",
    [CHAT, SHAREGPT, PARTS, LISTS, json.dumps(CHAT), {"messages": CHAT}, [{**CHAT[0], "name": None}, *CHAT[1:]]],
    ids=["role and content", "from and value", "parts", "lists", "json", "object", "nulls"],
)
def test_the_same_messages_come_out_of_every_format(stored: Any) -> None:
    assert conversation_of(stored).messages == CHAT


def test_a_conversation_of_tools_keeps_its_calls() -> None:
    stored = [
        {"from": "system", "value": "s"},
        {"from": "function_call", "value": '{"name": "f"}'},
        {"from": "observation", "value": "o"},
        {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": '{"a": null, "b": "1"}'}]},
        {"role": "function", "name": "f", "content": "r"},
    ]
    found = conversation_of(stored, tools='[{"name": "f"}]')
    assert [message["role"] for message in found.messages] == ["system", "assistant", "tool", "assistant", "tool"]
    assert found.messages[3] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"name": "f", "arguments": {"a": None, "b": "1"}}],
    }
    assert found.messages[4]["name"] == "f"
    assert found.tools == [{"name": "f"}]
    assert conversation_of(CHAT, tools="hammer").tools is None


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        ("hello", "not a conversation"),
        ([], "not a conversation"),
        ([{"content": "x"}], "not a conversation"),
        ([{"role": "user", "content": None}], "message 1 has no content"),
        ([{"role": "user", "content": 5}], "the content of message 1 is not text"),
        ([{"role": "user", "content": [{"type": "image"}]}], "a part of the type 'image', and only text is read"),
        ([{"role": "user", "content": "\ud800"}], "unpaired surrogate"),
    ],
)
def test_what_is_no_conversation_is_said(stored: Any, reason: str) -> None:
    with pytest.raises(CorpusError, match=reason):
        conversation_of(stored)


FOUND: list[tuple[dict[str, Any], dict[str, str], str | None]] = [
    ({"messages": CHAT}, {"messages_field": "messages"}, 'Reading the column "messages" as conversations'),
    ({"conversations": SHAREGPT, "system": ""}, {"messages_field": "conversations"}, "as conversations"),
    ({"prompt": "a", "completion": "b"}, {"prompt_field": "prompt", "text_field": "completion"}, "carry no loss"),
    (
        {"prompt": CHAT[:1], "completion": CHAT[1:2]},
        {"prompt_field": "prompt", "messages_field": "completion"},
        "of which the completion carries loss",
    ),
    ({"text": "a", "messages": CHAT}, {}, "--messages-field messages reads the conversations"),
    ({"text": "a", "messages": "hello"}, {}, None),
    ({"messages": "hello"}, {}, None),
    ({"prompt": "a", "chosen": "b"}, {}, None),
]


@pytest.mark.parametrize(("row", "options", "note"), FOUND)
def test_columns_are_recognised_and_said(row: dict[str, Any], options: dict[str, str], note: str | None) -> None:
    found, said = layout_of(ReadOptions(), row)
    assert found == ReadOptions(**options)  # type: ignore[arg-type]
    assert (note is None) == (said is None)
    assert (note or "") in (said or "")
    named = ReadOptions(text_field="other")
    assert layout_of(named, row) == (named, None), "a named field is read as it is named"


def run_of(folder: Path, rows: list[dict[str, Any]], **options: Any) -> Run:
    folder.mkdir(exist_ok=True)
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return Run.create(folder / "run", chat_model(), path, options=CorpusOptions(ReadOptions(**options)))


def test_a_run_remembers_how_its_conversations_are_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path, [{"id": "a", "conversations": SHAREGPT, "kind": "k"}])
    assert learned(run) == "Lily did.\nThe fox.\n"
    assert run.corpus[0].metadata == {"kind": "k"}
    assert run.holds_conversations
    assert Run.open(tmp_path / "run", chat_model()).holds_conversations
    line = 'Reading the column "conversations" as conversations; --text-field NAME reads a column as plain text.'
    assert line in run.manifest.corpus.notes
    more = tmp_path / "more.jsonl"
    more.write_text(json.dumps({"id": "b", "messages": CHAT[:2]}) + "\n" + json.dumps({"id": "c", "messages": CHAT}))
    assert run.add(more) == 2, "another format is read too"
    assert learned(run, 1) == "Lily did.\n"
    with pytest.raises(HeadwaterError, match="'conversations' is a list, not text"):
        run_of(tmp_path / "plain", [{"conversations": SHAREGPT}], text_field="conversations")


def test_only_the_completion_of_a_prompt_is_learned(tmp_path: Path) -> None:
    rows = [{"prompt": CHAT[:3], "completion": CHAT[3:]}, {"prompt": CHAT[:1], "completion": "Lily did."}]
    run = run_of(tmp_path, rows)
    assert [learned(run, row) for row in range(2)] == ["The fox.\n", "Lily did.\n"]
    assert run.corpus[0].text.startswith("<u>Who found it?\n<a>Lily did.\n")
    texts = run_of(tmp_path / "texts", [{"prompt": "Who found it? ", "completion": "Lily did."}])
    assert not texts.holds_conversations
    assert "Lily did." in learned(texts)


def test_streamed_conversations_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"messages": [CHAT, CHAT[:2]], "tools": ["[]", None]}), path)
    run = Run.create(tmp_path / "run", chat_model(), path, options=CorpusOptions(ReadOptions(stream=True)))
    assert [learned(run, row) for row in range(2)] == ["Lily did.\nThe fox.\n", "Lily did.\n"]
    listed = Run.create(tmp_path / "listed", chat_model(), [CHAT, CHAT[:2]])
    assert [learned(listed, row) for row in range(2)] == ["Lily did.\nThe fox.\n", "Lily did.\n"]


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = run_of(tmp_path_factory.mktemp("chats"), [{"messages": CHAT}, {"messages": CHAT[:2]}])
    run.fit()
    return run


def test_a_text_is_what_a_user_says(chats: Run) -> None:
    question = chats.question("Who found it?", "Lily did.")
    assert question.prompt == "<u>Who found it?\n<a>"
    assert question.messages == ({"role": "user", "content": "Who found it?"},)
    assert question == chats.question(CHAT[:2]), "the assistant's last message is the completion"
    assert chats.question(question.prompt, "Lily did.").prompt == question.prompt, "it has the marks already"
    raw = chats.question("Who found it?", "Lily did.", raw=True)
    assert (raw.prompt, raw.messages) == ("Who found it?", None)
    with pytest.raises(HeadwaterError, match="leave the other one out"):
        chats.question(CHAT[:2], "Lily did.")
    for line, prompt in [
        ({"id": "q", "prompt": "So?", "completion": "x"}, "<u>So?\n<a>"),
        ({"id": "q", "prompt": "So?", "completion": "x", "raw": True}, "So?"),
        ({"id": "q", "messages": SHAREGPT}, "<u>Who found it?\n<a>Lily did.\n<u>So?\n<a>"),
    ]:
        path = chats.path.parent / "queries.jsonl"
        path.write_text(json.dumps(line))
        assert chats.questions(path)[0].prompt == prompt


def test_an_answer_remembers_the_conversation_and_is_verified(chats: Run) -> None:
    answer = chats.ask("Who found it?", "Lily did.", k=1)
    assert answer.query.messages == [{"role": "user", "content": "Who found it?"}]
    read = type(answer).from_json(answer.to_json())
    assert read.query == answer.query
    assert chats.verify(read, k=1, random=0).query.messages == answer.query.messages
    against = chats.path.parent / "against.jsonl"
    against.write_text(json.dumps({"conversations": SHAREGPT[:2]}))
    (one,) = (lambda found: found.proponents + found.opponents)(
        chats.ask_against(chats.question("Who found it?", "Lily did."), against)
    )
    assert one.text == "<u>Who found it?\n<a>Lily did.\n"
    (listed,) = (lambda found: found.proponents + found.opponents)(
        chats.ask_against(chats.question("Who found it?", "Lily did."), [SHAREGPT[:2]])
    )
    assert listed.influence == one.influence
