"""How far predicted effects of single examples can be trusted: `python -m benchmarks.linearity [--real FOLDER]`.

Answers of several models, over several dampings. The effect that each predicts for its strongest example at both ends
is compared with the proximal response of the weights to the removal of the example. Results are added to
docs/results/linearity.jsonl, line by line, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from headwater.attribution.question import Question
from headwater.corpus.options import CorpusOptions
from headwater.demo.build import Demo, build_model, build_world
from headwater.runs.run import Run

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "linearity.jsonl"
DAMPINGS = ("0.1*mean", "1*mean", "10*mean")
QUESTIONS = 8
"""Of each model, at every damping."""
STORIES = 64


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One prediction and its measurement, in nats."""

    model: str
    question: str
    damping: str
    end: str
    examples: int
    surprisal: float
    tokens: int
    """Selected tokens of the completion."""
    reach: float
    """Σ (1 − p) over the selected tokens."""
    predicted: float
    measured: float
    converged: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stories", type=Path, help="a folder with gptneo-1m and tinystories/stories.jsonl")
    parser.add_argument("--real", type=Path, help="the folder of examples/real_model.py")
    given = parser.parse_args()
    torch.set_num_threads(1)
    RESULTS.parent.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        measure("tiny world", *tiny_world(Path(folder)))
        if given.stories:
            measure("gptneo-1m", *real_stories(given.stories, Path(folder)))
        if given.real:
            measure("SmolLM2-135M with LoRA", *chats(given.real), questions=4, subset=None)


def tiny_world(folder: Path) -> tuple[Run, list[Question]]:
    """A model of 200 invented stories, and the facts that they state."""
    demo = Demo(folder / "tiny", stories=200, epochs=22)
    world = build_world(demo)
    build_model(demo, world)
    run = Run.create(folder / "tiny", str(demo.model), demo.corpus)
    run.fit(progress=False)
    return run, [run.question(fact.prompt, fact.completion) for fact in world.facts[:QUESTIONS]]


def real_stories(folder: Path, target: Path) -> tuple[Run, list[Question]]:
    """A model of real stories: completions of 1 to 40 tokens in stories that it was trained on, and in others."""
    lines = [json.loads(line) for line in (folder / "tinystories/stories.jsonl").read_text("utf-8").splitlines()]
    held_out = set(json.loads((folder / "gptneo-1m/heldout_ids.json").read_text("utf-8")))
    learned = [line for line in lines if line["id"] not in held_out][:STORIES]
    others = [line for line in lines if line["id"] in held_out]
    (target / "stories.jsonl").write_text("\n".join(map(json.dumps, learned)), encoding="utf-8")
    run = Run.create(
        target / "stories", str(folder / "gptneo-1m"), target / "stories.jsonl", options=CorpusOptions(max_tokens=256)
    )
    run.fit(progress=False)
    made: list[Question] = []
    for number in range(QUESTIONS):
        text = (learned if number % 2 else others)[number]["text"]
        words = text.split(" ")
        length = (1, 3, 10, 30)[number % 4]
        made.append(run.question(" ".join(words[:20]), " " + " ".join(words[20 : 20 + length])))
    return run, made


def chats(folder: Path) -> tuple[Run, list[Question]]:
    """The real model of examples/real_model.py and questions to it: whole, a name, and other chats."""
    run = Run.open(folder / "run")
    asked = ("Who built the Eiffel Tower?", "Who painted the Mona Lisa?", "What do pandas eat?", "Who wrote Hamlet?")
    return run, [run.question([{"role": "user", "content": text}]) for text in asked]


def measure(
    model: str,
    run: Run,
    asked: list[Question],
    *,
    questions: int = QUESTIONS,
    dampings: tuple[str, ...] = DAMPINGS,
    subset: int | None = None,
) -> None:
    """Measure what is not in the results yet."""
    known = {(one.model, one.damping, one.question) for one in results()}
    for question in asked[:questions]:
        for damping in dampings:
            if (model, damping, question.text[-80:]) in known:
                continue
            start = time.monotonic()
            answer = run.ask(question, k=1, exact=True, damping=damping)
            found = run.verify(answer, kind="pbrf", k=1, random=0, subset=subset, iterations=40)
            with RESULTS.open("a", encoding="utf-8") as file:
                for check in found.checks:
                    one = Measured(
                        model=model,
                        question=question.text[-80:],
                        damping=damping,
                        end=check.group,
                        examples=answer.examples,
                        surprisal=answer.query.loss,
                        tokens=sum(question.selected),
                        reach=sum(1 - math.exp(-(token.loss or 0)) for token in answer.query.tokens if token.selected),
                        predicted=check.predicted,
                        measured=check.measured,
                        converged=check.converged,
                    )
                    file.write(json.dumps(asdict(one)) + "\n")
                    print(
                        f"{model} {damping} {one.surprisal:.2f} {one.predicted:+.4f} {one.measured:+.4f} "
                        f"{time.monotonic() - start:.0f} s",
                        flush=True,
                    )


def results() -> Iterator[Measured]:
    """What was measured before."""
    if RESULTS.exists():
        yield from (Measured(**json.loads(line)) for line in RESULTS.read_text("utf-8").splitlines())


if __name__ == "__main__":
    main()
