"""A tiny run to serve, fitted and indexed; a server over it; questions that take as long as a test wants."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from headwater.attribution.answer import Answer
from headwater.attribution.options import AskOptions
from headwater.attribution.question import Question
from headwater.base.progress import Report, Step, silent
from headwater.runs.run import Run
from headwater.serve.app import create_app
from headwater.serve.server import Server, address_of, listen
from headwater.serve.settings import Settings
from tests.models import TEXT, plain_model, tiny_tokenizer

HOSTILE = "<script>alert('hm')</script> & \"more\""
NAMES = ("Lily", "Tom", "the fox", "an otter", "Mia", "the moon")
STORIES = [f"{TEXT[k % 4][: 20 + k % 30]} And {NAMES[k % 6]} saw {k} stars." for k in range(40)]
STORIES[0] = f"Once upon a time, Lily found {HOSTILE}"
ODD_ID = "tales/ein Märchen #1?"
PROMPT, COMPLETION = "Once upon a time, Lily", " found a shiny key."


def make_run(folder: Path, *, index: bool = True, more: Sequence[Mapping[str, Any]] = ()) -> Run:
    """A run of forty stories, and of `more` records, over a model of two layers."""
    plain_model("gpt_neo", torch.float32).save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    ids = [ODD_ID, *(f"s{k}" for k in range(1, len(STORIES)))]
    stories = [{"id": id, "text": text, "kind": "story"} for id, text in zip(ids, STORIES, strict=True)]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, [*stories, *more])), encoding="utf-8")
    run = Run.create(folder / "run", str(folder / "model"), folder / "corpus.jsonl")
    run.fit()
    if index:
        run.build_index()
    return run


class Live:
    """A real server over a run, in a thread; port 0 is any that is free."""

    def __init__(self, run: Run, settings: Settings = Settings(), port: int = 0) -> None:
        self._listener = listen("127.0.0.1", port)
        self.address = address_of("127.0.0.1", self._listener).rstrip("/")
        self.port: int = self._listener.getsockname()[1]
        app = create_app(lambda: run, settings)
        self._server = Server(app, app.state.service, lambda: None)
        self._thread = threading.Thread(target=lambda: self._server.run(sockets=[self._listener]), daemon=True)
        self._thread.start()
        until(lambda: self._server.started and app.state.service.worker.run is not None)

    def stop(self) -> None:
        """Everything has ended when it returns."""
        self._server.should_exit = True
        self._thread.join(20)
        self._listener.close()
        assert not self._thread.is_alive()

    def kill(self) -> None:
        """The same, but connections break off at once, as they do where a process dies."""
        for connection in list(self._server.server_state.connections):
            connection.loop.call_soon_threadsafe(connection.transport.abort)  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
        self._server.force_exit = True
        self.stop()


@contextmanager
def live(run: Run, settings: Settings = Settings()) -> Iterator[str]:
    """The address of a real server over the run, on a free port."""
    made = Live(run, settings)
    try:
        yield made.address
    finally:
        made.stop()


def until(holds: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never did"
        time.sleep(0.005)


class Gate:
    """Stands in for `run.ask`: reports batch after batch, and answers once it is opened."""

    def __init__(self, run: Run) -> None:
        self.ask = run.ask
        self.entered, self.opened = threading.Event(), threading.Event()
        self.report: Report = silent

        def using(**changes: Any) -> Run:  # the server asks a view of the run, which has the job's report
            self.report = changes["report"]
            return Run.using(run, **changes)

        vars(run)["using"] = using

    def __call__(self, question: Question, options: AskOptions = AskOptions()) -> Answer:
        self.entered.set()
        batch = 0
        while not self.opened.wait(0.005):
            batch += 1
            self.report(Step(stage="batches", done=batch, total=1_000_000, tokens=0))
        return self.ask(question, options=options)
