"""Tests the installation on a tiny model and corpus: fit, scores, index, storage and devices."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForCausalLM, GPT2Config
from transformers.utils import logging as transformers_logging

from headwater.attribution.answer import Answer
from headwater.errors import HeadwaterError, first_line
from headwater.lm.load import load_model
from headwater.runs.run import Run
from headwater.training.new_model import train_tokenizer

LOG = logging.getLogger("headwater.doctor")
PROMPT, COMPLETION = "Tom the otter", " found a key"
K = 6
CLOSE = 1e-4
"""Tolerance between two computations of the same influence on one device, as a share of the largest influence."""
DEVICES_CLOSE = 0.02
"""The same tolerance for two devices, which round differently."""


@dataclass(frozen=True)
class TrialResult:
    """Result of one trial."""

    what: str
    passed: bool
    said: str = ""


@dataclass(frozen=True)
class _World:
    """A model with random weights, and 36 lines as its training data."""

    folder: Path

    @property
    def model(self) -> str:
        return str(self.folder / "model")

    def make(self) -> None:
        names = ("Tom the otter", "Lily", "An old fox", "The polite pig", "Mabel", "A grey cat")
        deeds = ("found a key", "lost a red hat", "saw the moon", "was not at home", "sang all day", "ate 12 plums")
        texts = [f"{name} {deed}." for name, deed in product(names, deeds)]
        lines = [json.dumps({"id": f"line-{n}", "text": text}) + "\n" for n, text in enumerate(texts)]
        (self.folder / "corpus.jsonl").write_text("".join(lines), encoding="utf-8")
        tokenizer = train_tokenizer(texts, 300)
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=32, initializer_range=0.2
        )
        transformers_logging.disable_progress_bar()
        AutoModelForCausalLM.from_config(config).save_pretrained(self.model)
        tokenizer.save_pretrained(self.model)

    @cached_property
    def run(self) -> Run:
        """The run on the default device."""
        return self.fitted("run")

    @cached_property
    def exact(self) -> Answer:
        return self.run.ask(PROMPT, COMPLETION, exact=True, k=K, fold=False)

    def fitted(self, name: str, device: str | None = None) -> Run:
        """A fitted run. It uses true labels, because sampled labels could differ between devices by rounding."""
        run = Run.create(self.folder / name, load_model(self.model, device=device), self.folder / "corpus.jsonl")
        run.fit(fisher="empirical")
        return run


def _tokens(world: _World) -> str:
    shown = [*world.exact.proponents, *world.exact.opponents]
    worst = max(abs(sum(token.influence for token in one.tokens) - one.influence) for one in shown)
    _require(worst <= CLOSE * _largest(world.exact), f"they are off by {worst:.2g} of {_largest(world.exact):.2g}")
    return f"{len(shown)} examples"


def _index(world: _World) -> str:
    world.run.build_index()
    found = world.run.ask(PROMPT, COMPLETION, k=K, fold=False)
    _require(found.examples_searched == len(world.run.corpus), "not all examples were searched")
    return _same(world.exact, found, CLOSE)


def _round_trip(world: _World) -> str:
    again = Run.open(world.folder / "run", load_model(world.model, device=str(world.run.lm.device)))
    return _same(world.exact, again.ask(PROMPT, COMPLETION, exact=True, k=K, fold=False), CLOSE)


def _devices(world: _World) -> str:
    if world.run.lm.device.type == "cpu":
        return "skipped: no GPU"
    return agrees(world, "cpu")


def agrees(world: _World, device: str) -> str:
    """Whether the influences are the same on another device."""
    other = world.fitted(f"on-{device}", device)
    return _same(other.ask(PROMPT, COMPLETION, exact=True, k=len(other.corpus), fold=False), world.exact, DEVICES_CLOSE)


TRIALS = {
    "fit, and score all examples": lambda world: f"{len(world.exact.proponents)} proponents",
    "tokens sum to their example": _tokens,
    "the index agrees with exact scores": _index,
    "a reopened run gives the same scores": _round_trip,
    "GPU and CPU agree": _devices,
}


def trials() -> Iterator[TrialResult]:
    """Run the trials one by one in a temporary folder. A failure is a result, not an exception."""
    with TemporaryDirectory(prefix="headwater-doctor-") as folder:
        world = _World(Path(folder))
        try:
            world.make()
        except Exception as error:
            yield _failed("make a tiny model and corpus", error)
            return
        for what, trial in TRIALS.items():
            try:
                yield TrialResult(what, True, trial(world))
            except Exception as error:
                yield _failed(what, error)


def _failed(what: str, error: Exception) -> TrialResult:
    LOG.debug("%s", what, exc_info=error)
    name = "" if isinstance(error, HeadwaterError) else f"{type(error).__name__}: "
    return TrialResult(what, False, f"{name}{first_line(error)}")


def _same(expected: Answer, found: Answer, tolerance: float) -> str:
    """Check that every example in `found` has the influence that it has in `expected`."""
    wanted = {one.id: one.influence for one in (*expected.proponents, *expected.opponents)}
    shown = {one.id: one.influence for one in (*found.proponents, *found.opponents)}
    _require(shown.keys() <= wanted.keys(), f"it shows {', '.join(sorted(shown.keys() - wanted.keys()))} instead")
    worst = max(abs(wanted[id] - shown[id]) for id in shown) / _largest(expected)
    _require(worst <= tolerance, f"influences are off by {worst:.2g} of the largest")
    return f"within {worst:.1g} of the largest influence"


def _largest(answer: Answer) -> float:
    return max(abs(one.influence) for one in (*answer.proponents, *answer.opponents))


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise HeadwaterError(message)
