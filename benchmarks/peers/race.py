"""`make bench-peers`: the same job on Headwater, kronfluence, bergson and dattri-llm, side by side in one run.

Every stage of every contestant runs in a process of its own, the contestants one after the other in an order that
changes from round to round. What is done is kept in the work folder, so that an interrupted race goes on. The tables
go to docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.peers.job import prepare
from benchmarks.peers.report import Timing, write_report

CONTESTANTS = {
    "headwater": "headwater_peer",
    "kronfluence": "kronfluence_peer",
    "bergson": "bergson_peer",
    "dattri-llm": "dattri_peer",
    "floor": "floor",
}
"""Contestant -> module of benchmarks.peers."""
STAGES = ("fit", "scan8", "tokens8", "store", "question", "scan64")
FLOOR_STAGES = ("fit", "scan8", "stock-fit", "stock-scan8")
CANNOT = {("kronfluence", "store")}
BATCH = {"kronfluence": 2, "bergson": 4, "dattri-llm": 4, "floor": 4}
"""Stories in a batch. The best of 1, 2, 4, 8 and 16 in a trial of each peer on the trained model; the others gain
nothing from larger ones either (try it with --batch)."""
LONGEST_STAGE = 1800
"""Seconds after which a stage is stopped, and noted as not finished."""


@dataclass(frozen=True)
class Heat:
    """What is raced on one shape."""

    shape: str
    fit: int
    train: int
    stages: tuple[str, ...] = STAGES


HEATS = (
    Heat("trained", 96, 128),
    Heat("tinystories-1m", 48, 64),
    Heat("llama", 32, 48),
    Heat("wide-4k", 32, 32),
    Heat("wide-50k", 32, 32, ("fit", "scan8", "tokens8", "scan64")),
)
QUICK = (
    Heat("trained", 24, 32, ("fit", "scan8", "tokens8")),
    Heat("tinystories-1m", 16, 16, ("fit", "scan8")),
)


def race(heat: Heat, number: int, work: Path, batch: int | None) -> None:
    """Run what is missing of one round of a heat."""
    folder = work / heat.shape
    if not (folder / "train.jsonl").exists():
        prepare(folder, heat.shape, heat.fit, heat.train)
    done = {(t.round, t.contestant, t.stage) for t in timings(folder)}
    for stage, contestant in _order(heat, number):
        if (number, contestant, stage) in done:
            continue
        timing = run(folder, contestant, stage, number, batch or BATCH.get(contestant, 8))
        with (folder / "timings.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(timing)) + "\n")
        took = f"{timing.seconds:.1f} s" if timing.seconds else "did not finish"
        print(f"{heat.shape}, round {number + 1}: {contestant} {stage}: {took}", file=sys.stderr, flush=True)


def _order(heat: Heat, number: int) -> Iterator[tuple[str, str]]:
    """(stage, contestant): stage by stage, and in every round another contestant first."""
    names = list(CONTESTANTS)
    turned = names[number % len(names) :] + names[: number % len(names)]
    for stage in heat.stages:
        for contestant in turned:
            if contestant == "floor":
                if stage in FLOOR_STAGES:
                    yield stage, contestant
                    yield f"stock-{stage}", contestant
            elif (contestant, stage) not in CANNOT:
                yield stage, contestant


def run(folder: Path, contestant: str, stage: str, number: int, batch: int) -> Timing:
    """One stage in a process of its own. Raises RuntimeError, with what it said, where it fails."""
    command = [
        sys.executable,
        "-m",
        f"benchmarks.peers.{CONTESTANTS[contestant]}",
        stage,
        str(folder),
        "--batch",
        str(batch),
    ]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if contestant in ("headwater", "floor"):  # as the command line sets them
        environment |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_STAGE, env=environment)
    except subprocess.TimeoutExpired:
        return Timing(contestant=contestant, stage=stage, round=number, seconds=None, cpu=None, peak=None, disk=None)
    if found.returncode:
        raise RuntimeError(f"{contestant} failed at {stage} in {folder}:\n{found.stderr[-3000:]}")
    return Timing(contestant=contestant, stage=stage, round=number, **json.loads(found.stdout.splitlines()[-1]))


def timings(folder: Path) -> list[Timing]:
    """What is already measured in a heat's folder."""
    path = folder / "timings.jsonl"
    if not path.exists():
        return []
    return [Timing(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/peers"), help="where models and results are kept")
    parser.add_argument("--quick", action="store_true", help="two shapes, few stories, one round: under five minutes")
    parser.add_argument("--shape", action="append", help="only this shape; may be given several times")
    parser.add_argument("--stage", action="append", choices=STAGES, help="only this stage; may be given several times")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, help="stories in a batch of every peer")
    parser.add_argument("--write", action="store_true", help="write the tables to docs/benchmarks.md")
    given = parser.parse_args()
    work: Path = given.work / ("quick" if given.quick else "full")
    heats = [heat for heat in (QUICK if given.quick else HEATS) if not given.shape or heat.shape in given.shape]
    if given.stage:
        heats = [replace(heat, stages=tuple(s for s in heat.stages if s in given.stage)) for heat in heats]
    for number in range(1 if given.quick else given.rounds):
        for heat in heats:
            race(heat, number, work, given.batch)
    write_report({heat.shape: (work / heat.shape, timings(work / heat.shape)) for heat in heats}, given.write)


if __name__ == "__main__":
    main()
