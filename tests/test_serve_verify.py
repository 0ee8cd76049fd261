"""Verifying over HTTP: what the run itself finds, within limits, and stopped when it is no longer wanted."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from headwater.attribution.answer import Answer
from headwater.base.progress import Step
from headwater.render.verification import checked_with, headline, verdict, verification_html
from headwater.runs.run import Run
from headwater.serve.app import create_app
from headwater.verify.options import VerifyOptions
from headwater.verify.verification import Verification
from tests.serving import COMPLETION, PROMPT, make_run, until

QUESTION: dict[str, Any] = {"prompt": PROMPT, "completion": COMPLETION}
SHORT: dict[str, Any] = {"kind": "pbrf", "k": 1, "random": 1, "subset": 12, "iterations": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("verify"))


@pytest.fixture(scope="module")
def client(run: Run) -> Iterator[TestClient]:
    with TestClient(create_app(lambda: run), base_url="http://127.0.0.1") as made:
        until(lambda: made.get("/readyz").status_code == 200)
        yield made


def verify(client: TestClient, question: dict[str, Any] = QUESTION, wait: float = 20, **body: Any) -> Any:
    response = client.post(f"/v1/verifications?wait={wait}", json={"question": question, **body})
    assert response.status_code in (200, 202), response.text
    return response.json()


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(
    ("asked", "body", "options"),
    [
        ({"k": 3}, {}, VerifyOptions()),
        (
            {"k": 4, "span": [7, 16], "contrast": " lost a hat.", "layers": ["*.c_fc"], "damping": 1e-3, "exact": True},
            {"k": 2, "random": 3, "seed": 5},
            VerifyOptions(k=2, random=3, seed=5),
        ),
        (
            {"k": 2, "contrast": " lost a hat."},
            {**SHORT, "weight": -0.5},
            VerifyOptions(kind="pbrf", k=1, random=1, weight=-0.5, subset=12, iterations=2),
        ),
    ],
)
def test_a_verification_over_http_is_that_of_the_run(
    client: TestClient, run: Run, asked: dict[str, Any], body: dict[str, Any], options: VerifyOptions, kept: bool
) -> None:
    question = {**QUESTION, **asked, "rank_by": "relative" if kept else "influence"}
    if kept:
        client.post("/v1/influences?wait=20", json=question)
    told = verify(client, question, **body)
    assert told["state"] == "done"
    answer = client.post("/v1/influences?wait=20", json=question).json()["answer"]
    found = run.verify(Answer.from_json(json.dumps(answer)), options)
    assert told["answer"] == found.to_dict()
    assert told["meaning"] == f"{headline(found)} {verdict(found)}"
    assert told["made_with"] == checked_with(found)
    assert verify(client, question, **body)["id"] == told["id"]


def test_a_finished_answer_is_not_sought_again(client: TestClient, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    question = {**QUESTION, "k": 7}
    client.post("/v1/influences?wait=20", json=question)
    monkeypatch.setattr(run, "ask", None)
    assert verify(client, question)["state"] == "done"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"k": 51}, "less than or equal to 50"),
        ({"random": 101}, "less than or equal to 100"),
        ({"k": 0, "random": 0}, "at least one example"),
        ({"kind": "retrain"}, "'step' or 'pbrf'"),
        ({"weight": 0}, "removes nothing"),
        ({"weight": 1.5}, "less than or equal to 1"),
        ({"kind": "pbrf", "k": 10, "random": 5}, "25 responses .* take too long: at most 24"),
        ({"kind": "pbrf", "subset": 1024}, "15 responses × 1,024 reference examples × 40 iterations take too long"),
        ({"kind": "pbrf", "k": 1, "random": 0, "subset": 5000}, "less than or equal to 4096"),
        ({"iterations": 101}, "less than or equal to 100"),
        ({"question": {**QUESTION, "texts": ["A key."]}}, "only training examples"),
        ({"question": {"completion": COMPLETION}}, "give either prompt or messages"),
    ],
)
def test_what_would_take_too_long_or_means_nothing_is_refused(
    client: TestClient, body: dict[str, Any], words: str
) -> None:
    response = client.post("/v1/verifications", json={"question": QUESTION, **body})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert re.search(words, response.json()["detail"])


def test_a_verification_is_cancelled_between_two_iterations_and_leaves_the_model_as_it_was(
    client: TestClient, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, before = Run.verify, run.ask(PROMPT, COMPLETION)
    entered, cancelled = threading.Event(), threading.Event()

    def slowly(self: Run, answer: Answer, options: VerifyOptions) -> Verification:
        report = self.execution.report

        def held_up(step: Step) -> None:
            if step.note.startswith("iteration 1"):
                entered.set()
                cancelled.wait(10)
            report(step)

        return original(self.using(report=held_up), answer, options)

    monkeypatch.setattr(Run, "verify", slowly)
    id = verify(client, wait=0, **SHORT)["id"]
    assert entered.wait(10)
    running = client.get(f"/v1/jobs/{id}").json()
    assert (running["state"], running["stage"], running["done"], running["total"]) == ("running", "responses", 0, 3)
    client.delete(f"/v1/jobs/{id}")
    cancelled.set()
    assert client.get(f"/v1/jobs/{id}?wait=20").json()["state"] == "cancelled"
    assert run.ask(PROMPT, COMPLETION) == before


def test_a_question_that_cannot_be_answered_cannot_be_verified(client: TestClient) -> None:
    told = verify(client, {**QUESTION, "span": "no such words"})
    assert told["state"] == "failed"
    assert told["error"]["status"] == 422
    assert "is not in the completion" in told["error"]["detail"]


def test_a_verification_as_a_file(client: TestClient, run: Run) -> None:
    told = verify(client, k=2)
    files = {format: client.get(f"/v1/jobs/{told['id']}/answer?format={format}") for format in ("json", "html", "csv")}
    assert files["json"].json() == told["answer"]
    found = run.verify(run.ask(PROMPT, COMPLETION), k=2)
    assert files["html"].text == verification_html(found)
    assert files["html"].headers["content-disposition"] == 'attachment; filename="headwater-verification.html"'
    assert files["csv"].status_code == 422
    assert "only as json or html" in files["csv"].json()["detail"]
