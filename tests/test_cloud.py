"""Renting a pod for a fit: the exact request, sent to a fake Runpod on this machine, and its refusals."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner

from headwater.cli import app
from headwater.errors import HeadwaterError
from headwater.runpod.pods import FitPod, create_request, stop_request

KEY = "rpa_secret"
POD = FitPod(run="runs/ts", fit=("--model", "me/tiny", "--corpus", "me/stories"), image="me/headwater:1", volume="vol1")
START = (
    "mkdir -p /runpod-volume/runs; { headwater fit /runpod-volume/runs/ts --model me/tiny --corpus me/stories && "
    "headwater index /runpod-volume/runs/ts; } 2>&1 | tee -a /runpod-volume/runs/ts.log; "
    'headwater cloud stop || runpodctl stop pod "$RUNPOD_POD_ID"; sleep 300'
)


@dataclass(kw_only=True)
class Endpoint:
    """A fake of Runpod's API: what it answers, and what it was asked."""

    url: str
    status: int = 201
    answer: bytes = b'{"id": "pod1", "status": "PROVISIONING", "cost": 0.69}'
    headers: dict[str, str] = field(default_factory=dict[str, str])
    asked: list[tuple[str, str, dict[str, str], Any]] = field(
        default_factory=list[tuple[str, str, dict[str, str], Any]]
    )
    """Method, path, headers and body of every request."""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.asked.append((self.command, self.path, dict(self.headers), body))
            self.send_response(made.status)
            for name, value in made.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(made.answer)

        def do_GET(self) -> None:
            made.asked.append((self.command, self.path, dict(self.headers), None))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    made = Endpoint(url=f"http://127.0.0.1:{server.server_port}/v2")
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


def headwater(*arguments: str) -> tuple[int, str, BaseException | None]:
    """Exit code, everything said, and what was raised."""
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output, result.exception


def fit(url: str, *more: str) -> tuple[int, str, BaseException | None]:
    return headwater(
        "cloud",
        "fit",
        "runs/ts",
        "--model",
        "me/tiny",
        "--corpus",
        "me/stories",
        "--volume",
        "vol1",
        "--image",
        "me/headwater:1",
        "--api-url",
        url,
        *more,
    )


def test_a_pod_is_rented_with_one_exact_request(endpoint: Endpoint) -> None:
    code, said, error = fit(endpoint.url)
    assert code == 0, error
    ((method, path, headers, body),) = endpoint.asked
    assert (method, path) == ("POST", "/v2/pods")
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("headwater/")
    assert body == {
        "name": "headwater-fit",
        "image": "me/headwater:1",
        "cloud": "SECURE",
        "gpu": {"id": "NVIDIA GeForce RTX 4090", "count": 1},
        "disk": 20,
        "mounts": {"network": [{"volumeId": "vol1", "path": "/runpod-volume"}]},
        "env": {"HEADWATER_RUN": "/runpod-volume/runs/ts", "HF_HOME": "/runpod-volume/huggingface"},
        "args": shlex.join(["bash", "-c", START]),
    }
    assert "Rented pod pod1, $0.69 an hour" in said
    assert "headwater cloud stop pod1" in said
    assert KEY not in said


def test_choices_reach_the_request(endpoint: Endpoint) -> None:
    code, _, error = fit(
        endpoint.url,
        "--gpu",
        "NVIDIA A40",
        "--gpu-count",
        "2",
        "--min-cuda",
        "12.8",
        "--cloud",
        "COMMUNITY",
        "--data-center",
        "EU-RO-1",
        "--disk",
        "50",
        "--name",
        "mine",
        "--no-index",
        "--hf-secret",
        "hub",
        "--limit",
        "20",
        "--text-field",
        "my text",
    )
    assert code == 0, error
    body = endpoint.asked[0][3]
    assert body["gpu"] == {"id": "NVIDIA A40", "count": 2, "minCudaVersion": "12.8"}
    assert (body["cloud"], body["dataCenterIds"], body["disk"], body["name"]) == ("COMMUNITY", ["EU-RO-1"], 50, "mine")
    assert body["env"]["HF_TOKEN"] == "{{ RUNPOD_SECRET_hub }}"
    assert "--limit 20 --text-field 'my text'; } 2>&1" in shlex.split(body["args"])[2]
    assert "headwater index" not in body["args"]


def test_a_dry_run_prints_the_request_and_sends_nothing(endpoint: Endpoint) -> None:
    code, said, _ = fit(endpoint.url, "--dry-run")
    assert code == 0
    assert not endpoint.asked
    head, _, body = said.partition("\n\n")
    assert head.splitlines() == [
        f"POST {endpoint.url}/pods",
        "Authorization: Bearer $RUNPOD_API_KEY",
        "Content-Type: application/json",
    ]
    assert json.loads(body) == create_request(POD, endpoint.url).body
    assert KEY not in said


@pytest.mark.parametrize(
    ("status", "answer", "message"),
    [
        (
            401,
            {"title": "Unauthorized", "status": 401, "detail": "invalid token"},
            "not accept the key .*invalid token",
        ),
        (402, {"title": "Payment Required", "detail": "balance too low"}, "more credit .*balance too low.* Billing"),
        (403, {"title": "Forbidden", "detail": "access denied"}, "may not do this .*access denied"),
        (429, {"title": "Too Many Requests", "detail": "rate limit exceeded"}, "too many requests"),
        (
            400,
            {"title": "Bad Request", "detail": "There are no longer any instances available"},
            "no such GPU free now",
        ),
        (
            422,
            {"detail": "Request validation failed.", "errors": ["gpu.id: unknown", "disk: too big"]},
            r"HTTP 422: Request validation failed; gpu.id: unknown; disk: too big",
        ),
        (500, {"message": "boom"}, "HTTP 500: boom"),
        (502, "<html>Bad gateway</html>", "HTTP 502: <html>Bad gateway"),
        (404, "", "HTTP 404: without a word"),
        (200, "not json", "answered something that is not JSON"),
        (201, {"name": "nameless"}, "answer has no pod id"),
    ],
)
def test_refusals_carry_runpods_own_words(status: int, answer: Any, message: str, endpoint: Endpoint) -> None:
    endpoint.status = status
    endpoint.answer = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
    code, said, error = fit(endpoint.url)
    assert code != 0
    with pytest.raises(HeadwaterError, match=message):
        raise error or AssertionError
    assert KEY not in said + str(error)


def test_the_key_follows_no_redirect_and_leaves_only_by_https(endpoint: Endpoint) -> None:
    endpoint.status, endpoint.headers = 302, {"Location": f"{endpoint.url}/elsewhere"}
    _, _, error = fit(endpoint.url)
    assert "Runpod's API has moved (HTTP 302)" in str(error)
    assert len(endpoint.asked) == 1
    for url in ("http://api.example.org/v2", "ftp://localhost.example.org", "nonsense"):
        with pytest.raises(HeadwaterError, match="not an https address"):
            create_request(POD, url)


def test_without_a_key_nothing_is_sent(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNPOD_API_KEY")
    _, _, error = fit(endpoint.url)
    assert "Set RUNPOD_API_KEY" in str(error)
    assert not endpoint.asked
    assert fit(endpoint.url, "--dry-run")[0] == 0


def test_an_endpoint_out_of_reach_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    _, _, error = fit("http://127.0.0.1:1/v2")
    assert "127.0.0.1:1 cannot be reached" in str(error)


def test_what_fit_would_refuse_is_refused_before_anything_is_rented(endpoint: Endpoint) -> None:
    for wrong, message in ((["--curvature", "wow"], "ekfac"), (["--no-such"], "No such option"), (["x"], "unexpected")):
        code, said, _ = fit(endpoint.url, *wrong)
        assert code == 2
        assert message in said
    assert not endpoint.asked


@pytest.mark.parametrize("run", ["../elsewhere", "/data/run", "", ".", "runs/../../x"])
def test_a_run_off_the_volume_is_refused(run: str) -> None:
    with pytest.raises(HeadwaterError, match="not on the volume"):
        create_request(replace(POD, run=run))


def test_a_run_may_be_named_by_its_whole_path() -> None:
    assert create_request(replace(POD, run="/runpod-volume/runs/ts")) == create_request(POD)


def test_the_start_command_fits_logs_and_stops_whether_or_not_the_fit_works(tmp_path: Path) -> None:
    """The real bash, with stand-ins for the commands, which write down how they were called."""
    for name, code in (
        ("headwater", '[ "$1" != cloud ] && [ "$2" != /runpod-volume/bad ]'),
        ("runpodctl", "true"),
        ("sleep", "true"),
        ("mkdir", "true"),
        ("tee", "cat"),
    ):
        script = tmp_path / name
        script.write_text(f'#!/bin/bash\necho "{name} $*" >> {tmp_path}/calls\n{code}\n', encoding="utf-8")
        script.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "RUNPOD_POD_ID": "pod1"}
    odd = "it's; rm -rf $HOME `date`"
    for run, done in (("runs/it's", ["fit", "index"]), ("bad", ["fit"])):
        pod = replace(POD, run=run, fit=("--corpus", odd))
        (tmp_path / "calls").write_text("", encoding="utf-8")
        subprocess.run(shlex.split(pod.start), env=env, check=True, capture_output=True)
        calls = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
        assert [call.split()[1] for call in calls if call.startswith("headwater")] == [*done, "cloud"]
        assert f"headwater fit {pod.path} --corpus {odd}" in calls
        assert calls[-2:] == ["runpodctl stop pod pod1", "sleep 300"]


def test_a_pod_is_stopped(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint.status, endpoint.answer = 200, b""
    assert headwater("cloud", "stop", "pod1", "--api-url", endpoint.url)[0] == 0
    monkeypatch.setenv("RUNPOD_POD_ID", "pod2")  # as on the pod itself
    assert headwater("cloud", "stop", "--api-url", endpoint.url)[0] == 0
    assert headwater("cloud", "stop", "--api-url", endpoint.url, "--dry-run")[0] == 0
    assert [(method, path, body) for method, path, _, body in endpoint.asked] == [
        ("POST", "/v2/pods/pod1/action", {"action": "stop"}),
        ("POST", "/v2/pods/pod2/action", {"action": "stop"}),
    ]
    with pytest.raises(HeadwaterError, match="not the id of a pod"):
        stop_request("../serverless")
