"""`python -m tests.killed SOURCES FOLDER KILLS`: fit, index and scan a run, killed at random times all the while.

Every attempt is a child of this process, which has loaded everything that can be shared. Prints how often each kind of
work was killed, and the digests of what came of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import torch

from headwater.runs.run import Run
from headwater.sweep import shards
from tests.models import plain_model, tiny_tokenizer
from tests.serving import COMPLETION, PROMPT, STORIES

SHARD = 4
LONGEST = 0.4
"""Seconds after which a child is killed at the latest, counted from when the work itself begins."""


def fit(run: Run) -> None:
    run.fit()


def index(run: Run) -> None:
    run.build_index(bytes=256)


def scan(run: Run) -> None:
    run.scan([run.question(PROMPT, COMPLETION)], run.path / "scores.parquet", tokens=True)


WORK: dict[str, tuple[Callable[[Run], None], str]] = {
    "fit": (fit, "curvature"),
    "index": (index, "index"),
    "scan": (scan, "scores.parquet"),
}
"""What is done -> how, and where the result lies in the run."""


def write_sources(folder: Path) -> Path:
    """A model of two layers and forty stories."""
    plain_model("gpt_neo", torch.float32).save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    lines = [json.dumps({"id": f"s{k}", "text": text}) for k, text in enumerate(STORIES)]
    (folder / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def new_run(sources: Path, path: Path) -> Run:
    """A run of what `write_sources` wrote."""
    return Run.create(path, str(sources / "model"), sources / "corpus.jsonl")


def everything(run: Run) -> dict[str, str]:
    """Fit, index and scan; what came of it, bit by bit."""
    for work, _ in WORK.values():
        work(run)
    return {name: digest(run, name) for name in WORK}


def digest(run: Run, name: str) -> str:
    """Of a result, bit by bit."""
    if name == "index":
        table = run.index.table
        assert table is not None
        whole = json.dumps(table.lance.to_arrow().sort_by("key").to_pylist()).encode()
    else:
        whole = (run.paths.curvature if name == "fit" else run.path / "scores.parquet").read_bytes()
    return hashlib.sha256(whole).hexdigest()


def clear(path: Path) -> None:
    """Delete what came of all work of the run at `path`."""
    for _, result in WORK.values():
        target = path / result
        shutil.rmtree(target) if target.is_dir() else target.unlink()


def _attempt(path: Path, name: str, seconds: float) -> None:
    """In a child: do the work, and be killed after so many seconds of it."""
    run = Run.open(path)
    if name == "index":
        import lancedb  # noqa: F401  # pyright: ignore[reportUnusedImport]
    threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
    WORK[name][0](run)
    (path / "digest").write_text(digest(run, name))


def _child(path: Path, name: str, seconds: float) -> int:
    """The signal that ended a child, 0 where it finished. A child that fails ends this process too."""
    child = os.fork()
    if child == 0:
        try:
            _attempt(path, name, seconds)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"{name} failed with {status}"
    return status


def main(sources: Path, folder: Path, kills: int) -> None:
    torch.set_num_threads(1)
    shards.SMALLEST_SHARD = SHARD
    chance = random.Random(0)
    path = folder / "run"
    new_run(sources, path)
    found: dict[str, tuple[int, list[str]]] = {}
    for name, (_, result) in WORK.items():
        killed, digests = 0, list[str]()
        while killed < kills or not digests:
            if digests:
                target = path / result
                shutil.rmtree(target) if target.is_dir() else target.unlink()
            while _child(path, name, chance.uniform(0, LONGEST)):
                killed += 1
            digests.append((path / "digest").read_text())
        found[name] = (killed, digests)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
