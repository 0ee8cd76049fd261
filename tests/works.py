"""Long work on a small run, and the digests of what came of it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from headwater.runs.run import Run
from headwater.sweep.execution import Execution
from tests.models import plain_model, tiny_tokenizer
from tests.serving import COMPLETION, PROMPT, STORIES

SHARD = 4
PIECES = Execution(shard_examples=SHARD)
"""Shards of four examples, so that the forty stories make ten."""


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
    return Run.create(path, str(sources / "model"), sources / "corpus.jsonl", execution=PIECES)


def everything(run: Run) -> dict[str, str]:
    """Fit, index and scan; the digests of the results."""
    for work, _ in WORK.values():
        work(run)
    return {name: digest(run, name) for name in WORK}


def digest(run: Run, name: str) -> str:
    """The digest of a result. Of an index, of all its rows in the order of their keys."""
    if name == "index":
        whole = index_rows(run)
    else:
        whole = (run.paths.curvature if name == "fit" else run.path / "scores.parquet").read_bytes()
    return hashlib.sha256(whole).hexdigest()


def index_rows(run: Run) -> bytes:
    """All rows of the index in the order of their keys."""
    table = run.index.table
    assert table is not None
    return json.dumps(table.lance.to_arrow().sort_by("key").to_pylist()).encode()


def clear(path: Path, *names: str) -> None:
    """Delete what came of some work of the run at `path`; by default of all."""
    for name in names or WORK:
        target = path / WORK[name][1]
        shutil.rmtree(target) if target.is_dir() else target.unlink()
