"""Sharing a run: sent to a fake of the hub on this machine, and opened from there."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from typer.testing import CliRunner

from headwater.attribution.question import Question
from headwater.cli import app
from headwater.runs.run import Run
from headwater.serve.server import listen
from tests.serving import COMPLETION, PROMPT, make_run, until

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(kw_only=True)
class Hub:
    """What a fake hub has been sent, of one dataset repository."""

    address: str = ""
    created: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    large: dict[str, bytes] = field(default_factory=dict[str, bytes])
    tokens: set[str] = field(default_factory=set[str])

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.middleware("http")
        async def note(request: Request, follow: Any) -> Any:
            if request.url.path.startswith("/api/datasets/"):
                self.tokens.add(request.headers.get("authorization", ""))
            return await follow(request)

        @app.post("/api/repos/create")
        async def create(request: Request) -> Any:
            self.created.append(await request.json())
            return {"url": f"{self.address}/datasets/you/stories"}

        @app.post("/api/validate-yaml")
        async def validate(request: Request) -> Any:
            return {"errors": [], "warnings": []}

        @app.post("/api/datasets/you/stories/preupload/main")
        async def modes(request: Request) -> Any:
            asked = (await request.json())["files"]
            return {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["size"] > 10_000 else "regular",
                        "shouldIgnore": False,
                        "oid": None,
                    }
                    for file in asked
                ]
            }

        @app.post("/datasets/you/stories.git/info/lfs/objects/batch")
        async def batch(request: Request) -> Any:
            asked = (await request.json())["objects"]
            found = [{**one, "actions": {"upload": {"href": f"{self.address}/large/{one['oid']}"}}} for one in asked]
            answer = json.dumps({"transfer": "basic", "objects": found})
            return Response(answer, media_type="application/vnd.git-lfs+json")

        @app.put("/large/{oid}")
        async def large(oid: str, request: Request) -> Any:
            self.large[oid] = await request.body()
            assert hashlib.sha256(self.large[oid]).hexdigest() == oid
            return {}

        @app.post("/api/datasets/you/stories/commit/main")
        async def commit(request: Request) -> Any:
            for line in (await request.body()).splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    self.files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    self.files[value["path"]] = self.large[value["oid"]]
            return {"success": True, "commitOid": COMMIT, "commitUrl": f"{self.address}/datasets/you/stories/commit/x"}

        @app.get("/api/datasets/you/stories")
        @app.get("/api/datasets/you/stories/revision/{revision}")
        async def about(revision: str = "main") -> Any:
            return {
                "id": "you/stories",
                "sha": COMMIT,
                "private": True,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "siblings": [{"rfilename": name} for name in self.files],
            }

        @app.get("/api/datasets/you/stories/tree/{revision}")
        async def tree(revision: str) -> Any:
            return [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in self.files.items()
            ]

        @app.api_route("/datasets/you/stories/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
        async def resolve(revision: str, path: str, request: Request) -> Any:
            data = self.files.get(path)
            if data is None:
                return Response(status_code=404, headers={"X-Error-Code": "EntryNotFound"})
            headers = {
                "X-Repo-Commit": COMMIT,
                "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
                "Content-Length": str(len(data)),
            }
            return Response(b"" if request.method == "HEAD" else data, headers=headers)

        return app


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    made = Hub()
    listener = listen("127.0.0.1", 0)
    made.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(made.app(), log_level="error"))
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True)
    thread.start()
    until(lambda: server.started)
    yield made
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = make_run(tmp_path_factory.mktemp("shared"))
    for unshared in (
        "curvature/gradients-x/0.safetensors",
        "retrained/a/b.json",
        "evaluate/retrained/c.json",
        "x.part",
    ):
        (made.path / unshared).parent.mkdir(parents=True, exist_ok=True)
        (made.path / unshared).write_text("mine")
    (made.path / "evaluate" / "results.md").write_text("| method | lds |\n|---|---|\n| ekfac | 0.47 |\n")
    return made


def with_hub(hub: Hub, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "HF_ENDPOINT": hub.address,
        "HF_TOKEN": "hf_secret",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def pushed(hub: Hub, run: Run) -> subprocess.CompletedProcess[str]:
    return with_hub(hub, "-m", "headwater", "push", str(run.path), "you/stories")


def question(run: Run) -> Question:
    return run.question(PROMPT, COMPLETION)


def test_a_run_is_sent_with_its_card_and_without_what_is_its_own(
    hub: Hub, run: Run, pushed: subprocess.CompletedProcess[str]
) -> None:
    assert pushed.returncode == 0, pushed.stderr
    assert f"{hub.address}/datasets/you/stories" in pushed.stderr
    assert hub.created[0]["visibility"] == "private"
    assert hub.tokens == {"Bearer hf_secret"}
    mine = {str(file.relative_to(run.path)) for file in run.path.rglob("*") if file.is_file()}
    left_out = {name for name in mine if (run.path / name).read_bytes() == b"mine"} | {".lock"}
    assert hub.files.keys() == mine - left_out | {"README.md"}
    card = hub.files["README.md"].decode()
    assert card.startswith("---\ntags:\n- headwater\n")
    for said in (run.manifest.model.fingerprint, run.corpus.fingerprint, "ekfac over 4 layers", "40 examples", "0.47"):
        assert said in card
    for name in ("README.md", "manifest.json"):
        assert str(run.path.parent) not in hub.files[name].decode(), "local paths are nobody's business"


def test_it_is_opened_from_there(hub: Hub, run: Run, pushed: subprocess.CompletedProcess[str], tmp_path: Path) -> None:
    code = (
        "import sys, torch; torch.set_num_threads(1); from headwater import Run; "
        "run = Run.from_hub('you/stories', sys.argv[1], model=sys.argv[2]); "
        "print(run.ask(sys.argv[3], sys.argv[4]).to_json())"
    )
    model = run.manifest.model.name
    fetched = with_hub(hub, "-c", code, str(tmp_path / "fetched"), model, PROMPT, COMPLETION)
    assert fetched.returncode == 0, fetched.stderr
    assert json.loads(fetched.stdout) | {"model": ""} == json.loads(run.ask(question(run)).to_json()) | {"model": ""}


def test_refusals_are_said(hub: Hub, run: Run) -> None:
    failed = with_hub(hub, "-m", "headwater", "push", str(run.path), "you/another")
    assert failed.returncode == 1
    assert "Cannot upload" in failed.stderr
    assert "Traceback" not in failed.stderr
    refused = CliRunner().invoke(app, ["push", str(run.path), "stories"])
    assert refused.exit_code == 1
    assert "is not the name of a hub repository" in str(refused.exception)
