"""Who may ask the server, for what, and what is told to those who may not."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from headwater.errors import HeadwaterError
from headwater.runs.run import Run
from headwater.serve.app import create_app
from headwater.serve.limits import LIMITS
from headwater.serve.settings import Settings
from tests.serving import live, make_run

QUESTION = {"prompt": "Once upon", "completion": " a time"}
BASE = "http://127.0.0.1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("guard"), index=False)


def guarded(run: Run, **settings: Any) -> TestClient:
    """Without its worker: nothing here needs an answer."""
    return TestClient(create_app(lambda: run, Settings(**settings)), base_url=BASE)


def test_a_token_is_needed_for_the_api_and_the_metrics_alone(run: Run) -> None:
    client = guarded(run, token="correct-horse")
    for path in ("/v1/run", "/metrics", "/v1/nothing"):
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "correct-horse"}):
            response = client.get(path, headers=header)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
    for path in ("/", "/livez", "/openapi.json"):
        assert client.get(path).status_code == 200
    right = {"Authorization": "Bearer correct-horse"}
    assert client.get("/metrics", headers=right).status_code == 200
    assert client.get("/v1/nothing", headers=right).status_code == 404


@pytest.mark.parametrize(
    ("settings", "host", "status"),
    [
        ({}, "localhost:8321", 200),
        ({}, "127.0.0.1", 200),
        ({}, "[::1]:99", 200),
        ({}, "evil.example", 403),
        ({}, "127.0.0.1.evil.example", 403),
        ({}, "", 403),
        ({}, "[", 403),
        ({"allow_hosts": ("my.box",)}, "My.Box:80", 200),
        ({"allow_hosts": ("my.box",)}, "other.box", 403),
        ({"host": "0.0.0.0"}, "evil.example", 200),
        ({"host": "0.0.0.0", "allow_hosts": ("my.box",)}, "evil.example", 403),
    ],
)
def test_a_server_on_loopback_answers_to_its_own_names_only(
    run: Run, settings: dict[str, Any], host: str, status: int
) -> None:
    assert guarded(run, **settings).get("/livez", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": BASE}, 422),
        ({}, 422),
    ],
)
def test_a_page_of_another_site_may_not_ask(run: Run, headers: dict[str, str], status: int) -> None:
    client = guarded(run)
    assert client.post("/v1/generate", json={}, headers=headers).status_code == status
    assert client.delete("/v1/jobs/x", headers=headers).status_code == (403 if status == 403 else 404)
    assert client.get("/livez", headers=headers).status_code == 200


def test_a_body_may_be_so_long_whether_or_not_it_says_so(run: Run) -> None:
    client = guarded(run)
    long = b" " * (LIMITS.body_bytes + 1)

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(long), 1 << 16):
            yield long[start : start + (1 << 16)]

    for content in (long, chunks()):
        response = client.post("/v1/generate", content=content, headers={"Content-Type": "application/json"})
        assert response.status_code == 413
        assert response.headers["content-type"] == "application/problem+json"
    response = client.post("/v1/generate", content=long[:-1], headers={"Content-Type": "application/json"})
    assert response.status_code == 422


def test_a_body_too_long_is_refused_before_it_has_come(run: Run) -> None:
    with live(run) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=5) as caller:
            caller.sendall(b"POST /v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n{")
            assert caller.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/nowhere", b"", 404),
        ("GET", "/v1/jobs/none", b"", 404),
        ("PUT", "/v1/run", b"", 405),
        ("GET", "/v1/influences", b"", 405),
        ("POST", "/v1/generate", b"{", 422),
        ("POST", "/v1/generate", b"\xff", 400),
        ("POST", "/v1/generate", b"[" * 100_000, 400),
        ("POST", "/v1/generate", b'{"prompt": "a", "more": 1}', 422),
        ("POST", "/v1/generate", b'{"prompt": "\\ud800"}', 422),
        ("POST", "/v1/generate", b'{"prompt": 1}', 422),
        ("POST", "/v1/influences", b'{"prompt": "a", "damping": NaN}', 422),
        ("POST", "/v1/influences", b'{"prompt": "a", "damping": "much"}', 422),
        ("POST", "/v1/influences", b'{"prompt": "a", "k": 51}', 422),
        ("POST", "/v1/influences", b'{"prompt": "a", "k": true}', 422),
        ("POST", "/v1/influences", b'{"prompt": "a", "texts": ["b"], "where": "c"}', 422),
        ("POST", "/v1/tokens", b'{"prompt": "a", "example": "b", "text": "c"}', 422),
        ("GET", "/v1/jobs/none?wait=-1", b"", 422),
        ("GET", "/v1/run", b"", 503),
    ],
)
def test_every_refusal_is_a_problem_document(run: Run, method: str, path: str, content: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    response = guarded(run).request(method, path, content=content or None, headers=headers)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["instance"] == path.split("?")[0]
    if status == 422:
        assert problem["errors"][0]["where"].split(".")[0] in ("body", "query")


def test_an_accident_outside_the_worker_tells_nothing(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(lambda: run)
    app.state.service = None
    response = TestClient(app, base_url=BASE).get("/v1/run")
    assert response.status_code == 500
    assert "NoneType" not in response.text
    assert response.json()["detail"].split()[-1].rstrip(".") in caplog.text
    assert "NoneType" in caplog.text


def test_browsers_are_told_to_run_nothing_else(run: Run) -> None:
    client = guarded(run, frame_ancestors=("https://example.org",))
    for response in (client.get("/"), client.get("/nowhere"), client.get("/livez", headers={"Host": "evil"})):
        policy = response.headers["content-security-policy"].split("; ")
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "frame-ancestors https://example.org" in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "settings",
    [
        {"queue": 0},
        {"token": "two words"},
        {"token": "Schlüssel"},
        {"frame_ancestors": ("a; script-src *",)},
    ],
)
def test_settings_that_cannot_hold_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(HeadwaterError):
        Settings(**settings)


def test_the_question_in_a_problem_is_plain_ascii(run: Run) -> None:
    response = guarded(run).get("/v1/examples/%F0%9F%A6%8A%00")
    assert response.content.isascii()
    assert json.loads(response.content)["instance"] == "/v1/examples/%F0%9F%A6%8A%00"
