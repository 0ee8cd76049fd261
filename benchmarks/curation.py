"""`python -m benchmarks.curation`: does training on what `headwater rank` keeps help, and does it find what is wrong?

A world of small stories, and a model trained on it. One half of the facts' questions are what the model should do: the
model is trained again on the best half of the stories for these, by each way to rank, on the worst half, and on random
halves, and asked. Then, in another run, stories are spoilt, and sketch_query by their self-influence. The tables go to
docs/benchmarks.md.
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
STORIES, SEEDS, SPOILT = 600, 2, 30


def run_of(work: Path, texts: Sequence[str]) -> Run:
    """A model trained on the texts, and a run on it."""
    corpus = work / "corpus.jsonl"
    work.mkdir()
    lines = [json.dumps({"id": f"story-{k:05d}", "text": text}) for k, text in enumerate(texts)]
    corpus.write_text("\n".join(lines), encoding="utf-8")
    train_tiny_lm(texts, work / "model")
    run = Run.create(work / "run", str(work / "model"), corpus)
    run.fit()
    return run


def halves(run: Run, questions: Sequence[Question]) -> dict[str, list[NDArray[np.int64]]]:
    """Positions of the stories that are kept, by the name of the way."""
    ways: dict[str, Callable[[], Ranking]] = {
        "the best half, `mean`": lambda: run.rank(questions),
        "the best half, `max`": lambda: run.rank(questions, aggregate="max"),
        "the best half, `mean`, `--rank-by relative`": lambda: run.rank(questions, rank_by="relative"),
        "the worst half (`--lowest`)": lambda: run.rank(questions, lowest=True),
    }
    total = len(run.corpus)
    chance = [np.random.default_rng(seed).permutation(total)[: total // 2] for seed in range(SEEDS)]
    return {name: [way().kept(0.5)] * SEEDS for name, way in ways.items()} | {
        "a random half": chance,
        "all stories": [np.arange(total)] * SEEDS,
    }


def selection(work: Path, world: World) -> list[str]:
    run = run_of(work, [story.text for story in world.stories])
    facts = sorted(world.facts, key=lambda fact: fact.id)
    stated = {fact.id: set(fact.stories) for fact in facts}
    asked = [run.question(fact.prompt, fact.completion) for fact in facts]
    wanted = list(range(0, len(facts), 2))
    retraining = retraining_of(run.lm, run.corpus, asked, recipe=None, folder=work / "retrained")
    stories = {story for k in wanted for story in stated[facts[k].id]}
    lines = [
        f"{len(run.corpus)} stories and {len(wanted)} questions, which {len(stories)} stories answer. Means of {SEEDS} "
        "trainings from different initial weights. Losses are in nats per question.",
        "",
        "| trained on | share of the answering stories kept | loss on the questions | loss on other facts |",
        "|---|---|---|---|",
    ]
    for name, kept in halves(run, [asked[k] for k in wanted]).items():
        losses = np.array(outcomes(retraining, kept))
        others = [k for k in range(len(facts)) if k not in wanted]
        share = np.mean([len(stories & {run.corpus.ids[p] for p in each}) / len(stories) for each in kept])
        row = [f"{losses[:, part].mean(1).mean():.2f}" for part in (wanted, others)]
        print(name, [f"{each:.2f}" for each in losses[:, wanted].mean(1)], flush=True)
        lines.append(f"| {name} | {share:.2f} | {row[0]} | {row[1]} |")
    return lines


def outcomes(retraining: Retraining, kept: Sequence[NDArray[np.int64]]) -> list[list[float]]:
    """The losses of all questions after each training."""
    tasks: list[Task] = []
    for seed, positions in enumerate(kept, start=1):
        members = np.zeros(len(retraining.sequences), dtype=np.bool_)
        members[positions] = True
        tasks.append(Task(members, seed))
    return [outcome.losses for outcome in retraining.outcomes(tasks)]


def spoil(text: str, rng: random.Random) -> str:
    """The same words in another order: nothing to learn from, and nothing strange about a word."""
    words = text.split(" ")
    rng.shuffle(words)
    return " ".join(words)


def noise(work: Path, world: World) -> list[str]:
    rng = random.Random(0)
    spoilt = set(rng.sample(range(len(world.stories)), SPOILT))
    run = run_of(work, [spoil(s.text, rng) if k in spoilt else s.text for k, s in enumerate(world.stories)])
    own, tokens = run.self_influence(run.curvature()), learned_tokens(run.corpus)
    sequences = run.corpus.sequences()
    losses = np.array([float(token_losses(run.lm, pad([sequences[k]], [0])).sum()) for k in range(len(sequences))])
    by: dict[str, NDArray[Any]] = {
        "self-influence per token (`--by self-influence`)": run.rank().scores,
        "self-influence": own,
        "loss per token": losses / tokens,
        "length": tokens,
    }
    lines = [
        f"The words of {SPOILT} of {len(world.stories)} stories are shuffled, then a model is trained on all of them.",
        "",
        f"| ranked by | shuffled stories in the top {SPOILT} | in the top {2 * SPOILT} |",
        "|---|---|---|",
    ]
    for name, scores in by.items():
        order = np.argsort(-scores, kind="stable")
        found = [len(spoilt & set(order[:count].tolist())) for count in (SPOILT, 2 * SPOILT)]
        lines.append(f"| {name} | {found[0]} | {found[1]} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stories", type=int, default=STORIES)
    parser.add_argument("--only", choices=["selection", "noise"], help="print this part, and write nothing")
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
