"""`python -m benchmarks.leaderboard`: the tables and plots of docs/leaderboard.md, from what is kept in --work.

Two corpora are made where they are missing: a tiny world of 600 stories with 27 planted facts, and real stories
(benchmarks/real_stories.py), each with a model trained on it. Everything measured is kept in WORK; interrupted, the
same command goes on, and a second time it only writes the page again.
"""

from __future__ import annotations

import argparse
import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import torch
import transformers

from benchmarks.real_stories import prepare
from headwater.cli.progress import progress_report
from headwater.corpus.read import ReadOptions, read_records
from headwater.demo.world import make_world, write_world
from headwater.evaluate.board import Board, Plan, costs, measured, write_all
from headwater.evaluate.leaderboard import markdown, table
from headwater.evaluate.methods import parse_methods
from headwater.evaluate.scene import open_scene
from headwater.files import write_text
from headwater.run import Run
from headwater.sweep.progress import Report, Step
from headwater.training.make import Design, make_model
from headwater.training.recipe import Recipe, read_recipe
from headwater.training.train import reporting

DOCS = Path(__file__).resolve().parents[1] / "docs"
FACTS, STORIES = 600, Path(__file__).with_name("stories_recipe.json")
CG = "cg:iterations=4,subset=256"
MAIN = (
    "planted", "bm25", "ekfac", "source", "kfac", "relative", CG, "sketch", "overlap", "tracin", "diagonal",
    "trackstar", "lissa", "dot", "cosine", "random",
)  # fmt: skip
REMOVED = ("bm25", "ekfac", CG, "dot")
"""Methods whose own choice is taken out, at one training a query each."""
SETTINGS = (
    "ekfac:damping=0.001*mean", "ekfac:damping=0.01*mean", "ekfac",
    "ekfac:damping=1*mean", "ekfac:damping=10*mean", "ekfac:layers=all-linear", "sketch:bytes=2048",
    "sketch:bytes=1024",
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """One corpus with its model."""

    name: str
    prepare: Callable[[Path], None]
    """Writes corpus.jsonl and queries.jsonl into a folder."""
    recipe: Recipe
    plan: Plan
    removed: tuple[str, ...]
    """What is measured by one step of training, and by taking examples out."""
    settings: tuple[str, ...]
    """Methods with settings of which only the LDS is measured."""


def _world(folder: Path) -> None:
    world = make_world(FACTS)
    write_world(world, folder / "corpus.jsonl")
    (folder / "corpus.facts.jsonl").rename(folder / "queries.jsonl")


SUBJECTS = (
    Subject(
        "world", _world, Recipe(), Plan(subsets=64, seeds=2, removed=6), ("tail-patch", "qld", "brittleness"),
        ("cg:iterations=8,subset=600,damping=10*mean",),
    ),
    Subject(
        "stories", prepare, read_recipe(STORIES), Plan(subsets=32, seeds=1, removed=4), ("tail-patch", "qld"),
        ("cg:iterations=8,subset=256,damping=10*mean",),
    ),
)  # fmt: skip


def main(work: Path, subjects: Sequence[str], jobs: int, quick: bool) -> None:
    for subject in SUBJECTS:
        if subject.name in subjects:
            folder = work / subject.name
            with progress_report() as report:
                run = _run(subject, folder, report)
                scene = replace(
                    open_scene(run, folder / "evaluate", folder / "queries.jsonl"),
                    checkpoints=folder / "model" / "checkpoints", report=report,
                )  # fmt: skip
                plan = replace(subject.plan, jobs=jobs)
                whole = measured(scene, parse_methods(MAIN), replace(plan, metrics=("lds", "trace")))
                settings = measured(
                    scene, parse_methods([*SETTINGS, *subject.settings]), replace(plan, metrics=("lds",))
                )
                metrics: tuple[str, ...] = ("tail-patch",) if quick else subject.removed
                removed = measured(scene, parse_methods(REMOVED), replace(plan, metrics=metrics))
            write_all(whole)
            _write(subject.name, whole, removed, settings)


def _run(subject: Subject, folder: Path, report: Report) -> Path:
    """The fitted run of a subject, made where it is missing."""
    corpus = folder / "corpus.jsonl"
    if not corpus.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subject.prepare(folder)
    model, run = folder / "model", folder / "run"
    if not (model / "train.json").exists():
        texts = [record.text for record in read_records(str(corpus), ReadOptions())]
        watch = reporting(lambda step, steps, loss: report(Step("training", step, steps, 0, f"loss {loss:.2f}")))
        make_model(texts, model, subject.recipe, Design(checkpoints=4), watch)
    opened = Run.create(run, str(model), corpus)
    opened.report = report
    opened.fit()
    return run


def _write(name: str, whole: Board, removed: Board, settings: Board) -> None:
    picture = DOCS / "pictures" / f"leaderboard-{name}.svg"
    costs(whole).save(picture)
    parts = [
        f"{whole.title}. Measured on {date.today()}, {_machine()}.",
        *whole.notes,
        markdown(table(whole.results, whole.unit, whole.reference)),
        f"![LDS against cost](pictures/{picture.name})",
        "One step of training on what a method names (tail patch, all queries)"
        + (f"; taking it out, and training again ({removed.plan.removed} queries):" if removed.unit else ":"),
        markdown(table(removed.results, None)),
        "Settings:",
        markdown(table(settings.results, settings.unit, settings.reference)),
    ]
    page = DOCS / "leaderboard.md"
    text = page.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- {name} -->\n).*(\n<!-- /{name} -->)", re.DOTALL)
    assert pattern.search(text), f"docs/leaderboard.md has a place for {name}"
    body = "\n\n".join(part.strip() for part in parts)
    write_text(page, pattern.sub(lambda found: f"{found[1]}\n{body}\n{found[2]}", text))
    print(f"Wrote the part {name!r} of {page}")


def _machine() -> str:
    return (
        f"{torch.get_num_threads()} threads of {platform.machine()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, default=Path("runs/leaderboard"))
    parser.add_argument("--subject", action="append", choices=[subject.name for subject in SUBJECTS])
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--quick", action="store_true", help="leave out what costs trainings for every method")
    given = parser.parse_args()
    main(given.work, given.subject or [subject.name for subject in SUBJECTS], given.jobs, given.quick)
