"""A curvature along some directions, against the same columns of the whole; and the index of such sketches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from headwater.attribution.scores import WhitenedGradients
from headwater.corpus.batches import TokenSequence
from headwater.curvature.base import EigenCurvature, identity
from headwater.curvature.fit import fit_curvature
from headwater.curvature.truncated import project, truncate, truncated
from headwater.curvature.workbench import Workbench
from headwater.errors import HeadwaterError
from headwater.lm.capture import Labels
from headwater.lm.layers import choose_layers
from headwater.runs.run import Run
from headwater.sweep.sweep import Sweep, fold
from tests.models import VOCABULARY, plain_model, tiny_lm, tiny_tokenizer
from tests.oracle import assert_near, random_sequences


@pytest.fixture(scope="module")
def sequences() -> list[TokenSequence]:
    return random_sequences(30, VOCABULARY, seed=3)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("directions", [1, 5, 1000])
def test_what_is_seen_is_those_columns_of_the_whole(
    architecture: str, directions: int, sequences: list[TokenSequence], tmp_path: Path
) -> None:
    lm = tiny_lm(architecture)
    layers = choose_layers(lm.model)
    sweep = Sweep(
        stage="fit", lm=lm, layers=layers, sequences=sequences, labels=Labels("sampled", 0), tokens_in_batch=300
    )
    curvature = fit_curvature("ekfac", sweep, Workbench(tmp_path, "test"), block_width=20)
    assert isinstance(curvature, EigenCurvature)
    narrow = truncated(curvature, directions)
    whole = fold(sweep, lambda: WhitenedGradients(curvature)).values
    part = fold(sweep, lambda: WhitenedGradients(narrow)).values
    flat = torch.zeros(curvature.dimensions, dtype=torch.bool)
    for layer, places in zip(layers, flat.split([x.parameters for x in layers]), strict=True):
        rows, columns = narrow.places[layer.name]
        assert len(rows) == min(directions, layer.outputs)
        assert len(columns) == min(directions, layer.inputs)
        shape = places.view(layer.outputs, layer.inputs)
        shape[rows[:, None], columns[None]] = True
    assert_near(part, whole[:, flat], 1e-6)
    # by the eigenvalues, which are those of sampled labels, as the gradients here are
    assert narrow.share == pytest.approx(float(whole[:, flat].square().sum() / whole.square().sum()), rel=1e-6)
    R = curvature.precondition({x.name: torch.randn(2, x.outputs, x.inputs).double() for x in layers})
    assert_near(project(curvature, narrow, R), curvature.whitened_from(R)[:, flat], 1e-6)


def test_the_directions_seen_are_the_strongest(sequences: list[TokenSequence], tmp_path: Path) -> None:
    lm = tiny_lm("gpt2")
    sweep = Sweep(
        stage="fit",
        lm=lm,
        layers=choose_layers(lm.model),
        sequences=sequences,
        labels=Labels("sampled", 0),
        tokens_in_batch=300,
    )
    curvature = fit_curvature("ekfac", sweep, Workbench(tmp_path, "test"))
    shares = [truncated(curvature, count).share for count in (1, 4, 8, 16)]
    assert shares == sorted(shares)
    assert shares[1] > 2 * 4 * 4 / (32 * 128), "far more than as many directions taken at random"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("narrow")
    plain_model("gpt_neo", torch.float32).save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    lines = [f"Mia saw {k} stars and the {('moon', 'fox', 'key')[k % 3]} was {k % 7} years old." for k in range(50)]
    (folder / "corpus.jsonl").write_text("\n".join(json.dumps({"text": line}) for line in lines))
    made = Run.create(folder / "run", str(folder / "model"), folder / "corpus.jsonl")
    made.fit()
    return made


def test_an_index_of_some_directions_finds_what_an_exact_scan_finds(run: Run) -> None:
    assert run.build_index(directions=8).added == 50
    settings = run.index.settings
    assert settings is not None
    assert settings.directions == 8
    assert settings.sketch.dimensions == truncate(run.curvature(), 8).dimensions < run.curvature().dimensions
    question = run.question("Mia saw", " the moon")
    found, exact = run.ask(question, k=3, fold=False), run.ask(question, k=3, fold=False, exact=True)
    assert found.examples_searched == 50
    assert [e.id for e in found.proponents] == [e.id for e in exact.proponents]
    assert [e.influence for e in found.opponents] == pytest.approx([e.influence for e in exact.opponents], rel=1e-4)
    norms = run.index.table.batches(["self_influence"]) if run.index.table else ()
    estimated = np.concatenate([batch.column("self_influence").to_numpy() for batch in norms])
    assert np.corrcoef(estimated, run.self_influence(run.curvature()))[0, 1] > 0.8
    assert run.build_index().added == 0, "what the index has is kept where nothing else is asked for"
    assert run.build_index(directions=0).replaced


def test_kinds_without_eigenvectors_are_refused(run: Run) -> None:
    with pytest.raises(HeadwaterError, match="none of"):
        truncated(identity(run.curvature().layers), 4)
    with pytest.raises(HeadwaterError, match="at least one direction"):
        truncated(run.curvature(), -1)
