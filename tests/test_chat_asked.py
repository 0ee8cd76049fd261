"""A run of conversations is asked as a chat: on the command line, by the client and on the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, expect
from typer.testing import CliRunner, Result

from headwater.attribution.answer import Answer
from headwater.attribution.options import Sampling
from headwater.cli import app
from headwater.errors import HeadwaterError
from headwater.runs.run import Run
from headwater.serve.client import Client
from tests.browsing import Site, answered, cards, told
from tests.models import plain_model
from tests.serving import Live
from tests.test_chat import CHAT, chat_model

ASKED, SAID = "Who found it?", "Lily did."


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("asked")
    plain_model("gpt_neo", torch.float32).save_pretrained(folder / "model")
    chat_model().tokenizer.save_pretrained(folder / "model")
    rows = [{"id": "long", "messages": CHAT}, {"id": "short", "messages": CHAT[:2]}]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    run = Run.create(folder / "run", str(folder / "model"), folder / "rows.jsonl")
    run.fit()
    return run


@pytest.fixture(scope="module")
def server(chats: Run) -> Iterator[Live]:
    made = Live(Run.open(chats.path))
    yield made
    made.stop()


def command(*words: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, words)), catch_exceptions=True)


def prompt_of(result: Result) -> tuple[str, str]:
    assert result.exit_code == 0, result.output
    query = Answer.from_json(result.stdout).query
    return query.prompt, query.completion


def test_the_command_line_asks_a_chat(chats: Run, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    file.write_text(json.dumps({"messages": CHAT}), encoding="utf-8")
    asked = "<u>Who found it?\n<a>"
    whole = "<u>Who found it?\n<a>Lily did.\n<u>So?\n<a>"
    assert prompt_of(command("ask", chats.path, ASKED, SAID, "--json")) == (asked, SAID)
    assert prompt_of(command("ask", chats.path, ASKED, SAID, "--raw", "--json")) == (ASKED, SAID)
    assert prompt_of(command("ask", chats.path, "--messages", file, "--json")) == (whole, "The fox.")
    file.write_text(json.dumps(CHAT[:3]), encoding="utf-8")
    assert prompt_of(command("ask", chats.path, SAID, "--messages", file, "--json")) == (whole, SAID)
    assert command("map", chats.path, "short", ASKED, SAID).exit_code == 0
    for words, why in [
        (("ask", chats.path), "Give a PROMPT, or a conversation"),
        (("ask", chats.path, ASKED, SAID, "--messages", file), "takes the place of PROMPT"),
        (("map", chats.path, "short", ASKED), "Give a COMPLETION"),
    ]:
        result = command(*words)
        assert isinstance(result.exception, HeadwaterError)
        assert why in str(result.exception)
    file.write_text("[1]", encoding="utf-8")
    assert "not a conversation" in str(command("ask", chats.path, "--messages", file).exception)


def test_the_client_asks_a_chat(chats: Run, server: Live) -> None:
    client = Client(server.address)
    assert client.info()["conversations"] is True
    assert client.info()["prompts"][0] == {"prompt": ASKED, "completion": None}
    answer = client.ask(ASKED, SAID, k=1)
    assert answer.query.messages == [{"role": "user", "content": ASKED}]
    assert answer == chats.ask(ASKED, SAID, k=1)
    assert client.ask(CHAT[:2], k=1) == answer
    assert client.describe(ASKED, SAID, raw=True).prompt == ASKED
    assert client.describe(CHAT[:3], "The fox.").prompt.endswith("<u>So?\n<a>")
    assert client.generate(ASKED, Sampling(max_new_tokens=4)).prompt == answer.query.prompt
    bad: list[Any] = [[{"role": "user", "content": [{"type": "image"}]}], [{"content": "x"}]]
    for messages in bad:
        with pytest.raises(HeadwaterError, match=r"The conversation cannot be asked: .*(only text|not a conversation)"):
            client.describe(messages, SAID)


def test_the_page_has_turns(chats: Run, server: Live, chromium: Browser) -> None:
    site = Site(chats, chats, server, chromium)
    with site.visit() as visit:
        page = visit.open()
        expect(page.get_by_label("Prompt", exact=True)).to_be_hidden()
        page.get_by_label("What is said in turn 1").fill(ASKED)
        page.get_by_role("button", name="Add a turn").click()
        page.get_by_label("What is said in turn 2").fill(SAID)
        page.get_by_role("button", name="Add a turn").click()
        expect(page.get_by_label("Who speaks in turn 3")).to_have_value("user")
        page.get_by_label("What is said in turn 3").fill("So?")
        page.get_by_label("What it said").fill("The fox.")
        expect(page.locator("hw-question .readout")).to_contain_text("The fox.")
        page.get_by_role("button", name="Explain").click()
        answered(page)
        assert cards(page) == told(chats.ask(CHAT[:3], "The fox."))
        page.reload()
        answered(page)
        page.get_by_role("button", name="Change the question").click()
        page.get_by_role("button", name="Remove turn 3").click()
        page.get_by_role("button", name="Remove turn 2").click()
        page.get_by_label("What it said").fill(SAID)
        expect(page.locator("hw-question .readout")).to_contain_text(SAID)
        page.get_by_role("button", name="Explain").click()
        answered(page)
        assert cards(page) == told(chats.ask(ASKED, SAID))
        page.get_by_role("button", name="Change the question").click()
        page.get_by_label("The prompt is the whole text").check()
        expect(page.get_by_label("Prompt", exact=True)).to_have_value(ASKED)
        page.get_by_role("button", name="Explain").click()
        answered(page)
        assert cards(page) == told(chats.ask(ASKED, SAID, raw=True))
