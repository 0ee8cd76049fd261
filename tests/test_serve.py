"""The server: the same answers as the run, jobs that all end, a worker that outlives what goes wrong in it."""

from __future__ import annotations

import csv
import io
import json
import mimetypes
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from headwater.attribution.answer import Answer
from headwater.attribution.options import AskOptions, Sampling
from headwater.attribution.question import describe
from headwater.base.progress import Step
from headwater.errors import HeadwaterError
from headwater.runs.run import Run
from headwater.serve.app import create_app
from headwater.serve.jobs import Book, Job, Result
from headwater.serve.settings import Settings
from tests.serving import COMPLETION, HOSTILE, ODD_ID, PROMPT, Gate, live, make_run, until

QUESTION = {"prompt": PROMPT, "completion": COMPLETION}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("serve"))


@contextmanager
def serving(run: Run, settings: Settings = Settings()) -> Iterator[TestClient]:
    with TestClient(create_app(lambda: run, settings), base_url="http://127.0.0.1") as client:
        until(lambda: client.get("/readyz").status_code == 200)
        yield client


@pytest.fixture(scope="module")
def client(run: Run) -> Iterator[TestClient]:
    with serving(run) as made:
        yield made


@pytest.fixture
def gate(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Questions take until it is opened."""
    made = Gate(run)
    monkeypatch.setattr(run, "ask", made)
    yield made
    made.opened.set()


def ask(client: TestClient, wait: float = 20, **body: Any) -> Any:
    response = client.post(f"/v1/influences?wait={wait}", json={**QUESTION, **body})
    assert response.status_code in (200, 202), response.text
    return response.json()


def job(client: TestClient, id: str, wait: float = 20) -> Any:
    return client.get(f"/v1/jobs/{id}?wait={wait}").json()


# -- answers


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({}, AskOptions()),
        ({"k": 2, "exact": True, "rank_by": "relative"}, AskOptions(k=2, exact=True, rank_by="relative")),
        (
            {"k": 3, "where": "tokens < 30", "contains": "saw", "fold": False, "candidates": 20},
            AskOptions(k=3, where="tokens < 30", contains="saw", fold=False, candidates=20),
        ),
        (
            {"layers": ["*.c_fc"], "query_rank": 4, "damping": 1e-3, "exact": True},
            AskOptions(layers=("*.c_fc",), query_rank=4, damping=1e-3, exact=True),
        ),
        ({"solver": "cg", "iterations": 2, "subset": 20}, AskOptions(solver="cg", iterations=2, subset=20)),
    ],
)
def test_an_answer_over_http_is_the_answer_of_the_run(
    client: TestClient, run: Run, body: dict[str, Any], options: AskOptions
) -> None:
    told = ask(client, span=[7, 16], contrast=" lost a hat.", **body)
    question = run.question(PROMPT, COMPLETION, (7, 16), contrast=" lost a hat.")
    assert told["state"] == "done"
    assert told["answer"] == json.loads(run.ask(question, options=options).to_json())


def test_texts_are_scored_in_place_of_the_corpus(client: TestClient, run: Run) -> None:
    texts = ["Lily found a key.", "Tom lost his hat."]
    told = ask(client, texts=texts, k=2)
    assert told["answer"] == json.loads(run.ask_against(run.question(PROMPT, COMPLETION), texts, k=2).to_json())


def test_what_the_model_says_and_how_surprised_it_is(client: TestClient, run: Run) -> None:
    sampling = {"max_new_tokens": 5, "temperature": 0.8, "seed": 3}
    told = client.post("/v1/generate", json={"prompt": PROMPT, "sampling": sampling}).json()
    assert told == asdict(describe(run.lm, run.question(PROMPT, sampling=Sampling(5, 0.8, 3))))
    told = client.post("/v1/queries", json={**QUESTION, "span": "shiny key"}).json()
    assert told == asdict(describe(run.lm, run.question(PROMPT, COMPLETION, "shiny key")))


def test_a_token_map_of_an_example_and_of_a_text(client: TestClient, run: Run) -> None:
    question = run.question(PROMPT, COMPLETION, contrast=" lost a hat.")
    asked = {**QUESTION, "contrast": " lost a hat.", "layers": ["*.0.*"]}
    told = client.post("/v1/tokens", json={**asked, "example": ODD_ID}).json()
    assert told == asdict(run.token_map(question, ODD_ID, layers=("*.0.*",)))
    told = client.post("/v1/tokens", json={**asked, "text": "A key."}).json()
    assert told == asdict(run.token_map(question, text="A key.", layers=("*.0.*",)))


def test_an_example_with_an_odd_id_and_what_is_said_of_the_run(client: TestClient, run: Run) -> None:
    told = client.get(f"/v1/examples/{quote(ODD_ID, safe='')}").json()
    assert told["id"] == ODD_ID
    assert "".join(told["tokens"]) == told["text"] == run.example(ODD_ID).text
    assert told["metadata"] == {"kind": "story"}
    about = client.get("/v1/run").json()
    assert about["examples"] == 40
    assert about["tokens"] == run.corpus.counts.tokens
    assert about["fingerprints"]["model"] == run.lm.fingerprint
    assert "kind" in about["index"]["columns"]
    assert about["prompts"][2] == {"prompt": "Once upon a time, Lily found a shiny", "completion": None}


def test_the_prompts_of_a_run_are_those_written_beside_it(run: Run) -> None:
    path = run.path / "examples.jsonl"
    path.write_text(json.dumps(QUESTION) + "\nnot JSON\n" + json.dumps({"prompt": "Tom"}), encoding="utf-8")
    try:
        with serving(run) as client:
            assert client.get("/v1/run").json()["prompts"] == [QUESTION, {"prompt": "Tom", "completion": None}]
    finally:
        path.unlink()


def test_an_answer_in_four_formats(client: TestClient) -> None:
    told = ask(client, k=20)
    files = {
        format: client.get(f"/v1/jobs/{told['id']}/answer?format={format}")
        for format in ("json", "csv", "parquet", "html")
    }
    for format, file in files.items():
        assert file.headers["content-disposition"] == f'attachment; filename="headwater-answer.{format}"'
    answer = Answer.from_json(files["json"].content)
    ids = [example.id for example in answer.proponents + answer.opponents]
    assert ODD_ID in ids
    assert [row["id"] for row in csv.DictReader(io.StringIO(files["csv"].text))] == ids
    assert pq.read_table(io.BytesIO(files["parquet"].content))["id"].to_pylist() == ids
    page = files["html"].text
    assert "&lt;" in page
    assert HOSTILE not in page
    assert "<script" not in page
    assert files["html"].headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'"


# -- jobs


def test_the_same_question_is_answered_from_the_finished_one(client: TestClient) -> None:
    first = ask(client, k=4)
    response = client.post("/v1/influences", json={**QUESTION, "k": 4, "span": None})
    assert response.status_code == 200
    assert response.json() == first
    assert response.headers["location"] == f"/v1/jobs/{first['id']}"


def test_events_tell_the_stages_and_end(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Run.ask

    def slow(self: Run, question: Any, options: AskOptions) -> Answer:
        for done in (1, 2):
            self.execution.report(Step(stage="reading", done=done, total=2, tokens=0, note="slowly"))
            time.sleep(0.15)
        return original(self, question, options=options)

    monkeypatch.setattr(Run, "ask", slow)
    id = ask(client, wait=0, k=5)["id"]
    text = client.get(f"/v1/jobs/{id}/events").text
    told = [event.split("\n") for event in text.strip().split("\n\n")]
    names, jobs = [lines[0] for lines in told], [json.loads(lines[1].removeprefix("data: ")) for lines in told]
    assert names == ["event: progress"] * (len(told) - 1) + ["event: end"]
    assert ("reading", 2, 2, "slowly") in [(j["stage"], j["done"], j["total"], j["note"]) for j in jobs]
    assert jobs[-1]["state"] == "done"
    assert all(j["answer"] is None for j in jobs)
    assert job(client, id)["answer"]["proponents"]


def test_queued_and_running_jobs_can_be_cancelled(client: TestClient, gate: Gate) -> None:
    running, queued, last = (ask(client, wait=0, k=k)["id"] for k in (11, 12, 13))
    gate.entered.wait(5)
    assert [job(client, id, 0)["place"] for id in (running, queued, last)] == [0, 1, 2]
    assert client.delete(f"/v1/jobs/{queued}").json()["state"] == "cancelled"
    assert job(client, last, 0)["place"] == 1
    client.delete(f"/v1/jobs/{running}")
    told = job(client, running)
    assert told["state"] == "cancelled"
    assert told["seconds"] > 0
    assert client.delete(f"/v1/jobs/{running}").json()["state"] == "cancelled"
    refused = client.get(f"/v1/jobs/{running}/answer")
    assert refused.status_code == 409
    assert "cancelled" in refused.json()["detail"]
    gate.opened.set()
    assert job(client, last)["state"] == "done"
    assert client.delete(f"/v1/jobs/{last}").json()["state"] == "done"


def test_a_full_queue_says_when_to_come_again_and_loses_nothing(run: Run, gate: Gate) -> None:
    with serving(run, Settings(queue=2)) as client:
        ids = [ask(client, wait=0, k=1)["id"]]
        gate.entered.wait(5)
        ids += [ask(client, wait=0, k=k)["id"] for k in (2, 3)]
        for path, body in (("/v1/influences", {**QUESTION, "k": 4}), ("/v1/generate", {"prompt": PROMPT})):
            refused = client.post(path, json=body)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
        assert "headwater_queue_length 2.0" in client.get("/metrics").text
        gate.opened.set()
        assert [job(client, id)["state"] for id in ids] == ["done"] * 3
        assert ask(client, k=4)["state"] == "done"


def test_only_the_last_answers_are_kept(run: Run) -> None:
    with serving(run, Settings(kept=2)) as client:
        ids = [ask(client, k=k)["id"] for k in (1, 2)]
        job(client, ids[0])  # asked for again, so the other one is the oldest
        ids.append(ask(client, k=3)["id"])
        assert [client.get(f"/v1/jobs/{id}").status_code for id in ids] == [200, 404, 200]
        assert "Ask the question again" in client.get(f"/v1/jobs/{ids[1]}").json()["detail"]
        assert ask(client, k=2)["id"] != ids[1]


def test_kept_answers_are_bounded_in_bytes_too() -> None:
    book = Book(kept=100, kept_bytes=1000)
    jobs = [Job("test", lambda _: Result()) for _ in range(4)]
    for each in jobs:
        book.enter(each)
        each.end("done", Result(b"x" * 400))
        book.ended(each)
    assert [book.find(each.id) for each in jobs] == [None, None, *jobs[2:]]


def test_a_mistake_fails_the_job_with_its_message(client: TestClient) -> None:
    told = ask(client, span="no such words")
    assert told["state"] == "failed"
    assert told["error"]["status"] == 422
    assert "is not in the completion" in told["error"]["detail"]
    assert told["error"]["instance"] == f"/v1/jobs/{told['id']}"


class Panic(BaseException):
    """As what comes out of Rust: no Exception."""


@pytest.mark.parametrize(
    ("k", "error"),
    [
        (21, RuntimeError("secret-of-the-house")),
        (22, Panic("secret-of-the-house")),
    ],
)
def test_a_fault_inside_the_worker_tells_nothing_and_the_server_goes_on(
    run: Run,
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    k: int,
    error: BaseException,
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(run, "ask", broken)
        patch.setattr(run, "question", broken)
        told = ask(client, k=k)
        response = client.post("/v1/generate", json={"prompt": PROMPT})
    assert told["state"] == "failed"
    assert told["error"]["status"] == response.status_code == 500
    for problem in (told["error"], response.json()):
        assert "secret" not in json.dumps(problem)
        assert "Traceback" not in json.dumps(problem)
        reference = problem["detail"].split()[-1].rstrip(".")
        assert reference in caplog.text
    assert "secret-of-the-house" in caplog.text
    assert ask(client, k=k)["state"] == "done"


def test_a_caller_who_goes_away_takes_a_waiting_task_along(run: Run, gate: Gate) -> None:
    with live(run) as url:
        host, port = url.removeprefix("http://").split(":")
        body = json.dumps({"prompt": PROMPT}).encode()
        generate = b"POST /v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        post = json.dumps(QUESTION).encode()
        with socket.create_connection((host, int(port))) as asker:
            asker.sendall(
                b"POST /v1/influences HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                + f"Content-Length: {len(post)}\r\n\r\n".encode()
                + post
            )
            assert b" 202 " in asker.recv(100)
            gate.entered.wait(5)
            with socket.create_connection((host, int(port))) as caller:
                caller.sendall(generate + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
                until(lambda: queue_length(url) == 1)
            until(lambda: queue_length(url) == 0)
        gate.opened.set()


def queue_length(url: str) -> float:
    lines = urlopen(f"{url}/metrics").read().decode().splitlines()
    return float(next(line for line in lines if line.startswith("headwater_queue_length")).split()[1])


def test_a_server_that_stops_ends_every_job_and_every_stream(run: Run, gate: Gate) -> None:
    def post(k: int) -> Any:
        body = json.dumps({**QUESTION, "k": k}).encode()
        request = Request(f"{url}/v1/influences", body, {"Content-Type": "application/json"})
        return json.loads(urlopen(request).read())

    start = time.monotonic()
    with live(run) as url:
        ids = [post(k)["id"] for k in (1, 2)]
        gate.entered.wait(5)
        streams = [urlopen(f"{url}/v1/jobs/{id}/events") for id in ids]
        assert all(stream.readline() == b"event: progress\n" for stream in streams)
    assert time.monotonic() - start < 10
    for stream in streams:
        name, data = stream.read().decode().strip().split("\n\n")[-1].split("\n")
        assert name == "event: end"
        assert json.loads(data.removeprefix("data: "))["state"] == "cancelled"
        assert "stopped" in json.loads(data.removeprefix("data: "))["note"]


# -- the server


def test_ready_once_the_run_is_loaded(run: Run, gate: Gate) -> None:
    def slowly() -> Run:
        gate.opened.wait(10)
        return run

    with TestClient(create_app(slowly), base_url="http://127.0.0.1") as client:
        assert client.get("/livez").json() == {"status": "alive"}
        for path in ("/readyz", "/v1/run", "/v1/examples/s1"):
            response = client.get(path)
            assert response.status_code == 503
            assert response.headers["retry-after"] == "1"
            assert response.json()["detail"] == "The run is loading."
        assert client.get("/").status_code == 200
        queued = ask(client, wait=0, k=1)
        gate.opened.set()
        until(lambda: client.get("/readyz").json() == {"status": "ready"})
        assert job(client, queued["id"])["state"] == "done"


def test_a_run_that_cannot_be_loaded_fails_what_waits_and_what_comes(gate: Gate) -> None:
    def never() -> Run:
        gate.opened.wait(10)
        raise HeadwaterError("Its model is gone.")

    with TestClient(create_app(never), base_url="http://127.0.0.1") as client:
        queued = ask(client, wait=0)
        gate.opened.set()
        assert "Its model is gone" in job(client, queued["id"])["error"]["detail"]
        response = client.post("/v1/influences", json=QUESTION)
        assert response.status_code == 503
        assert "Its model is gone" in response.json()["detail"]
        assert "Its model is gone" in client.get("/readyz").json()["detail"]


def test_metrics_count_requests_by_route_and_jobs_by_outcome(run: Run) -> None:
    with serving(run) as client:
        ask(client, k=1)
        ask(client, k=1)  # no second job
        ask(client, span="no such words")
        client.get(f"/v1/examples/{quote(ODD_ID)}")
        client.get("/nowhere")
        text = client.get("/metrics").text
    assert 'headwater_requests_total{method="POST",route="/v1/influences",status="200"} 3.0' in text
    assert 'route="/v1/examples/{id:path}",status="200"} 1.0' in text
    assert 'headwater_requests_total{method="GET",route="none",status="404"} 1.0' in text
    assert 'headwater_jobs_total{kind="influences",outcome="done"} 1.0' in text
    assert 'headwater_jobs_total{kind="influences",outcome="failed"} 1.0' in text
    assert f'model="{run.lm.name}"' in text


def test_the_page_and_its_scripts_come_with_their_types(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mimetypes.types_map, ".js", "text/plain")
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    folder = Path(__file__).parents[1] / "src" / "headwater" / "serve" / "web"
    for script in folder.rglob("*.js"):
        response = client.get(f"/{script.relative_to(folder).as_posix()}")
        assert response.headers["content-type"] == "text/javascript; charset=utf-8"
    assert client.get("/../app.py").status_code == 404
