"""The client against a real server, and `headwater serve` itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from typer.testing import CliRunner

from headwater.attribution.options import AskOptions, Sampling
from headwater.attribution.question import describe
from headwater.base.progress import Step
from headwater.cli import app
from headwater.cli import serve as serve_command
from headwater.errors import HeadwaterError
from headwater.runs.run import Run
from headwater.serve.client import Client
from headwater.serve.settings import Settings
from headwater.verify.options import VerifyOptions
from tests.serving import COMPLETION, ODD_ID, PROMPT, Gate, live, make_run, until

TOKEN = "correct-horse"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="module")
def url(run: Run) -> Iterator[str]:
    with live(run, Settings(token=TOKEN)) as address:
        yield address


@pytest.fixture
def client(url: str) -> Client:
    return Client(url, TOKEN)


def test_a_client_answers_as_the_run_does(client: Client, run: Run) -> None:
    options = AskOptions(k=3, layers=("*.c_fc",))
    asked = client.ask(PROMPT, COMPLETION, span=(7, 16), contrast=" lost a hat.", options=options, rank_by="relative")
    question = run.question(PROMPT, COMPLETION, (7, 16), contrast=" lost a hat.")
    assert asked == run.ask(question, options=options, rank_by="relative")
    texts = ["Lily found a key.", "Tom lost his hat."]
    question = run.question(PROMPT, COMPLETION)
    assert client.ask_against(PROMPT, COMPLETION, texts, k=1) == run.ask_against(question, texts, k=1)


def test_a_client_verifies_as_the_run_does(client: Client, run: Run) -> None:
    asked, options, told = AskOptions(k=3, layers=("*.c_fc",)), VerifyOptions(k=2, seed=7), list[Step]()
    found = client.verify(
        PROMPT, COMPLETION, contrast=" lost a hat.", asked=asked, options=options, random=4, on_progress=told.append
    )
    question = run.question(PROMPT, COMPLETION, contrast=" lost a hat.")
    assert found == run.verify(run.ask(question, options=asked), options, random=4)
    with pytest.raises(HeadwaterError, match=r"30 responses .* take too long"):
        client.verify(PROMPT, COMPLETION, kind="pbrf", k=10, random=10)


def test_the_other_questions(client: Client, run: Run) -> None:
    question = run.question(PROMPT, COMPLETION)
    assert client.generate(PROMPT, Sampling(4)) == describe(run.lm, run.question(PROMPT, sampling=Sampling(4)))
    assert client.describe(PROMPT, COMPLETION) == describe(run.lm, question)
    assert client.token_map(PROMPT, COMPLETION, example=ODD_ID) == run.token_map(question, ODD_ID)
    assert client.token_map(PROMPT, COMPLETION, text="A key.") == run.token_map(question, text="A key.")
    assert client.example(ODD_ID).text == run.example(ODD_ID).text
    assert client.info()["examples"] == 40


def test_progress_is_told(client: Client, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, told = Gate(run), list[Step]()
    monkeypatch.setattr(run, "ask", gate)

    def on_progress(step: Step) -> None:
        told.append(step)
        if len(told) == 2:
            gate.opened.set()

    client.ask(PROMPT, COMPLETION, k=7, on_progress=on_progress)
    assert {step.stage for step in told} >= {"batches"}
    assert told[1].done > told[0].done
    assert told[0].total == 1_000_000


def test_an_interrupt_cancels_the_job(client: Client, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(run)
    monkeypatch.setattr(run, "ask", gate)

    def interrupted(_: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.ask(PROMPT, COMPLETION, k=8, on_progress=interrupted)
    gate.entered.clear()
    late = threading.Timer(0.1, gate.opened.set)
    late.start()
    client.ask(PROMPT, COMPLETION, k=9)  # its turn comes only because the first was cancelled
    assert gate.entered.is_set()


def test_a_full_queue_is_come_back_to(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(run)
    monkeypatch.setattr(run, "ask", gate)
    with live(run, Settings(queue=1)) as url:
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda k=k: answers.append(Client(url).ask(PROMPT, COMPLETION, k=k)))
            for k in (1, 2, 3)
        ]
        threads[0].start()
        until(gate.entered.is_set)  # one job at work, so that one more may wait
        for thread in threads[1:]:
            thread.start()
        until(lambda: b'status="429"' in urlopen(f"{url}/metrics").read())
        with pytest.raises(HeadwaterError, match="jobs are waiting"):
            Client(url, patience=0).ask(PROMPT, COMPLETION, k=4)
        gate.opened.set()
        for thread in threads:
            thread.join(20)
    assert sorted(len(answer.proponents) for answer in answers) == [1, 2, 3]


def test_mistakes_and_refusals_are_said(client: Client, url: str) -> None:
    with pytest.raises(HeadwaterError, match="is not in the completion"):
        client.ask(PROMPT, COMPLETION, span="no such words")
    with pytest.raises(HeadwaterError, match=r"body\.k: .* 50"):
        client.ask(PROMPT, COMPLETION, k=51)
    with pytest.raises(HeadwaterError, match="No example of this run has the id 'none'"):
        client.example("none")
    with pytest.raises(HeadwaterError, match=r"No example of this run has the id '\.\.'"):
        client.example("..")
    with pytest.raises(HeadwaterError, match="Bring the server's token"):
        Client(url).info()
    with pytest.raises(HeadwaterError, match="There is no option 'top'"):
        client.ask(PROMPT, COMPLETION, top=5)
    with pytest.raises(HeadwaterError, match="damping=nan"):
        client.ask(PROMPT, COMPLETION, damping=float("nan"))
    with pytest.raises(HeadwaterError, match="cannot be sent"):
        client.token_map(PROMPT, COMPLETION, text="A key.", damping=float("nan"))
    with pytest.raises(HeadwaterError, match="is not the address of a server"):
        Client("localhost:8321")


def test_the_token_may_come_from_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_TOKEN", TOKEN)
    assert Client(url).info()["examples"] == 40


def test_where_no_server_answers_the_message_says_how_to_start_one() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(HeadwaterError, match="Start one: headwater serve RUN"):
            Client(f"http://127.0.0.1:{free.getsockname()[1]}").info()


def test_a_server_of_another_kind_is_known_and_no_token_follows_a_redirect() -> None:
    seen: list[str] = []

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with pytest.raises(HeadwaterError, match=r"answered 302 .* no server of Headwater"):
            Client(f"http://127.0.0.1:{other.server_port}", TOKEN).info()
        other.shutdown()
    assert seen == ["/v1/run"]


# -- the command


def test_the_command_serves_until_it_is_interrupted(run: Run) -> None:
    command = [sys.executable, "-m", "headwater", "serve", str(run.path), "--port", "0", "--no-open"]
    environment = os.environ | {"HEADWATER_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    url = next(word for word in process.stderr.readline().split() if word.startswith("http"))
    assert "token" in process.stderr.readline()
    until(lambda: json.loads(urlopen(f"{url}livez").read())["status"] == "alive")
    client = Client(url, TOKEN)  # what is asked while the run is loading waits for it
    assert client.ask(PROMPT, COMPLETION, k=1).proponents
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 0
    assert process.stderr.read().splitlines()[-1] == "Stopped."


def command(*arguments: str | Path | int) -> BaseException | None:
    return CliRunner().invoke(app, ["serve", *map(str, arguments), "--no-open"]).exception


def test_a_port_that_is_taken_and_a_run_that_is_none(run: Run, url: str, tmp_path: Path) -> None:
    taken = command(run.path, "--port", url.rsplit(":", 1)[1])
    assert isinstance(taken, HeadwaterError)
    assert "Give another --port" in str(taken)
    none = command(tmp_path, "--port", 0)
    assert "is not a Headwater run" in str(none)


def test_a_run_that_cannot_be_loaded_ends_the_command_with_the_reason(run: Run, tmp_path: Path) -> None:
    manifest = json.loads((run.path / "manifest.json").read_text())
    manifest["model"]["name"] = str(tmp_path / "gone")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    error = command(tmp_path, "--port", 0)
    assert isinstance(error, HeadwaterError)
    assert "gone" in str(error)


def test_without_its_packages_the_command_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_command, "find_spec", lambda name: None)  # pyright: ignore[reportUnknownLambdaType]
    assert "pip install 'headwater[serve]'" in str(command(run.path))
