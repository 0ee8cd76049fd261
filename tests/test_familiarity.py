"""How usual the corpus is to the model: measured at the fit, shown, and warned of."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from headwater.cli import app
from headwater.corpus.batches import TokenSequence
from headwater.errors import HeadwaterError
from headwater.lm.familiarity import SAMPLE, Familiarity, familiarity
from headwater.render.familiarity import usual, warning
from headwater.runs.info import read_familiarity
from headwater.runs.run import Run
from tests.models import tiny_lm
from tests.serving import make_run

TRAINED = Familiarity(loss=3.2, entropy=3.4, tokens=100, examples=4, vocabulary=50_000)


def test_loss_and_entropy_are_those_of_the_models_own_logits() -> None:
    lm = tiny_lm("gpt2")
    rng = np.random.default_rng(0)
    sequences = [TokenSequence(str(k), rng.integers(0, 300, 9), np.arange(9) > k) for k in range(3)]
    found = familiarity(lm, sequences)
    losses: list[float] = []
    entropies: list[float] = []
    for sequence in sequences:
        logs = lm.model(torch.from_numpy(sequence.input_ids)[None]).logits[0].log_softmax(-1)
        for t in np.flatnonzero(sequence.targets):
            losses.append(-float(logs[t - 1, sequence.input_ids[t]]))
            entropies.append(-float((logs[t - 1].exp() * logs[t - 1]).sum()))
    assert found.tokens == len(losses) == 8 + 7 + 6
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert found.entropy == pytest.approx(np.mean(entropies), rel=1e-5)


def test_of_a_large_corpus_an_even_sample_is_read() -> None:
    sequence = TokenSequence("a", np.array([1, 2, 3]), np.array([False, True, True]))
    assert familiarity(tiny_lm(), [sequence] * (3 * SAMPLE)).examples == SAMPLE


def test_only_untrained_models_and_unusual_texts_are_warned_of() -> None:
    guess = math.log(TRAINED.vocabulary)
    assert warning(TRAINED) is None
    assert "untrained" in (warning(replace(TRAINED, loss=guess + 0.1, entropy=guess - 0.1)) or "")
    assert "unusual" in (warning(replace(TRAINED, loss=guess)) or "")
    assert "3.20 nats a token over 100 tokens" in usual(TRAINED)


def test_a_fit_measures_it_and_info_shows_it(tmp_path: Path) -> None:
    run = make_run(tmp_path, index=False)
    found = read_familiarity(run.paths)
    assert found == familiarity(run.lm, run.corpus.sequences())
    assert found is not None
    shown = CliRunner().invoke(app, ["info", str(run.path)], env={"COLUMNS": "400"})
    assert usual(found) in shown.output
    assert "untrained" in shown.output, "the model of the tests is"
    fitted = CliRunner().invoke(app, ["fit", str(run.path)])
    assert "Warning: The model looks untrained" in fitted.stderr
    run.paths.familiarity.write_text("{")
    with pytest.raises(HeadwaterError, match="is damaged"):
        read_familiarity(run.paths)
    run.paths.familiarity.unlink()
    assert read_familiarity(Run.open(run.path, run.lm).paths) is None
