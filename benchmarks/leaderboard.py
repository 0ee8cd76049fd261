"""`python -m benchmarks.leaderboard`: write the tables and plots of docs/leaderboard.md.

It makes two corpora if they are missing, and trains a model on each: a tiny world of 600 stories with 27 planted
facts, and real stories (benchmarks/real_stories.py). All measurements are stored in --work. An interrupted command
resumes there, and a finished one only writes the page again.
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
from headwater import configure_process
from headwater.base.files import write_text
from headwater.base.progress import Report, Step
from headwater.cli.progress import progress_report
from headwater.corpus.options import ReadOptions
from headwater.corpus.read import read_records
from headwater.demo.world import make_world, write_world
from headwater.evaluate.board import Board, evaluate_methods
from headwater.evaluate.context import open_context
from headwater.evaluate.methods import parse_methods
from headwater.evaluate.options import EvaluationPlan
from headwater.render.leaderboard import markdown, notes, table, title, write_leaderboard
from headwater.render.plots.costs import costs_of
from headwater.runs.run import Run
from headwater.training.new_model import Design, make_model
from headwater.training.recipe import Recipe, read_recipe
from headwater.training.train import reporting

DOCS = Path(__file__).resolve().parents[1] / "docs"
FACTS, STORIES = 600, Path(__file__).with_name("stories_recipe.json")
CG = "cg:iterations=4,subset=256"
MAIN = (
    "planted",
    "bm25",
    "ekfac",
    "source",
    "kfac",
    "relative",
    CG,
    "sketch",
    "overlap",
    "tracin",
    "diagonal",
    "trackstar",
    "lissa",
    "dot",
    "cosine",
    "random",
)
REMOVED = ("bm25", "ekfac", CG, "dot")
"""Methods whose top examples are removed. Each costs one training per query."""
SETTINGS = (
    "ekfac:damping=0.001*mean",
    "ekfac:damping=0.01*mean",
    "ekfac",
    "ekfac:damping=1*mean",
    "ekfac:damping=10*mean",
    "ekfac:layers=all-linear",
    "sketch:bytes=2048",
    "sketch:bytes=1024",
)


@dataclass(frozen=True, kw_only=True)
class BenchmarkCorpus:
    """One corpus with its model."""

    name: str
    prepare: Callable[[Path], None]
    """Writes corpus.jsonl and queries.jsonl into a folder."""
    recipe: Recipe
    plan: EvaluationPlan
    removed: tuple[str, ...]
    """Metrics that take a training step, or remove examples and retrain."""
    settings: tuple[str, ...]
    """More methods with settings. Only their LDS is measured."""


def _world(folder: Path) -> None:
    world = make_world(FACTS)
    write_world(world, folder / "corpus.jsonl")
    (folder / "corpus.facts.jsonl").rename(folder / "queries.jsonl")


SUBJECTS = (
    BenchmarkCorpus(
        name="world",
        prepare=_world,
        recipe=Recipe(),
        plan=EvaluationPlan(subsets=64, seeds=2, removed=6),
        removed=("tail-patch", "qld", "brittleness"),
        settings=("cg:iterations=8,subset=600,damping=10*mean",),
    ),
    BenchmarkCorpus(
        name="stories",
        prepare=prepare,
        recipe=read_recipe(STORIES),
        plan=EvaluationPlan(subsets=32, seeds=1, removed=4),
        removed=("tail-patch", "qld"),
        settings=("cg:iterations=8,subset=256,damping=10*mean",),
    ),
)


def main(work: Path, subjects: Sequence[str], jobs: int, quick: bool) -> None:
    for subject in SUBJECTS:
        if subject.name in subjects:
            folder = work / subject.name
            with progress_report() as report:
                run = _run(subject, folder, report)
                context = replace(
                    open_context(run, folder / "evaluate", folder / "queries.jsonl"),
                    checkpoints=folder / "model" / "checkpoints",
                    report=report,
                )
                plan = replace(subject.plan, jobs=jobs)
                whole = evaluate_methods(context, parse_methods(MAIN), replace(plan, metrics=("lds", "trace")))
                settings = evaluate_methods(
                    context, parse_methods([*SETTINGS, *subject.settings]), replace(plan, metrics=("lds",))
                )
                metrics: tuple[str, ...] = ("tail-patch",) if quick else subject.removed
                removed = evaluate_methods(context, parse_methods(REMOVED), replace(plan, metrics=metrics))
            write_leaderboard(whole)
            _write(subject.name, whole, removed, settings)


def _run(subject: BenchmarkCorpus, folder: Path, report: Report) -> Path:
    """The fitted run of a subject, made if it is missing."""
    corpus = folder / "corpus.jsonl"
    if not corpus.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subject.prepare(folder)
    model, run = folder / "model", folder / "run"
    if not (model / "train.json").exists():
        texts = [record.text for record in read_records(str(corpus), ReadOptions())]
        watch = reporting(
            lambda step, steps, loss: report(
                Step(stage="training", done=step, total=steps, tokens=0, note=f"loss {loss:.2f}")
            )
        )
        make_model(texts, model, subject.recipe, design=Design(checkpoints=4), watch=watch)
    opened = Run.create(run, str(model), corpus)
    opened = opened.using(report=report)
    opened.fit()
    return run


def _write(name: str, whole: Board, removed: Board, settings: Board) -> None:
    picture = DOCS / "pictures" / f"leaderboard-{name}.svg"
    costs_of(whole).save(picture)
    parts = [
        f"{title(whole)}. Measured on {date.today()}, {_machine()}.",
        *notes(whole),
        markdown(table(whole)),
        f"![LDS against cost](pictures/{picture.name})",
        "Tail patch over all queries"
        + (f", removal and retraining over {removed.plan.removed} queries:" if removed.unit else ":"),
        markdown(table(replace(removed, unit=None))),
        "LDS with other settings:",
        markdown(table(settings)),
    ]
    page = DOCS / "leaderboard.md"
    text = page.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- {name} -->\n).*(\n<!-- /{name} -->)", re.DOTALL)
    assert pattern.search(text), f"docs/leaderboard.md has no <!-- {name} --> section"
    body = "\n\n".join(part.strip() for part in parts)
    write_text(page, pattern.sub(lambda found: f"{found[1]}\n{body}\n{found[2]}", text))
    print(f"Wrote the part {name!r} of {page}")


def _machine() -> str:
    return (
        f"{torch.get_num_threads()} threads of {platform.machine()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )


if __name__ == "__main__":
    configure_process()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, default=Path("runs/leaderboard"))
    parser.add_argument("--subject", action="append", choices=[subject.name for subject in SUBJECTS])
    parser.add_argument("--jobs", type=int, default=2, help="number of parallel trainings")
    parser.add_argument("--quick", action="store_true", help="skip the metrics that retrain a model for each method")
    given = parser.parse_args()
    main(given.work, given.subject or [subject.name for subject in SUBJECTS], given.jobs, given.quick)
