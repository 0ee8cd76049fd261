"""`python -m benchmarks.killed_ray SOURCES FOLDER KILLS SEED`: work on a cluster whose processes are killed.

The work is fit, index and scan. One cluster serves all attempts. Each is a child of this process that does what is
missing of the work with two workers; at random times one of them is killed, and in every other attempt the child
itself. What is finished is deleted and done again until there were enough kills, a driver's among them. Prints how
many of each kind, and the digests of what came of the work.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from tests.works import PIECES, clear, everything, new_run

from headwater.base.progress import Step
from headwater.runs.run import Run
from headwater.sweep.options import Workers
from headwater.sweep.ray_engine import RayEngine

WORKERS = 2
MOST_ATTEMPTS = 100
BETWEEN = (2, 8)
"""Steps of progress between two kills of workers; by time alone a busy machine would get nothing done between them."""
DRIVER = (1, 50)
"""Steps after which a driver is killed, if it is."""
LATER = 0.5
"""Seconds at most between such a step and the kill."""
CLUSTER = (
    "import sys; from ray.cluster_utils import Cluster; "
    "made = Cluster(initialize_head=True, head_node_args={'num_cpus': 8}); "
    "print(made.address, flush=True); sys.stdin.read(); made.shutdown()"
)


@contextmanager
def a_cluster() -> Iterator[tuple[str, psutil.Process]]:
    """Its address, and the process that began it. It is another one, so that this one can be forked."""
    host = subprocess.Popen([sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert host.stdin is not None
    assert host.stdout is not None
    try:
        yield host.stdout.readline().strip(), psutil.Process(host.pid)
    finally:
        host.stdin.close()
        host.wait()


def workers_of(host: psutil.Process) -> list[psutil.Process]:
    """The processes of this cluster's actors, and of no other's."""
    found: list[psutil.Process] = []
    for process in host.children(recursive=True):
        try:
            if "ray::Worker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


class _Progress:
    """Steps that have been reported."""

    def __init__(self) -> None:
        self.steps = 0

    def __call__(self, _: Step) -> None:
        self.steps += 1

    def wait(self, steps: int, chance: random.Random) -> None:
        """Until there were so many, and a moment longer."""
        while self.steps < steps:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, LATER))


def _kill_workers(progress: _Progress, host: psutil.Process, chance: random.Random, log: Path) -> None:
    """Kill one after the other, and note it."""
    while True:
        progress.wait(progress.steps + chance.randint(*BETWEEN), chance)
        if alive := workers_of(host):
            chance.choice(alive).kill()
            with log.open("a") as file:
                file.write("worker\n")


def _kill_driver(progress: _Progress, chance: random.Random) -> None:
    progress.wait(chance.randint(*DRIVER), chance)
    os.kill(os.getpid(), signal.SIGKILL)


def _attempt(path: Path, address: str, host: psutil.Process, seed: str) -> None:
    """In a child: do what is missing, while workers die, and perhaps this process."""
    progress = _Progress()
    workers, driver = random.Random(f"{seed}-workers"), random.Random(f"{seed}-driver")
    threading.Thread(target=_kill_workers, args=(progress, host, workers, path / "kills"), daemon=True).start()
    if driver.random() < 0.5:
        threading.Thread(target=_kill_driver, args=(progress, driver), daemon=True).start()
    run = Run.open(path, execution=PIECES)
    with RayEngine(Workers(WORKERS), address) as team:
        run = run.using(report=progress, engine=team)
        (path / "digests").write_text(json.dumps(everything(run)))


def _child(path: Path, address: str, host: psutil.Process, seed: str) -> int:
    """The signal that ended a child, 0 where it finished. A child that fails ends this process too."""
    child = os.fork()
    if child == 0:
        try:
            _attempt(path, address, host, seed)
            sys.stdout.flush()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"the attempt with seed {seed} failed with {status}"
    return status


def main(sources: Path, folder: Path, kills: int, seed: int) -> None:
    torch.set_num_threads(1)
    path = folder / "run"
    new_run(sources, path)
    drivers, attempts, digests = 0, 0, list[dict[str, str]]()
    start = time.monotonic()

    def killed() -> Counter[str]:
        log = path / "kills"
        return Counter((log.read_text().split() if log.exists() else []) + ["driver"] * drivers)

    with a_cluster() as (address, host):
        while killed().total() < kills or not (digests and drivers):
            assert attempts < MOST_ATTEMPTS, "too few kills, or the work was never finished"
            if (path / "digests").exists():
                (path / "digests").unlink()
                clear(path)
            status = _child(path, address, host, f"{seed}-{attempts}")
            attempts += 1
            drivers += status != 0
            if status == 0:
                digests.append(json.loads((path / "digests").read_text()))
    found = {"seed": seed, "attempts": attempts, "killed": killed(), "digests": digests}
    sys.stdout.write(json.dumps(found | {"seconds": time.monotonic() - start}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
