"""`python -m benchmarks.plan`: the estimates of `headwater plan` compared with the real cost of the work.

The plan is made from the model and corpus in its own process. Then each stage does the real work in its own process.
Times include neither the start of Python nor imports nor loading the model. Without --run, the demo's world is written
and its model is trained first. With --run, the model and corpus of that run are used, and the run is not changed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from headwater import configure_process
from headwater.attribution.question import Question
from headwater.base.byte_sizes import size_of
from headwater.base.progress import Step, silent
from headwater.corpus.options import CorpusOptions, ReadOptions
from headwater.demo.build import Demo, build_model, build_world
from headwater.lm.load import load_model
from headwater.plan.plan import plan_corpus
from headwater.runs.manifest import read_manifest
from headwater.runs.run import Run

STAGES = ("corpus", "fit", "index", "scan", "question")
QUERIES = 8


@dataclass(frozen=True)
class Origin:
    """The model and corpus of the plan."""

    model: str
    corpus: str
    options: CorpusOptions


def origin_of(run: Path) -> Origin:
    manifest = read_manifest(run)
    entry = manifest.corpus
    options = CorpusOptions(ReadOptions(**entry.options), entry.max_tokens, entry.long_texts)
    return Origin(manifest.model.name, entry.source, options)


def demo_in(folder: Path) -> Path:
    """Make the demo's world, model and run in `folder`."""
    demo = Demo(folder, 3000, 0)
    build_model(demo, build_world(demo), silent)
    Run.create(folder, str(demo.model), demo.corpus)
    return folder


def questions_of(run: Run, count: int) -> list[Question]:
    """Continuations of texts of the corpus, but not of those that the plan uses."""
    found: list[Question] = []
    for k in range(count):
        pieces = run.corpus[(k * len(run.corpus) + len(run.corpus) // 3) // count].pieces
        half = len(pieces) // 2
        question = run.question("".join(pieces[:half]), "".join(pieces[half : half + 24]))
        found.append(replace(question, id=f"q{k}"))
    return found


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def do_stage(stage: str, origin: Origin, folder: Path) -> dict[str, float]:
    """Do the real work of one stage and return its cost."""
    run = folder / "run"
    if stage == "corpus":
        lm = load_model(origin.model)
        seconds = timed(lambda: Run.create(run, lm, origin.corpus, options=origin.options))
        return {"seconds": seconds, "disk": size_of(run / "corpus")}
    opened = Run.open(run)
    if stage == "fit":
        largest = 0

        def watch_size(_: Step) -> None:
            nonlocal largest
            largest = max(largest, size_of(run / "curvature"))

        opened = opened.using(report=watch_size)
        seconds = timed(opened.fit)
        return {"seconds": seconds, "disk": size_of(opened.paths.curvature), "working": largest}
    if stage == "index":
        seconds = timed(opened.build_index)
        return {"seconds": seconds, "disk": size_of(run / "index")}
    questions = questions_of(opened, QUERIES)
    if stage == "scan":
        output = folder / "scores.parquet"
        seconds = timed(lambda: opened.scan(questions, output))
        return {"seconds": seconds, "disk": size_of(output)}
    took = [timed(lambda q=question: opened.ask(q)) for question in [questions[0], *questions]]
    return {"seconds": median(took[1:]), "disk": 0}


def in_process(stage: str, run: Path, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.plan", "--stage", stage, "--run", str(run), "--folder", str(folder)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    print(f"{stage} done", file=sys.stderr)
    return json.loads(output.splitlines()[-1])


def measure(stage: str, origin: Origin, folder: Path) -> dict[str, Any]:
    if stage == "plan":
        plan = plan_corpus(origin.model, origin.corpus, origin.options)
        return json.loads(plan.to_json())
    found = do_stage(stage, origin, folder)
    return found | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def once(run: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A plan, and the measured cost of each stage."""
    with TemporaryDirectory() as folder:
        plan = in_process("plan", run, Path(folder))
        return plan, {stage: in_process(stage, run, Path(folder)) for stage in STAGES}


def table(rounds: Sequence[tuple[dict[str, Any], dict[str, dict[str, Any]]]]) -> str:
    lines = ["| stage | what | predicted | measured | ratio |", "|---|---|---|---|---|"]
    units = {"seconds": ("time, s", 1.0), "memory": ("memory, MB", 1e6), "disk": ("disk, MB", 1e6)}
    for stage in STAGES:
        for what, (name, unit) in (units | {"working": ("disk while it runs, MB", 1e6)}).items():
            if not all(what in real[stage] for _, real in rounds):
                continue
            planned = [next(s for s in plan["stages"] if s["name"] == stage) for plan, _ in rounds]
            predicted = median(s[what] for s in planned) / unit
            measured = median(real[stage][what] for _, real in rounds) / unit
            if measured:
                lines.append(f"| {stage} | {name} | {predicted:,.2f} | {measured:,.2f} | {predicted / measured:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="use the model and corpus of this run")
    parser.add_argument("--rounds", type=int, default=1, help="repetitions; medians are printed")
    parser.add_argument("--stage", choices=("plan", *STAGES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        print(json.dumps(measure(given.stage, origin_of(given.run), given.folder)))
        return
    with TemporaryDirectory() as folder:
        run = given.run or demo_in(Path(folder) / "demo")
        rounds = [once(run) for _ in range(given.rounds)]
    plan = rounds[0][0]
    print(
        f"\n{date.today()}, {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, load "
        f"{os.getloadavg()[1]:.1f}; {plan['examples']:,} examples, {plan['tokens']:,} tokens, {plan['parameters']:,} "
        f"tracked parameters; the plan took {median(p['probe_seconds'] for p, _ in rounds):.0f} s and probed "
        f"{plan['probe_tokens']:,} tokens; median of {given.rounds}.\n"
    )
    print(table(rounds))


if __name__ == "__main__":
    configure_process()
    main()
