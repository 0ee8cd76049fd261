"""The fused head against cross_entropy and autograd in float64, and its sampling against the plain inverse."""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.lm import head as head_module
from headwater.lm.head import Head, head_curvature, head_pass


def small_tiles() -> Any:
    """Tiles of 40 rows by 64 columns, so that a few tokens and a small vocabulary take several of them."""
    return mock.patch.multiple(head_module, TILE_COLUMNS=64, TILE_NUMBERS=40 * 64)


@given(
    n=st.integers(0, 70),
    vocabulary=st.integers(2, 600),
    bias=st.booleans(),
    scale=st.sampled_from([1.0, 0.25]),
    cap=st.sampled_from([None, 5.0, 30.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_losses_and_hidden_gradients_are_those_of_cross_entropy(
    n: int, vocabulary: int, bias: bool, scale: float, cap: float | None, seed: int
) -> None:
    torch.manual_seed(seed)
    hidden = (10 * torch.randn(n, 8, dtype=torch.float64)).requires_grad_()
    head = Head(torch.randn(vocabulary, 8).double(), torch.randn(vocabulary).double() if bias else None, scale, cap)
    targets = torch.randint(0, vocabulary, (n,))
    losses = torch.nn.functional.cross_entropy(head.logits(hidden), targets, reduction="none")
    (expected,) = torch.autograd.grad(losses.sum(), hidden)
    with small_tiles():
        found = head_pass(hidden.detach(), head, targets)
    torch.testing.assert_close(found.losses, losses.detach())
    torch.testing.assert_close(found.gradient, expected)


@given(
    n=st.integers(0, 70),
    vocabulary=st.integers(2, 300),
    bias=st.booleans(),
    scale=st.sampled_from([1.0, 0.25]),
    cap=st.sampled_from([None, 3.0]),
    tangents=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_the_curvature_is_the_fisher_of_cross_entropy(
    n: int, vocabulary: int, bias: bool, scale: float, cap: float | None, tangents: int, seed: int
) -> None:
    torch.manual_seed(seed)
    hidden = (3 * torch.randn(n, 8, dtype=torch.float64)).requires_grad_()
    head = Head(torch.randn(vocabulary, 8).double(), torch.randn(vocabulary).double() if bias else None, scale, cap)
    directions = [torch.randn(n, 8, dtype=torch.float64) for _ in range(tangents)]
    # The mean over labels of the Hessian. The model's own probabilities weigh the labels.
    logs = head.logits(hidden).log_softmax(1)
    loss = -(logs.detach().exp() * logs).sum()
    (gradient,) = torch.autograd.grad(loss, hidden, create_graph=True)
    with mock.patch.object(head_module, "CURVATURE_PER_CHUNK", 40 * vocabulary):
        found = head_curvature(hidden.detach(), directions, head)
    for product, direction in zip(found, directions, strict=True):
        (expected,) = torch.autograd.grad(gradient, hidden, direction, retain_graph=True)
        torch.testing.assert_close(product, expected)


@given(vocabulary=st.integers(2, 700), cap=st.sampled_from([None, 2.0]), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_sampling_inverts_the_cumulative_distribution(vocabulary: int, cap: float | None, seed: int) -> None:
    torch.manual_seed(seed)
    hidden, head = torch.randn(50, 8).double(), Head(torch.randn(vocabulary, 8).double(), None, 1.0, cap)
    uniforms = torch.rand(50, dtype=torch.float64)
    with small_tiles():
        found = head_pass(hidden, head, torch.zeros(50, dtype=torch.int64), uniforms=uniforms)
    cumulative = head.logits(hidden).softmax(1).cumsum(1)
    expected = torch.searchsorted(cumulative, uniforms[:, None], right=True)[:, 0].clamp(max=vocabulary - 1)
    assert torch.equal(found.labels, expected)
    torch.testing.assert_close(
        found.losses, torch.nn.functional.cross_entropy(head.logits(hidden), expected, reduction="none")
    )


def test_float32_at_a_large_vocabulary_stays_close_to_float64() -> None:
    torch.manual_seed(0)
    hidden, weight = 3 * torch.randn(300, 64), 0.3 * torch.randn(50_257, 64)
    targets = torch.randint(0, 50_257, (300,))
    found = head_pass(hidden, Head(weight, None), targets)
    expected = head_pass(hidden.double(), Head(weight.double(), None), targets)
    torch.testing.assert_close(found.losses, expected.losses.float(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found.gradient, expected.gradient.float(), rtol=1e-4, atol=1e-4)
