"""`python -m benchmarks.curation`: does `headwater rank` select training data that helps, and does it find noise?

A model is trained on a tiny world. Half of the questions about facts are the target. For these, the model is retrained
on the best half of the stories by each ranking, on the worst half, and on random halves, and its losses are compared.
In a second run, the words of some stories are shuffled, and rankings are compared by how many of them they find. The
tables are written to docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.page import processor, put_between
from headwater import configure_process
from headwater.attribution.question import Question
from headwater.attribution.ranking import Ranking, learned_tokens
from headwater.corpus.batches import pad
from headwater.demo.tiny_lm import train_tiny_lm
from headwater.demo.world import World, make_world
from headwater.lm.capture import token_losses
from headwater.runs.run import Run
from headwater.training.retrain import Retraining, Task, retraining_of

PAGE = Path("docs/benchmarks.md")
BEGIN, END = "<!-- curation: written by python -m benchmarks.curation -->", "<!-- curation: end -->"
STORIES, SEEDS, SHUFFLED = 600, 2, 30


def run_of(work: Path, texts: Sequence[str]) -> Run:
    """A fitted run of a model trained on the texts."""
    corpus = work / "corpus.jsonl"
    work.mkdir()
    lines = [json.dumps({"id": f"story-{k:05d}", "text": text}) for k, text in enumerate(texts)]
    corpus.write_text("\n".join(lines), encoding="utf-8")
    train_tiny_lm(texts, work / "model")
    run = Run.create(work / "run", str(work / "model"), corpus)
    run.fit()
    return run


def halves(run: Run, questions: Sequence[Question]) -> dict[str, list[NDArray[np.int64]]]:
    """Name of a selection -> positions of the selected stories for each seed."""
    rankings: dict[str, Callable[[], Ranking]] = {
        "the best half, `mean`": lambda: run.rank(questions),
        "the best half, `max`": lambda: run.rank(questions, aggregate="max"),
        "the best half, `mean`, `--rank-by relative`": lambda: run.rank(questions, rank_by="relative"),
        "the worst half (`--lowest`)": lambda: run.rank(questions, lowest=True),
    }
    total = len(run.corpus)
    random_halves = [np.random.default_rng(seed).permutation(total)[: total // 2] for seed in range(SEEDS)]
    return {name: [rank().kept(0.5)] * SEEDS for name, rank in rankings.items()} | {
        "a random half": random_halves,
        "all stories": [np.arange(total)] * SEEDS,
    }


def selection(work: Path, world: World) -> list[str]:
    """The table of models retrained on selected stories."""
    run = run_of(work, [story.text for story in world.stories])
    facts = sorted(world.facts, key=lambda fact: fact.id)
    stated = {fact.id: set(fact.stories) for fact in facts}
    questions = [run.question(fact.prompt, fact.completion) for fact in facts]
    targets = list(range(0, len(facts), 2))
    retraining = retraining_of(run.lm, run.corpus, questions, recipe=None, folder=work / "retrained")
    stories = {story for k in targets for story in stated[facts[k].id]}
    lines = [
        f"{len(run.corpus)} stories and {len(targets)} questions, which {len(stories)} stories answer. "
        f"Means of {SEEDS} trainings from different initial weights. Losses are in nats per question.",
        "",
        "| trained on | share of the answering stories kept | loss on the questions | loss on other facts |",
        "|---|---|---|---|",
    ]
    for name, selected in halves(run, [questions[k] for k in targets]).items():
        losses = np.array(losses_after(retraining, selected))
        others = [k for k in range(len(facts)) if k not in targets]
        share = np.mean([len(stories & {run.corpus.ids[p] for p in each}) / len(stories) for each in selected])
        row = [f"{losses[:, part].mean(1).mean():.2f}" for part in (targets, others)]
        print(name, [f"{each:.2f}" for each in losses[:, targets].mean(1)], flush=True)
        lines.append(f"| {name} | {share:.2f} | {row[0]} | {row[1]} |")
    return lines


def losses_after(retraining: Retraining, selected: Sequence[NDArray[np.int64]]) -> list[list[float]]:
    """Losses of all questions after each retraining."""
    tasks: list[Task] = []
    for seed, positions in enumerate(selected, start=1):
        members = np.zeros(len(retraining.sequences), dtype=np.bool_)
        members[positions] = True
        tasks.append(Task(members, seed))
    return [outcome.losses for outcome in retraining.outcomes(tasks)]


def shuffle_words(text: str, rng: random.Random) -> str:
    """The same words in random order, so that the text teaches nothing although no word is unusual."""
    words = text.split(" ")
    rng.shuffle(words)
    return " ".join(words)


def noise(work: Path, world: World) -> list[str]:
    """The table of shuffled stories found by each ranking."""
    rng = random.Random(0)
    shuffled = set(rng.sample(range(len(world.stories)), SHUFFLED))
    run = run_of(work, [shuffle_words(s.text, rng) if k in shuffled else s.text for k, s in enumerate(world.stories)])
    self_influence, tokens = run.self_influence(run.curvature()), learned_tokens(run.corpus)
    sequences = run.corpus.sequences()
    losses = np.array([float(token_losses(run.lm, pad([sequences[k]], [0])).sum()) for k in range(len(sequences))])
    rankings: dict[str, NDArray[Any]] = {
        "self-influence per token (`--by self-influence`)": run.rank().scores,
        "self-influence": self_influence,
        "loss per token": losses / tokens,
        "length": tokens,
    }
    lines = [
        f"The words of {SHUFFLED} of {len(world.stories)} stories are shuffled, then a model is trained on all.",
        "",
        f"| ranked by | shuffled stories in the top {SHUFFLED} | in the top {2 * SHUFFLED} |",
        "|---|---|---|",
    ]
    for name, scores in rankings.items():
        order = np.argsort(-scores, kind="stable")
        found = [len(shuffled & set(order[:count].tolist())) for count in (SHUFFLED, 2 * SHUFFLED)]
        lines.append(f"| {name} | {found[0]} | {found[1]} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stories", type=int, default=STORIES)
    parser.add_argument("--only", choices=["selection", "noise"], help="print only this part, without writing the page")
    given = parser.parse_args()
    world = make_world(given.stories)
    with TemporaryDirectory() as folder:
        lines = [f"{date.today()}, {processor()}, {given.stories} stories of the tiny world.", ""]
        for name, part in (("selection", selection), ("noise", noise)):
            lines += [*part(Path(folder) / name, world), ""] if given.only in (None, name) else []
    print("\n".join(lines), flush=True)
    if given.only is None:
        put_between(PAGE, BEGIN, END, "\n".join(lines).rstrip())


if __name__ == "__main__":
    configure_process()
    main()
