"""A real cluster of several nodes gives the bytes that this process gives, whatever dies on the way."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import torch
from benchmarks.killed_ray import workers_of
from ray.cluster_utils import Cluster
from typer.testing import CliRunner

from headwater.attribution.question import Question
from headwater.base.progress import Report, Step
from headwater.cli import app
from headwater.errors import HeadwaterError
from headwater.runs.run import Run
from headwater.sweep.engine import LOCAL_ENGINE
from headwater.sweep.options import Workers
from headwater.sweep.ray_engine import RayEngine
from headwater.training.recipe import Recipe
from headwater.training.retrain import Retraining
from tests.models import plain_model, tiny_tokenizer
from tests.serving import COMPLETION, PROMPT
from tests.works import SHARD, everything, new_run, write_sources


def test_a_cluster_that_does_not_answer_is_said() -> None:
    with pytest.raises(HeadwaterError, match="No Ray cluster answers"), RayEngine(address="127.0.0.1:9"):
        pass


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that does no work, and two nodes."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        made.add_node(num_cpus=8)
    made.wait_for_nodes()
    ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)  # joined once for all tests
    yield made
    ray.shutdown()
    made.shutdown()


def engine(workers: int, **each: Any) -> RayEngine:
    """Workers of the cluster that was joined."""
    return RayEngine(Workers(workers, **each))


@pytest.fixture(scope="module")
def team(cluster: Cluster) -> Iterator[RayEngine]:
    """Two workers, for the tests that kill none."""
    with engine(2) as workers:
        yield workers


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sources(tmp_path_factory.mktemp("sources"))


def questions(run: Run) -> list[Question]:
    return [run.question(PROMPT, COMPLETION)]


@pytest.fixture(scope="module")
def expected(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return everything(new_run(sources, tmp_path_factory.mktemp("here") / "run"))


def test_several_workers_give_the_bytes_of_this_process(
    team: RayEngine, sources: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    """`python -m benchmarks.faults_ray` and docs/scaling.md have other numbers of workers."""
    run = new_run(sources, tmp_path / "run").using(engine=team)
    assert everything(run) == expected


def at_steps(steps: set[int], do: Callable[[], object]) -> Report:
    """A report that does something at some of its steps."""
    seen: list[Step] = []

    def report(step: Step) -> None:
        seen.append(step)
        if len(seen) in steps:
            do()

    return report


def test_workers_that_are_killed_and_a_node_that_is_lost_cost_their_shards_alone(
    cluster: Cluster, sources: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    run = new_run(sources, tmp_path / "run")
    nodes = [cluster.add_node(num_cpus=2)]
    cluster.wait_for_nodes()
    killed: list[int] = []

    def break_something() -> None:
        if nodes and len(killed) == 2:
            cluster.remove_node(nodes.pop(), allow_graceful=False)
        else:
            victim = workers_of(psutil.Process())[0]
            killed.append(victim.pid)
            victim.kill()

    run = run.using(report=at_steps({3, 15, 26, 37, 50}, break_something))  # in each stage
    with engine(4) as workers:
        run = run.using(engine=workers)
        assert everything(run) == expected
    assert len(set(killed)) == 4
    assert not nodes


def test_a_driver_that_is_killed_goes_on(
    cluster: Cluster, sources: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    run = new_run(sources, tmp_path / "run")
    options = ["--engine", "ray", "--address", str(cluster.address), "--workers", "2", "--shard-examples", str(SHARD)]
    command = [sys.executable, "-m", "headwater", "fit", str(run.path), *options]
    driver = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 240
    while not list(run.path.glob("curvature/*.checkpoint.safetensors")) and driver.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL, "it was killed before it had finished"
    assert list(run.path.glob("curvature/*.checkpoint.safetensors"))
    assert not run.paths.curvature.exists()
    steps: list[Step] = []
    run = run.using(report=steps.append)
    with engine(2) as workers:
        run = run.using(engine=workers)
        assert everything(run) == expected
    assert steps[0].done > 0, "what was finished is not done again"


def test_mistakes_come_back_as_they_are(team: RayEngine) -> None:
    def mistaken(_: int) -> None:
        raise HeadwaterError("The loss of example s3 is not finite.")

    with pytest.raises(HeadwaterError, match="example s3"):
        list(team.map(mistaken, [1]))
    assert list(team.map(lambda x: 2 * x, range(5))) == [0, 2, 4, 6, 8], "the workers live on"


def test_work_that_kills_every_worker_is_given_up(cluster: Cluster) -> None:
    with (
        engine(2) as team,
        pytest.raises(HeadwaterError, match="3 workers died one after the other"),
    ):
        list(team.map(lambda _: os._exit(1), [1]))


def test_what_the_cluster_cannot_give_is_said(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.sweep.ordered_results.PATIENCE", 1)
    with (
        engine(1, gpus=3) as team,
        pytest.raises(HeadwaterError, match="no room for a worker of 1 cores and 3 GPUs"),
    ):
        list(team.map(abs, [1]))


def test_an_exact_relative_answer_by_workers(cluster: Cluster, sources: Path, tmp_path: Path) -> None:
    run = new_run(sources, tmp_path / "run")
    run.fit()
    found: list[str] = []
    for options in ([], ["--engine", "ray", "--workers", "2"]):
        command = ["ask", str(run.path), PROMPT, COMPLETION, "--exact", "--rank-by", "relative", "--json", *options]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.exception
        found.append(result.stdout)
        (run.path / "scores" / "self_influence.parquet").unlink()  # it is computed, by this engine
    assert found[0] == found[1]


def test_a_scan_over_a_training_by_workers(team: RayEngine, sources: Path, tmp_path: Path) -> None:
    run = new_run(sources, tmp_path / "run")
    run.fit()
    for step in (1, 2):
        model = plain_model("gpt_neo", torch.float32)
        torch.nn.init.constant_(model.transformer.ln_f.weight, step)
        model.save_pretrained(tmp_path / "c" / f"step-{step}")
        tiny_tokenizer().save_pretrained(tmp_path / "c" / f"step-{step}")
    run.scan_checkpoints(questions(run), tmp_path / "here.parquet", tmp_path / "c", method="ekfac")
    shutil.rmtree(run.path / "checkpoints", ignore_errors=True)
    run.using(engine=team).scan_checkpoints(questions(run), tmp_path / "ray.parquet", tmp_path / "c", method="ekfac")
    assert (tmp_path / "ray.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()


def test_retraining_by_workers(team: RayEngine, sources: Path, tmp_path: Path) -> None:
    run = new_run(sources, tmp_path / "run")
    recipe = Recipe(epochs=1, learning_rate=1e-3, end=False)
    found = []
    for name, chosen in (("here", LOCAL_ENGINE), ("ray", team)):
        retraining = Retraining(
            recipe=recipe,
            config=run.lm.model.config,
            tokenizer=run.lm.tokenizer,
            sequences=run.corpus.sequences(),
            questions=questions(run),
            fingerprint="f",
            folder=tmp_path / name,
            engine=chosen,
        )
        found.append(retraining.outcomes([retraining.without([k]) for k in range(3)]))
    assert found[0] == found[1]
