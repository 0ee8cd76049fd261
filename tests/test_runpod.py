"""The Runpod worker: what a job gives, and the real SDK around it: alone, as a local server, beside a fake Runpod."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
import torch

from headwater.attribution.answer import Answer
from headwater.base.progress import Step, silent
from headwater.errors import HeadwaterError
from headwater.runpod import worker as worker_module
from headwater.runpod.worker import ProgressSender, UnavailableRun, answer_event, open_worker, stream_event
from headwater.runs.run import Run
from tests.answers import HOSTILE, answer, example, told
from tests.models import TEXT, plain_model, tiny_tokenizer

ROOT = Path(__file__).parents[1]
HANDLER = ROOT / "deploy" / "runpod" / "handler.py"
ASKED: dict[str, Any] = {"prompt": "Once upon a time, Lily", "completion": " found a shiny key.", "k": 3}


def job(**asked: Any) -> dict[str, Any]:
    return {"id": "job", "input": asked}


def unheard(_: dict[str, Any]) -> None:
    """Progress that nobody listens to."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Thirty stories with a hostile one among them, fitted and indexed."""
    folder = tmp_path_factory.mktemp("runpod")
    plain_model("gpt_neo", torch.float32).save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    texts = [f"{TEXT[k % 4][: 20 + k]} And Tom saw {k} stars." for k in range(29)]
    texts.append("Once upon a time, Lily found <script>alert(1)</script> \u202e a shiny key.")
    lines = [json.dumps({"id": f"s{k}", "text": text, "kind": "story"}) for k, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    made = Run.create(folder / "run", str(folder / "model"), folder / "corpus.jsonl")
    made.fit()
    made.build_index()
    return made


# -- one job, without the SDK


def test_the_output_has_the_shape_of_the_first_page_and_the_right_numbers(run: Run) -> None:
    output = answer_event(run, job(**ASKED), unheard)
    (influence,) = output["influences"]
    assert influence["query"] == ASKED["prompt"] + ASKED["completion"]
    found = run.ask(ASKED["prompt"], ASKED["completion"], k=3)
    shown = [("raised", e) for e in found.proponents] + [("lowered", e) for e in found.opponents]
    assert len(influence["samples"]) == len(shown) > 0
    for sample, (end, known) in zip(influence["samples"], shown, strict=True):
        assert (sample["id"], sample["end"], sample["sample"]) == (known.id, end, known.text)
        assert sample["influence"] == pytest.approx(known.influence)
        assert "".join(token["token"] for token in sample["tokens"]) == sample["sample"]
        assert math.fsum(token["influence"] for token in sample["tokens"]) == pytest.approx(
            sample["influence"], rel=1e-4
        )
        assert sample["removal_effect"] == pytest.approx(-sample["influence"] / 30)
        assert sample["metadata"] == {"kind": "story"}


def test_the_output_holds_the_whole_answer_once(run: Run) -> None:
    output = json.loads(json.dumps(answer_event(run, job(**ASKED), unheard)))
    ends: dict[str, list[Any]] = {"raised": [], "lowered": []}
    for sample in output["influences"][0]["samples"]:
        ends[sample.pop("end")].append({"text": sample.pop("sample"), **sample})
    whole = output["answer"] | {"proponents": ends["raised"], "opponents": ends["lowered"]}
    assert Answer.from_json(json.dumps(whole)).to_dict() == whole
    assert "proponents" not in output["answer"]


def test_without_a_completion_the_model_continues(run: Run) -> None:
    output = answer_event(run, job(prompt="Once upon a time", k=1), unheard)
    assert output["answer"]["query"]["generated"]
    assert output["influences"][0]["query"].startswith("Once upon a time")


def test_a_span_is_explained_alone(run: Run) -> None:
    output = answer_event(run, job(**ASKED, span="key"), unheard)
    assert output["answer"]["query"]["span"] == "key"
    assert any(
        "<script>alert(1)</script>" in s["sample"]
        for s in answer_event(run, job(prompt="Lily found <script>", completion="alert(1)</script>", k=30), unheard)[
            "influences"
        ][0]["samples"]
    )


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (None, "The input must be an object"),
        ([], "The input must be an object"),
        ({}, "prompt is missing."),
        ({"prompt": "a", "top": 3}, "'top' is not an input. The inputs are prompt, completion, span, k, stream."),
        ({"prompt": 3}, "prompt: Input should be a valid string."),
        ({"prompt": "a", "k": "3"}, "k: Input should be a valid integer."),
        ({"prompt": "a", "k": 0}, "k: Input should be greater than or equal to 1."),
        ({"prompt": "a", "k": 101}, "k: Input should be less than or equal to 100."),
        ({"prompt": "a" * 20_001}, "prompt: String should have at most 20000 characters."),
        ({"prompt": "\ud800"}, "prompt: Input should be a valid string, unable to parse"),
        ({"prompt": ""}, "The prompt is empty."),
        ({"prompt": "a", "completion": ""}, "The completion of query is empty"),
        ({"prompt": "a", "completion": "b", "span": "c"}, "The span 'c' is not in the completion"),
        ({"prompt": "a b " * 99, "completion": "c"}, "the model reads at most 64"),
        ({"prompt": "a", "stream": True}, "This endpoint does not stream."),
    ],
)
def test_mistakes_become_one_readable_error_and_keep_the_worker(asked: Any, message: str, run: Run) -> None:
    output = answer_event(run, {"id": "job", "input": asked}, unheard)
    assert list(output) == ["error"]
    assert message in output["error"]
    assert "Traceback" not in output["error"]
    if asked is not None and "stream" not in asked:
        assert list(stream_event(run, {"id": "job", "input": asked}, unheard)) == [output]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_answered_or_refused_and_travel_as_json(text: str, run: Run) -> None:
    output = answer_event(run, job(prompt=f"Lily {text}", completion=f"{text} key", k=1), unheard)
    assert json.loads(json.dumps(output, ensure_ascii=False).encode()) == output
    assert "refresh_worker" not in output
    if "error" not in output:
        assert output["influences"][0]["query"] == f"Lily {text}{text} key"


@pytest.mark.parametrize(
    ("error", "poisoned"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED when calling cublasSgemm"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (MemoryError(), True),
        (RuntimeError("Expected all tensors to be on the same device, but found cuda:0 and cpu!"), False),
        (KeyError("secret of the house"), False),
        (HeadwaterError("There is no index."), False),
    ],
)
def test_only_a_failing_device_replaces_the_worker(
    error: Exception, poisoned: bool, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(run, "ask", fail)
    for output in (
        answer_event(run, job(**ASKED), unheard),
        list(stream_event(run, job(**ASKED, stream=True), unheard))[-1],
    ):
        assert output.get("refresh_worker", False) is poisoned
        assert "Traceback" not in output["error"]
        if isinstance(error, HeadwaterError):
            assert output["error"] == str(error)
        else:
            assert type(error).__name__ in output["error"]
            assert "secret of the house" not in output["error"]
    assert run.execution.report is silent


def test_a_device_that_fails_while_a_file_is_read_replaces_the_worker_too(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise HeadwaterError("curvature.safetensors cannot be read.") from RuntimeError("CUDA error: unknown error")

    monkeypatch.setattr(run, "ask", fail)
    output = answer_event(run, job(**ASKED), unheard)
    assert output == {"error": "curvature.safetensors cannot be read.", "refresh_worker": True}


def test_a_run_that_cannot_be_opened_is_said_to_every_job(tmp_path: Path) -> None:
    worker = open_worker(tmp_path / "none")
    assert isinstance(worker, UnavailableRun)
    for output in (answer_event(worker, job(**ASKED), unheard), *stream_event(worker, job(**ASKED), unheard)):
        assert output["refresh_worker"]
        assert "could not open its run" in output["error"]
        assert "not a Headwater run" in output["error"]


def test_a_run_named_on_the_hub_is_fetched_first(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def fetch(repository: str, **options: Any) -> None:
        asked.append((repository, options))
        (tmp_path / "run").symlink_to(run.path)

    monkeypatch.setattr("headwater.runs.hub.snapshot_download", fetch)
    assert isinstance(open_worker(tmp_path / "run", "model:me/stories@v2"), Run)
    assert asked == [("me/stories", {"repo_type": "model", "revision": "v2", "local_dir": tmp_path / "run"})]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stories", "'stories' is not the name of a hub repository"),
        ("space:me/stories", "is not the name of a hub repository"),
        (
            "me/stories",
            "Cannot download the run 'me/stories' from the hub: no way there. If it is private, set HF_TOKEN",
        ),
    ],
)
def test_a_run_that_cannot_be_fetched_says_why(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no way there\nand more")

    monkeypatch.setattr("headwater.runs.hub.snapshot_download", fail)
    worker = open_worker(tmp_path, name)
    assert isinstance(worker, UnavailableRun)
    assert message in worker.message


def test_a_stream_begins_with_the_question_and_goes_from_the_strongest_to_the_weakest(run: Run) -> None:
    first, *samples, last = stream_event(run, job(**ASKED, stream=True), unheard)
    whole = answer_event(run, job(**ASKED), unheard)
    assert first == {"query": whole["influences"][0]["query"], "completion": ASKED["completion"], "generated": False}
    strengths = [abs(sample["influence"]) for sample in samples]
    assert strengths == sorted(strengths, reverse=True)
    by_id = {sample["id"]: sample for sample in whole["influences"][0]["samples"]}
    assert {sample["id"]: sample for sample in samples} == by_id
    assert last == {"answer": whole["answer"]}
    assert list(stream_event(run, job(**ASKED), unheard)) == [whole]


def test_an_answer_too_large_for_the_queue_or_not_finite_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "MAX_BYTES", 1000)
    output = answer_event(run, job(**ASKED), unheard)
    assert list(output) == ["error"]
    assert "Ask for fewer examples" in output["error"]
    monkeypatch.setattr(run, "ask", lambda *_, **__: answer([example(told(("a", math.inf)))], []))
    assert "infinite or NaN" in answer_event(run, job(**ASKED), unheard)["error"]


# -- progress


def test_progress_is_numbered_and_sent_at_most_once_a_second_but_for_the_last_of_a_stage() -> None:
    sent: list[dict[str, Any]] = []
    now = [0.0]
    progress = ProgressSender(sent.append, lambda: now[0])
    for done in range(0, 101, 10):
        progress(Step(stage="scores", done=done, total=100, tokens=5))
        now[0] += 0.25
    progress(Step(stage="tokens", done=0, total=8, tokens=0))  # within the same second
    progress(Step(stage="tokens", done=6, total=8, tokens=0))
    progress(Step(stage="layers", done=1, total=2, tokens=0))  # ends a stage that never came to its own end
    progress.finish()
    progress.finish()
    assert [(update["stage"], update["step"], update["of"]) for update in sent] == [
        ("scores", 0, 100),
        ("scores", 40, 100),
        ("scores", 80, 100),
        ("scores", 100, 100),
        ("tokens", 6, 8),
        ("layers", 1, 2),
    ]
    assert [update["number"] for update in sent] == [1, 2, 3, 4, 5, 6]


def test_a_job_tells_its_progress(run: Run) -> None:
    sent: list[dict[str, Any]] = []
    answer_event(run, job(**ASKED), sent.append)
    assert [update["number"] for update in sent] == list(range(1, len(sent) + 1))
    assert all(set(update) == {"number", "stage", "step", "of"} for update in sent)
    assert sent


# -- under the SDK


@pytest.fixture(scope="session")
def python() -> str:
    """A Python with Runpod's SDK: that of .venv-runpod, or this one."""
    own = ROOT / ".venv-runpod" / "bin" / "python"
    if own.exists():
        return str(own)
    if find_spec("runpod") is not None:
        return sys.executable
    message = "Runpod's SDK is not installed: sh deploy/runpod/venv.sh"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def environment(run: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNPOD_")}
    return kept | {"HEADWATER_RUN": str(run), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **more}


def test_the_sdk_runs_a_test_input(python: str, run: Run) -> None:
    done = subprocess.run(
        [python, str(HANDLER), "--test_input", json.dumps({"input": ASKED | {"k": 1}})],
        env=environment(run.path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Job result: {'output': {'influences': [{'query': 'Once upon a time, Lily found" in done.stdout
    assert "progress {'number': 1, 'stage': " in done.stderr


@contextmanager
def started(python: str, arguments: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = subprocess.Popen([python, str(HANDLER), *arguments], env=env, stdout=file, stderr=file)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def local_server(python: str, run: Path, log: Path, **env: str) -> Iterator[str]:
    """The SDK's own local server around the handler, once it listens; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--rp_serve_api", "--rp_api_port", str(port), "--rp_api_host", "127.0.0.1"]
    with started(python, arguments, environment(run, **env), log) as process:
        until(lambda: listening(port) or process.poll() is not None, log)
        yield f"http://127.0.0.1:{port}"


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(true: Any, log: Path, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.05)


def post(url: str, body: object = None) -> Any:
    data = json.dumps(body).encode()
    request = Request(url, data, {"Content-Type": "application/json"}, method="POST")
    try:
        with urlopen(request, timeout=60) as response:
            return json.loads(response.read())
    except URLError as error:
        raise AssertionError(f"{url}: {error}") from error


def test_the_local_server_answers_whole(python: str, run: Run, tmp_path: Path) -> None:
    with local_server(python, run.path, tmp_path / "log") as url:
        found = post(f"{url}/runsync", {"input": ASKED})
        assert found["status"] == "COMPLETED"
        assert found["output"] == json.loads(json.dumps(answer_event(run, job(**ASKED), unheard)))
        refused = post(f"{url}/runsync", {"input": ASKED | {"k": 1000}})
        assert (refused["status"], refused["error"]) == ("FAILED", "k: Input should be less than or equal to 100.")
        later = post(f"{url}/run", {"input": ASKED})
        assert post(f"{url}/status/{later['id']}")["output"] == found["output"]


def test_the_local_server_streams(python: str, run: Run, tmp_path: Path) -> None:
    with local_server(python, run.path, tmp_path / "log", HEADWATER_STREAM="1") as url:
        asked = post(f"{url}/run", {"input": ASKED | {"stream": True}})
        streamed = post(f"{url}/stream/{asked['id']}")
        parts = [part["output"] for part in streamed["stream"]]
        assert parts == json.loads(json.dumps(list(stream_event(run, job(**ASKED, stream=True), unheard))))
        whole = post(f"{url}/runsync", {"input": ASKED})
        assert whole["output"] == [json.loads(json.dumps(answer_event(run, job(**ASKED), unheard)))]
        assert list(post(f"{url}/runsync", {"input": {"prompt": 1}})["output"][0]) == ["error"]


# -- beside a fake Runpod, which hands out jobs and takes what comes back


@dataclass
class Queue:
    """What a fake Runpod hands out and has been sent."""

    jobs: list[dict[str, Any]]
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    """The path and the body of every post, in the order they came."""

    def of(self, name: str) -> list[tuple[str, dict[str, Any]]]:
        return [(path, body) for path, body in self.sent if f"/{name}?" in path or path.endswith(f"/{name}")]

    def finished(self) -> int:
        return sum(body.get("status") != "IN_PROGRESS" for path, body in self.sent if path.startswith("/done/"))


@contextmanager
def fake_runpod(*jobs: dict[str, Any]) -> Iterator[tuple[Queue, dict[str, str]]]:
    """A queue with jobs in it, and the environment of a worker that is to take them."""
    queue = Queue(list(jobs))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/job-take/") and queue.jobs:
                body = json.dumps(queue.jobs.pop(0)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return
            time.sleep(0.2)
            self.send_response(204)
            self.end_headers()

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if body.get("status") == "IN_PROGRESS":
                time.sleep(0.2)  # a slow way for progress, which the answer must not overtake
            queue.sent.append((self.path, body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield (
            queue,
            {
                "RUNPOD_WEBHOOK_GET_JOB": f"{url}/job-take/$ID?gpu=none",
                "RUNPOD_WEBHOOK_POST_OUTPUT": f"{url}/done/$ID?gpu=none",
                "RUNPOD_WEBHOOK_POST_STREAM": f"{url}/stream/$ID?gpu=none",
                "RUNPOD_POD_ID": "worker",
                "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
                "RUNPOD_SKIP_GPU_CHECK": "true",
            },
        )
    finally:
        server.shutdown()
        server.server_close()


def test_a_worker_takes_jobs_tells_its_progress_and_outlives_mistakes(python: str, run: Run, tmp_path: Path) -> None:
    jobs = ({"id": "bad", "input": {"prompt": 1}}, {"id": "good", "input": ASKED})
    with (
        fake_runpod(*jobs) as (queue, env),
        started(python, [], environment(run.path, **env), tmp_path / "log") as process,
    ):
        until(lambda: queue.finished() == 2, tmp_path / "log")
        assert process.poll() is None
    ((_, refused),) = queue.of("bad")
    assert refused == {"error": "prompt: Input should be a valid string."}
    *updates, (_, last) = queue.of("good")
    numbers = [body["output"]["number"] for _, body in updates]  # they may overtake each other, but not the answer
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert numbers
    assert {body["status"] for _, body in updates} == {"IN_PROGRESS"}
    assert last == {"output": json.loads(json.dumps(answer_event(run, job(**ASKED), unheard)))}


def test_a_streaming_worker_sends_parts_and_then_all_of_them(python: str, run: Run, tmp_path: Path) -> None:
    with (
        fake_runpod({"id": "job", "input": ASKED | {"stream": True}}) as (queue, env),
        started(python, [], environment(run.path, HEADWATER_STREAM="1", **env), tmp_path / "log"),
    ):
        until(lambda: queue.finished() == 1, tmp_path / "log")
    expected = json.loads(json.dumps(list(stream_event(run, job(**ASKED, stream=True), unheard))))
    assert [body["output"] for path, body in queue.sent if path.startswith("/stream/")] == expected
    assert queue.sent[-1][1] == {"output": expected}
    assert queue.sent[-1][0].endswith("&isStream=true")


def test_a_worker_without_a_run_says_so_and_asks_to_be_replaced(python: str, tmp_path: Path) -> None:
    with (
        fake_runpod({"id": "job", "input": ASKED}) as (queue, env),
        started(python, [], environment(tmp_path / "none", HEADWATER_STREAM="1", **env), tmp_path / "log"),
    ):
        until(lambda: queue.finished() == 1, tmp_path / "log")
    ((_, body),) = queue.of("job")
    assert body["stopPod"] is True
    assert "not a Headwater run" in body["error"]
    assert "Traceback" not in body["error"]


# -- what is deployed


def test_the_images_pins_are_the_projects_but_for_what_the_sdk_refuses() -> None:
    def pins(path: Path) -> dict[str, str]:
        lines = [line.split("==") for line in path.read_text(encoding="utf-8").splitlines() if "==" in line]
        return {name.lower().replace("_", "-"): version for name, version in lines}

    project, own = pins(ROOT / "constraints.txt"), pins(ROOT / "deploy" / "runpod" / "constraints.txt")
    differing = {name for name in own.keys() & project.keys() if own[name] != project[name]}
    assert differing <= {"python-dateutil"}
    assert "runpod" in own


def test_the_hubs_files_say_what_the_hub_reads() -> None:
    folder = ROOT / ".runpod"
    hub = json.loads((folder / "hub.json").read_text(encoding="utf-8"))
    assert {"title", "description", "type", "category", "config"} <= hub.keys()
    assert (hub["type"], hub["category"]) == ("serverless", "language")
    assert {"runsOn", "containerDiskInGb", "gpuCount", "gpuIds"} <= hub["config"].keys()
    read = (HANDLER.read_text(encoding="utf-8"), (HANDLER.parent / "entry.sh").read_text(encoding="utf-8"))
    assert all(any(variable["key"] in text for text in read) for variable in hub["config"]["env"])
    tests = json.loads((folder / "tests.json").read_text(encoding="utf-8"))
    for test in tests["tests"]:
        worker_module.Input.model_validate(test["input"])
    for name in ("Dockerfile", "handler.py"):
        assert (folder / name).resolve() == HANDLER.parent / name
