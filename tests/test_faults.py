"""Whatever breaks on the way, the results are the same bytes, and what is finished is not done again."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from headwater.base.lock import exclusive
from headwater.base.progress import Step
from headwater.cli import app
from headwater.errors import HeadwaterError
from headwater.lm.capture import Capture, Captured, Labels
from headwater.lm.load import load_model
from headwater.runs.check import Finding, check_run
from headwater.runs.run import Run
from headwater.sweep.shard_gradients import shard_gradients
from headwater.sweep.sweep import Sweep
from tests.killing import Host, KilledError, kill_at
from tests.serving import COMPLETION, PROMPT, STORIES
from tests.works import SHARD, WORK, clear, digest, everything, new_run, write_sources

KILLS = 2
"""Of each kind of work."""
ATTEMPTS = 60
"""Most attempts of each kind of work."""
PIECES = ("--shard-examples", str(SHARD))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def reference(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nothing will happen to."""
    return new_run(sources, tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def expected(reference: Run) -> dict[str, str]:
    return everything(reference)


def test_kill_9_at_random_points_of_fit_index_and_scan(
    host: Host, sources: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    run, chance = new_run(sources, tmp_path / "run"), random.Random(0)
    for name, arguments in command_lines(run.path, tmp_path).items():
        whole = host.run(*arguments)
        assert whole.status == 0, whole.output
        clear(run.path, name)
        killed = 0
        for _ in range(ATTEMPTS):
            ended = host.run(*arguments, seconds=chance.uniform(0, whole.seconds / 2))
            assert ended.status in (0, -9), ended.output
            killed += ended.status == -9
            if killed == KILLS:
                break
            if ended.status == 0:
                assert digest(Run.open(run.path, run.lm), name) == expected[name], name
                clear(run.path, name)
        assert killed == KILLS, name
        assert host.run(*arguments).status == 0
        assert digest(Run.open(run.path, run.lm), name) == expected[name], name


def command_lines(run: Path, folder: Path) -> dict[str, list[str | Path]]:
    """How each kind of work is done on the command line."""
    query = {"id": "query", "prompt": PROMPT, "completion": COMPLETION}
    queries = folder / "queries.jsonl"
    queries.write_text(json.dumps(query), encoding="utf-8")
    return {
        "fit": ["fit", run, *PIECES],
        "index": ["index", run, "--bytes", "256", *PIECES],
        "scan": ["scan", run, queries, "-o", run / "scores.parquet", "--tokens", *PIECES],
    }


@pytest.mark.parametrize(("what", "limit"), [("fit", 2_000), ("fit", 20_000), ("index", 2_000), ("scan", 500)])
def test_a_full_disk_is_said_and_nothing_half_written_is_left(
    what: str, limit: int, host: Host, sources: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    run = new_run(sources, tmp_path / "run")
    if what != "fit":
        run.fit()
    found = host.run(*command_lines(run.path, tmp_path)[what], room=limit)
    assert found.status == 1
    assert "The disk is full" in found.output
    assert "Traceback" not in found.output
    assert not list(run.path.rglob("*.part"))
    assert everything(run) == expected


def flip(path: Path, place: float) -> None:
    """Turn one bit of a file."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)


def cut(path: Path, place: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * place)])


@pytest.mark.parametrize("damage", [flip, cut])
@pytest.mark.parametrize("place", [0.02, 0.6, 0.98])
def test_a_damaged_checkpoint_costs_one_shard(
    damage: Any, place: float, sources: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    run = new_run(sources, tmp_path / "run")
    with pytest.raises(KilledError):
        run.using(report=kill_at(8)).fit()
    damage(run.path / "curvature" / "covariances.checkpoint.safetensors", place)
    for kept in run.path.glob("curvature/gradients-*/*"):
        damage(kept, place)
    steps: list[Step] = []
    run = run.using(report=steps.append)
    found = everything(run)
    assert steps[0].done > 0, "all shards but one are still there"
    assert found == expected


@pytest.mark.parametrize("damage", [flip, cut])
@pytest.mark.parametrize("place", [0.02, 0.3, 0.98])
def test_a_damaged_part_of_a_scan_is_done_again_and_no_other(
    damage: Any, place: float, sources: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    run = new_run(sources, tmp_path / "run")
    run.fit()
    run.build_index(bytes=256)
    output = run.path / "scores.parquet"
    asked = [run.question(PROMPT, COMPLETION)]
    with pytest.raises(KilledError):
        run.using(report=kill_at(8)).scan(asked, output, tokens=True)
    parts = sorted((run.path / "scores.parquet.parts").glob("*.parquet"))
    assert len(parts) > 3
    damage(parts[1], place)
    steps: list[Step] = []
    run = run.using(report=steps.append)
    run.scan(asked, output, tokens=True)
    redone = sum(step.tokens > 0 for step in steps) - (len(STORIES) // SHARD - len(parts))
    assert redone == 1 or (damage is flip and redone == 0), "a bit of a page's statistics changes no score"
    assert {name: digest(run, name) for name in WORK} == expected


def test_a_damaged_curvature_is_refused(sources: Path, tmp_path: Path) -> None:
    run = new_run(sources, tmp_path / "run")
    run.fit()
    flip(run.paths.curvature, 0.7)
    with pytest.raises(HeadwaterError, match="not those that were written"):
        run.curvature()


def finding(run: Run, part: str) -> Finding:
    return next(one for one in check_run(run.path) if one.part == part)


def test_a_whole_run_is_whole(reference: Run, expected: dict[str, str]) -> None:
    assert expected, "everything was done"
    assert [one.part for one in check_run(reference.path) if one.fix] == []
    assert {"manifest.json", "corpus/examples.arrow", "curvature/curvature.safetensors", "index"} <= {
        one.part for one in check_run(reference.path)
    }


def test_damage_is_found_said_and_repaired(sources: Path, expected: dict[str, str], tmp_path: Path) -> None:
    run = new_run(sources, tmp_path / "run")
    everything(run)
    table = run.index.table
    assert table is not None
    table.lance.update(where="key = 7", values={"loss": 1.0})
    found = finding(run, "index")
    assert '"s7"' in found.detail
    assert found.fix is not None
    flip(run.paths.curvature, 0.9)
    commands = [one.fix for one in check_run(run.path, repair=True) if one.fix]
    assert commands == [f"headwater fit {run.path}", f"headwater index {run.path}"]
    assert finding(run, "index").fix is None, "the damaged row was taken out"
    assert not run.paths.curvature.exists()
    steps: list[Step] = []
    run.fit()
    run = run.using(report=steps.append)
    run.build_index(bytes=256)
    assert sum(step.tokens > 0 for step in steps if step.stage == "index") == 1, "only the shard of that row"
    assert {name: digest(run, name) for name in WORK} == expected
    flip(run.path / "corpus" / "examples.arrow", 0.5)
    assert "cannot be recovered" in (finding(run, "corpus/examples.arrow").fix or "")


def test_the_command_says_what_is_damaged(sources: Path, tmp_path: Path) -> None:
    run = new_run(sources, tmp_path / "run")
    run.fit()
    assert CliRunner().invoke(app, ["check", str(run.path)]).exit_code == 0
    flip(run.paths.curvature, 0.9)
    found = CliRunner().invoke(app, ["check", str(run.path)])
    assert found.exit_code == 1
    assert "damaged" in found.output


def test_a_second_process_is_refused_and_a_crash_releases_the_lock(sources: Path, tmp_path: Path) -> None:
    run = new_run(sources, tmp_path / "run")
    code = (
        f"import time; from pathlib import Path; from headwater.base.lock import exclusive\n"
        f"with exclusive(Path({str(run.path)!r})):\n    print('mine', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "mine\n"
    for work in (run.fit, lambda: run.remove(["s1"]), lambda: run.add(sources / "corpus.jsonl")):
        with pytest.raises(HeadwaterError, match="Another process is at work"):
            work()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    run.fit()
    with exclusive(run.path), pytest.raises(HeadwaterError, match="Another process"):
        run.build_index(bytes=256)


def test_a_loss_that_is_no_number_names_the_example_and_the_layer(sources: Path, tmp_path: Path) -> None:
    lm = load_model(str(sources / "model"))
    run = Run.create(tmp_path / "run", lm, sources / "corpus.jsonl")
    with torch.no_grad():
        lm.model.transformer.h[1].mlp.c_fc.weight[0, 0] = torch.nan
    with pytest.raises(HeadwaterError, match=r"example s\d+.* not finite.*h\.1\.mlp\.c_proj"):
        run.fit()


class Scarce(Capture):
    """As on a machine where more than a few tokens do not fit."""

    most = 64
    refused = 0

    def __call__(self, batch: Any, labels: Labels = Labels()) -> Captured:
        if batch.input_ids.size > self.most:
            Scarce.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().__call__(batch, labels)


def test_out_of_memory_halves_the_batches(sources: Path, tmp_path: Path) -> None:
    run = new_run(sources, tmp_path / "run")
    run.fit()
    sequences = run.corpus.sequences()
    sweep = Sweep(stage="", lm=run.lm, layers=run.curvature().layers, sequences=sequences, shard_examples=SHARD)
    shard = sweep.shards()[0]
    seen: list[str] = []
    with Scarce(run.lm, sweep.layers) as capture:
        for batch, _ in shard_gradients(sweep, capture, shard):
            assert batch.input_ids.size <= Scarce.most
            seen += batch.ids
    assert sorted(seen) == sorted(run.corpus.ids[shard.start : shard.stop]), "none is lost, none is there twice"
    assert Scarce.refused <= 2, "the later ones are halved beforehand"
    Scarce.most = 8
    with (
        Scarce(run.lm, sweep.layers) as capture,
        pytest.raises(HeadwaterError, match=r"not enough memory for example s\d+, \d+ tokens alone"),
    ):
        list(shard_gradients(sweep, capture, shard))
