"""Headwater in the race: its curvature, its scans and its index, by the functions that its commands call."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers.job import COMPLETION, LONGEST, PROMPT, Job, main
from headwater.attribution.index.options import IndexOptions
from headwater.attribution.index.planes import Planes
from headwater.attribution.options import AskOptions
from headwater.attribution.preconditioned import loss_gradients
from headwater.attribution.scores import Scores, TokenScores
from headwater.corpus.options import CorpusOptions
from headwater.curvature.base import Curvature
from headwater.curvature.damping import Damping
from headwater.curvature.fit import fit_curvature
from headwater.curvature.store import load_curvature, save_curvature
from headwater.curvature.workbench import Workbench
from headwater.lm.capture import Labels
from headwater.lm.layers import choose_layers
from headwater.lm.load import LanguageModel, load_model
from headwater.runs.run import Run
from headwater.sweep.sweep import Sweep, fold


def fit(job: Job) -> Callable[[], None]:
    lm = load_model(str(job.model))
    sequences = job.sequences("fit")
    sweep = Sweep(stage="fit", lm=lm, layers=choose_layers(lm.model), sequences=sequences, labels=Labels("sampled"))
    _warm(lm)

    def work() -> None:
        bench = Workbench(job.own / "curvature", "race")
        save_curvature(job.own / "curvature.safetensors", fit_curvature("ekfac", sweep, bench), {})
        bench.clear()

    return work


def scan(queries: int, tokens: bool = False) -> Callable[[Job], Callable[[], NDArray[Any]]]:
    def prepare(job: Job) -> Callable[[], NDArray[Any]]:
        lm, curvature = load_model(str(job.model)), _curvature(job)
        asked, stories = job.queries(queries), job.sequences("train")
        sweep = Sweep(stage="scan", lm=lm, layers=curvature.layers, sequences=stories)
        _warm(lm)

        def work() -> NDArray[Any]:
            weights = loss_gradients(lm, curvature.layers, asked, curvature=curvature)
            if not tokens:
                return fold(sweep, lambda: Scores(weights)).values.numpy().T
            found = fold(sweep, lambda: TokenScores(weights)).values
            return torch.nn.utils.rnn.pad_sequence(found, batch_first=True).permute(2, 0, 1).numpy()

        return work

    return prepare


def store(job: Job) -> Callable[[], None]:
    run = _run(job)
    shutil.rmtree(run.path / "index", ignore_errors=True)  # that of an earlier round would be kept
    _warm(run.lm)
    Planes(128, 1, 1).encode(np.ones((1, 128)))
    return lambda: _discard(run.build_index(IndexOptions()))


def question(job: Job) -> Callable[[], NDArray[Any]]:
    run = _run(job)
    tokens = [query.input_ids for query in job.queries(2)]
    first, second = (
        (run.lm.tokenizer.decode(ids[:PROMPT]), run.lm.tokenizer.decode(ids[PROMPT : PROMPT + COMPLETION]))
        for ids in tokens
    )
    run.ask(*first)

    def work() -> NDArray[Any]:
        answer = run.ask(*second, options=AskOptions())
        return np.array([[example.influence for example in answer.proponents]])

    return work


def _curvature(job: Job) -> Curvature:
    return load_curvature(job.own / "curvature.safetensors", Damping())[0]


def _run(job: Job) -> Run:
    """A run over the scored stories, with the curvature of the job."""
    run = Run.create(
        job.own / "run", str(job.model), job.folder / "train.jsonl", options=CorpusOptions(max_tokens=LONGEST)
    )
    if not run.paths.curvature.exists():
        binding = run.manifest.binding() | {"settings": "race"}
        save_curvature(run.paths.curvature, _curvature(job), binding)
    return run


def _warm(lm: LanguageModel) -> None:
    """Load what is compiled, as every contestant's imports are loaded before the clock starts."""
    embedded = torch.randn(1, 8, lm.model.config.hidden_size, requires_grad=True)
    hidden = lm.body(inputs_embeds=embedded, use_cache=False).last_hidden_state
    torch.autograd.grad(hidden.sum(), embedded)


def _discard(_: object) -> None:
    return None


STAGES = {
    "fit": fit,
    "scan8": scan(8),
    "scan64": scan(64),
    "tokens8": scan(8, tokens=True),
    "store": store,
    "question": question,
}

if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main("headwater", STAGES)
