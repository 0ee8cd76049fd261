"""A model in bfloat16 gives nearly the influences that it gives in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from headwater.base.files import load_tensors
from headwater.corpus.batches import make_batches
from headwater.lm.capture import Capture
from headwater.runs.run import Run
from headwater.verify.options import VerifyOptions
from tests.serving import COMPLETION, PROMPT, make_run


@pytest.fixture(scope="module")
def precise(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("precise"), index=False)


@pytest.fixture(scope="module")
def coarse(precise: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("coarse") / "run"
    run = Run.create(path, precise.manifest.model.name, precise.manifest.corpus.source, dtype="bf16")
    run.fit()
    run.build_index(bytes=256)
    return run


def test_the_run_remembers_what_its_model_runs_in(coarse: Run) -> None:
    again = Run.open(coarse.path)
    assert again.lm.model.dtype == torch.bfloat16
    assert again.manifest.model.dtype == "bf16"
    assert again.curvature().kind == "ekfac"


def test_scores_rank_as_in_float32(coarse: Run, precise: Run, tmp_path: Path) -> None:
    columns = []
    for name, run in (("coarse", coarse), ("precise", precise)):
        scores = run.scan([run.question(PROMPT, COMPLETION)], tmp_path / f"{name}.parquet")
        columns.append(pq.read_table(scores).column(1).to_numpy())
    ranks = [column.argsort().argsort() for column in columns]
    assert np.corrcoef(*ranks)[0, 1] > 0.97
    assert np.corrcoef(*columns)[0, 1] > 0.99


def test_whatever_is_summed_is_in_float32(coarse: Run) -> None:
    curvature = coarse.curvature()
    (sequence,) = coarse.corpus.sequences([0])[:1]
    (batch,) = make_batches([sequence], 64)
    with Capture(coarse.lm, curvature.layers) as capture:
        captured = capture(batch)
    caught = [*captured.activations.values(), *captured.output_gradients.values(), captured.losses]
    assert {tensor.dtype for tensor in caught} == {torch.float32}
    kept = load_tensors(coarse.paths.curvature)
    assert {tensor.dtype for tensor in kept.values()} == {torch.float32}


def test_answers_are_verified_in_float32(coarse: Run) -> None:
    answer = coarse.ask(PROMPT, COMPLETION, k=2)
    found = coarse.verify(answer, VerifyOptions(k=2), random=2)
    assert found.correlation is not None
    assert found.correlation > 0.9
    assert coarse.ask(PROMPT, COMPLETION, k=2, solver="cg", iterations=2).proponents
