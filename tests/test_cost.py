"""What a fixed small job costs, counted rather than timed: passes, head products, logits held, hooks called.

Each number follows from the job by the formula beside it. A change that makes one larger makes everything slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from headwater.attribution.preconditioned import loss_gradients
from headwater.attribution.scores import Scores, TokenScores
from headwater.corpus.batches import make_batches
from headwater.curvature.base import identity
from headwater.curvature.fit import fit_curvature
from headwater.curvature.workbench import Workbench
from headwater.gradients.factored import FactoredGradient, inner, inner_by_token
from headwater.lm import head as head_module
from headwater.lm.capture import Capture, ForwardPass, Labels
from headwater.lm.head import Head, head_pass
from headwater.lm.layers import choose_layers
from headwater.sweep import gradient_cache as gradient_cache_module
from headwater.sweep.sweep import Sweep, fold
from tests.models import VOCABULARY, tiny_lm
from tests.oracle import random_sequences

LM = tiny_lm("gpt_neo")
LAYERS = choose_layers(LM.model)
JOB = Sweep(
    stage="",
    lm=LM,
    layers=LAYERS,
    sequences=random_sequences(12, VOCABULARY, seed=0),
    labels=Labels("sampled"),
    tokens_in_batch=64,
)
BATCHES = len(list(make_batches(JOB.sequences, JOB.token_budget)))


class Counts:
    """How often the model was run and its hooks were called."""

    forward = backward = hooks = 0


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counts]:
    counts = Counts()
    forward, backward, hook = Capture.forward, ForwardPass._pull_back, Capture._hook

    def count_forward(self: Capture, *args: Any) -> Any:
        counts.forward += 1
        return forward(self, *args)

    def count_backward(self: ForwardPass, *args: Any, **options: Any) -> Any:
        counts.backward += 1
        return backward(self, *args, **options)

    def count_hooks(self: Capture, layer: Any) -> Any:
        inner_hook = hook(self, layer)

        def count(*args: Any) -> Any:
            counts.hooks += 1
            return inner_hook(*args)

        return count

    with monkeypatch.context() as patch:
        patch.setattr(Capture, "forward", count_forward)
        patch.setattr(ForwardPass, "_pull_back", count_backward)
        patch.setattr(Capture, "_hook", count_hooks)
        yield counts


def test_ekfac_runs_the_model_once_over_its_examples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with counted(monkeypatch) as counts:
        fit_curvature("ekfac", JOB, Workbench(tmp_path, "job"))
    assert (counts.forward, counts.backward) == (BATCHES, BATCHES)
    assert counts.hooks == BATCHES * len(LAYERS)


def test_without_room_to_keep_gradients_it_runs_twice_and_finds_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = fit_curvature("ekfac", JOB, Workbench(tmp_path / "kept", "job"))
    monkeypatch.setattr(gradient_cache_module, "LARGEST_CACHE", 0)
    with counted(monkeypatch) as counts:
        twice = fit_curvature("ekfac", JOB, Workbench(tmp_path / "not kept", "job"))
    assert (counts.forward, counts.backward) == (2 * BATCHES, 2 * BATCHES)
    gradients = {layer.name: torch.ones(1, layer.outputs, layer.inputs, dtype=torch.float64) for layer in LAYERS}
    for one, other in zip(whole.precondition(gradients).values(), twice.precondition(gradients).values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("queries", [1, 8])
def test_a_scan_runs_the_model_once_whatever_the_number_of_queries(
    monkeypatch: pytest.MonkeyPatch, queries: int
) -> None:
    plain = identity(LAYERS)
    weights = loss_gradients(LM, LAYERS, random_sequences(queries, VOCABULARY, seed=1), curvature=plain)
    for reducer in (Scores, TokenScores):
        with counted(monkeypatch) as counts:
            fold(JOB, lambda reducer=reducer: reducer(weights))
        assert (counts.forward, counts.backward, counts.hooks) == (BATCHES, BATCHES, BATCHES * len(LAYERS))


def test_the_head_makes_two_products_of_tokens_by_vocabulary_and_holds_one_tile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    n, vocabulary, width = 100, 1000, 8
    monkeypatch.setattr(head_module, "TILE_COLUMNS", 128)
    monkeypatch.setattr(head_module, "TILE_NUMBERS", 128 * 40)
    hidden, head = torch.randn(n, width), Head(torch.randn(vocabulary, width), None)
    with FlopCounterMode(display=False) as flops, Largest() as largest:
        head_pass(hidden, head, torch.zeros(n, dtype=torch.int64))
    products = 2 * (2 * n * vocabulary * width)  # logits and their way back, a multiplication and an addition each
    label_logits = 2 * n * width
    assert flops.get_total_flops() == products + label_logits
    assert largest.numbers <= max(128 * 40, vocabulary * width, n * width)


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor made within it has."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return made


def test_scores_take_the_products_that_their_formulas_say() -> None:
    B, T, inputs, outputs, Q = 3, 20, 17, 32, 5
    gradient = FactoredGradient(torch.randn(B, T, inputs), torch.randn(B, T, outputs))
    weights = torch.randn(Q, outputs, inputs)
    with FlopCounterMode(display=False) as flops:
        inner(gradient, weights)
    assert flops.get_total_flops() == 2 * B * outputs * inputs * (T + Q)
    with FlopCounterMode(display=False) as flops:
        inner_by_token(gradient, weights)
    assert flops.get_total_flops() == 2 * B * T * outputs * inputs * Q
