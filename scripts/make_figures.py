"""`make figures`: draw the pictures of docs/how.md, docs/pictures/how-*.svg, from the demo's run.

python scripts/make_figures.py                    # all, from runs/demo, which is made if missing (a few minutes)
python scripts/make_figures.py --only tail        # one of them

Results that take minutes are stored in RUN/figures. The model is trained locally, and differs slightly between
machines. On one machine, the same run gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from how_figures import Certainty, DampingEffect, Spectrum, Tails, loud
from numpy.typing import NDArray

from headwater.attribution.answer import Answer
from headwater.attribution.question import Question, describe
from headwater.base.files import write_text
from headwater.base.progress import Report
from headwater.cli.progress import progress_report
from headwater.curvature.base import EigenCurvature
from headwater.demo.build import Demo, build_model, build_world
from headwater.demo.world import Fact
from headwater.render import plots
from headwater.render.plots.sheet import Picture
from headwater.runs.run import Run
from headwater.verify.options import VerifyOptions
from headwater.verify.verification import Verification

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
LARGEST = 300_000
"""Maximum bytes of a picture."""
ASKED = "fears-tullum"
"""The fact of docs/start.md, used in most pictures."""
FACTORS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0)
CHECKS = (
    VerifyOptions(kind="step", k=5, random=5),
    VerifyOptions(kind="pbrf", k=4, random=4, weight=0.1, subset=256),
    VerifyOptions(kind="pbrf", k=4, random=4, subset=256),
)


@dataclass(frozen=True)
class Scene:
    """The demo's run, and its facts as questions."""

    run: Run
    facts: tuple[Fact, ...]

    @property
    def work(self) -> Path:
        return self.run.path / "figures"

    @cached_property
    def questions(self) -> list[Question]:
        return [replace(self.run.question(fact.prompt, fact.completion), id=fact.id) for fact in self.facts]

    def question(self, fact: str) -> Question:
        return next(question for question in self.questions if question.id == fact)

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """[N, Q] exact influence of every story on every fact."""
        return plots.exact_scores(self.run, self.questions)

    @cached_property
    def answer(self) -> Answer:
        return self.run.ask(self.question(ASKED))


def tail(scene: Scene) -> Picture:
    asked = [fact.id for fact in scene.facts].index(ASKED)
    return plots.tail(scene.scores[:, asked], scene.questions[asked].text)


def tails(scene: Scene) -> Picture:
    laws = [plots.tail(column).law for column in scene.scores.T]
    return Tails(scene.scores, sum(law is not None and law.plausible for law in laws))


def layers(scene: Scene) -> Picture:
    """Three facts of each kind, each stated by ten stories."""
    often = [question for question, fact in zip(scene.questions, scene.facts, strict=True) if fact.times == 10]
    return plots.layers(scene.run.ask_all(often[:9], k=10))


def tokens(scene: Scene) -> Picture:
    """The token map of the strongest story for a fact of several words: the one that the model is least sure of."""
    often = [
        (describe(scene.run.lm, question).loss, question)
        for question, fact in zip(scene.questions, scene.facts, strict=True)
        if fact.times == 10 and fact.kind == "keeps"
    ]
    question = max(often, key=lambda pair: pair[0])[1]
    return plots.tokens(scene.run.token_map(question, scene.run.ask(question, k=1).proponents[0].id))


def certainty(scene: Scene) -> Picture:
    losses = np.array([describe(scene.run.lm, question).loss for question in scene.questions])
    strongest = np.abs(scene.scores).max(axis=0) / len(scene.scores)
    return Certainty(losses, strongest, np.array([fact.times for fact in scene.facts]))


def loudness(scene: Scene) -> Picture:
    norms = np.sqrt(scene.run.self_influence(scene.run.curvature()))
    facts = [story for fact in scene.facts for story in fact.stories]
    return loud(scene.scores, norms, np.isin(np.array(scene.run.corpus.ids), facts))


def spectrum(scene: Scene) -> Picture:
    curvature = scene.run.curvature()
    assert isinstance(curvature, EigenCurvature)
    found: dict[str, NDArray[np.float64]] = {}
    for layer in curvature.layers:
        values = np.sort(curvature.bases[layer.name].eigenvalues.double().numpy().ravel())[::-1]
        found[layer.name.removeprefix("transformer.h.")] = values / values.mean()
    return Spectrum(found)


def damping(scene: Scene) -> Picture:
    often = [n for n, fact in enumerate(scene.facts) if fact.times == 10]
    questions = [scene.questions[n] for n in often]
    ids = np.array(scene.run.corpus.ids)

    def top(damping: str) -> NDArray[np.int64]:
        return np.argsort(-plots.exact_scores(scene.run, questions, damping), axis=0)[:10]

    def stating(best: NDArray[np.int64]) -> float:
        return float(np.mean([np.isin(ids[best[:, q]], scene.facts[n].stories).mean() for q, n in enumerate(often)]))

    tops = [top(f"{factor}*mean") for factor in FACTORS]
    default = tops[FACTORS.index(0.1)]
    same = [float(np.mean([np.isin(best[:, q], default[:, q]).mean() for q in range(len(often))])) for best in tops]
    # One λ far above every eigenvalue divides all directions by the same number.
    product = stating(top("1e9"))
    return DampingEffect(
        factors=FACTORS,
        found=np.array([stating(best) for best in tops]),
        same=np.array(same),
        gradient=product,
        questions=len(often),
    )


def verified(scene: Scene) -> Picture:
    found: list[Verification] = []
    for options in CHECKS:
        file = scene.work / f"{options.kind}-{options.weight:g}.json"
        if not file.exists():
            write_text(file, scene.run.verify(scene.answer, options).to_json())
        found.append(Verification.from_json(file.read_bytes()))
    return plots.verified(found)


def index_recall(scene: Scene) -> Picture:
    return plots.recall(scene.run, scene.questions[:: len(scene.questions) // 24])


FIGURES: dict[str, Callable[[Scene], Picture]] = {
    "tail": tail,
    "tails": tails,
    "layers": layers,
    "tokens": tokens,
    "certainty": certainty,
    "loud": loudness,
    "spectrum": spectrum,
    "damping": damping,
    "verified": verified,
    "recall": index_recall,
}


def built(path: Path, report: Report) -> Scene:
    """The demo's run, with all missing steps done."""
    demo = Demo(path, 3000, 0)
    world = build_world(demo)
    build_model(demo, world, report)
    run = Run.create(path, str(demo.model), demo.corpus)
    run = run.using(report=report)
    run.fit()
    return Scene(run, world.facts)


def main(path: Path, names: list[str], out: Path) -> None:
    with progress_report() as report:
        scene = built(path, report)
        captions: dict[str, str] = {}
        for name in names:
            picture = FIGURES[name](scene)
            written = picture.save(out / f"how-{name}.svg")
            assert written.stat().st_size < LARGEST, f"{written} has {written.stat().st_size:,} bytes"
            captions[str(written)] = picture.meaning
    print(json.dumps(captions, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="the demo's run, made if missing")
    parser.add_argument(
        "--only", action="append", choices=list(FIGURES), help="figure to draw; repeatable; default: all"
    )
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder of the pictures")
    given = parser.parse_args()
    main(given.run, given.only or list(FIGURES), given.out)
