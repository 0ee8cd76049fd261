"""Ladder 1: factored gradients are the per-example gradients of autograd, whatever the batch looks like."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.attribution.preconditioned import SequenceGradients
from headwater.corpus.batches import TokenSequence, make_batches, pad
from headwater.errors import HeadwaterError
from headwater.gradients import factored as gradient_module
from headwater.gradients.basis import Basis
from headwater.gradients.factored import FactoredGradient, inner, inner_by_token, low_rank, per_example, rotated
from headwater.lm.capture import Capture, ForwardPass
from headwater.lm.layers import choose_layers
from headwater.sweep.shard_gradients import factored
from headwater.sweep.sweep import Sweep, fold
from tests.models import ARCHITECTURES, VOCABULARY, plain_model, tiny_lm
from tests.oracle import assert_near, example_gradients, random_sequences


@pytest.mark.parametrize("globs", [None, ("all-linear",)], ids=["mlp", "all-linear"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_matches_autograd(architecture: str, globs: tuple[str, ...] | None) -> None:
    lm, sequences = tiny_lm(architecture), random_sequences(5, VOCABULARY, seed=1)
    layers = choose_layers(lm.model, globs)
    found = fold(
        Sweep(stage="", lm=lm, layers=layers, sequences=sequences, tokens_in_batch=40),
        lambda: SequenceGradients(layers),
    ).by_layer()
    expected = example_gradients(plain_model(architecture), [layer.name for layer in layers], sequences)
    assert len(layers) >= 4
    for layer in layers:
        assert found[layer.name].shape == (5, layer.outputs, layer.inputs)
        assert_near(found[layer.name], expected[layer.name])


@given(data=st.data(), budget=st.integers(1, 200), seed=st.integers(0, 10_000), count=st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_batching_order_padding_and_masks_change_nothing(
    data: st.DataObject, budget: int, seed: int, count: int
) -> None:
    lm = tiny_lm("gpt_neo")
    layers = choose_layers(lm.model, ("all-linear",))
    masked: list[TokenSequence] = []
    for s in random_sequences(count, VOCABULARY, seed):
        targets = np.array(data.draw(st.lists(st.booleans(), min_size=len(s.targets), max_size=len(s.targets))))
        targets[0] = False
        masked.append(TokenSequence(s.id, s.input_ids, targets))
    order = data.draw(st.permutations(range(count)))
    shuffled = [masked[i] for i in order]
    found = fold(
        Sweep(stage="", lm=lm, layers=layers, sequences=shuffled, tokens_in_batch=budget),
        lambda: SequenceGradients(layers),
    ).by_layer()
    model, names = plain_model("gpt_neo"), [layer.name for layer in layers]
    model.requires_grad_(True)
    for place, sequence in enumerate(shuffled):
        if not sequence.targets.any():
            assert all(bool((found[name][place] == 0).all()) for name in names)
            continue
        expected = example_gradients(model, names, [sequence])
        for name in names:
            assert_near(found[name][place], expected[name][0])


def test_padding_carries_exactly_nothing() -> None:
    lm = tiny_lm("gpt_neo")
    layers = choose_layers(lm.model)
    short, long = random_sequences(2, VOCABULARY, seed=3)
    short = TokenSequence("short", short.input_ids[:2], short.targets[:2])
    with Capture(lm, layers) as capture:
        caught = factored(layers, capture(pad([short, long], [0, 1])))
    for gradient in caught.values():
        assert bool((gradient.activations[0, 2:] == 0).all())
        assert bool((gradient.output_gradients[0, 2:] == 0).all())


def test_capture_forms_no_weight_gradient_and_leaves_no_hook() -> None:
    lm = tiny_lm("llama")
    layers = choose_layers(lm.model)
    with Capture(lm, layers) as capture:
        capture(pad(random_sequences(2, VOCABULARY, 0), [0, 1]))
    assert all(p.grad is None and not p.requires_grad for p in lm.model.parameters())
    assert not any(module._forward_hooks for module in lm.model.modules())


def test_a_forward_pass_owns_what_was_captured_and_is_taken_back_once() -> None:
    lm = tiny_lm("gpt_neo")
    layers = choose_layers(lm.model)
    batches = [pad(random_sequences(2, VOCABULARY, seed), [0, 1]) for seed in (0, 1)]

    def pulled(forward: ForwardPass) -> dict[str, torch.Tensor]:
        return forward.activations() | forward.pull_back(torch.ones_like(forward.hidden))

    with Capture(lm, layers) as capture:
        alone = [pulled(capture.forward(batch)) for batch in batches]
        forwards = [capture.forward(batch) for batch in batches]
        for forward, expected in zip(forwards, alone, strict=True):
            assert all(torch.equal(found, expected[name]) for name, found in pulled(forward).items())
            with pytest.raises(AssertionError, match="freed"):
                pulled(forward)


def test_gate_and_up_share_their_input_in_a_gated_mlp() -> None:
    groups = {layer.name.rsplit(".", 1)[-1]: layer.group for layer in choose_layers(tiny_lm("llama").model)}
    assert groups["up_proj"] == groups["gate_proj"] != groups["down_proj"]


def test_a_glob_without_a_match_names_the_nearest_layers() -> None:
    with pytest.raises(HeadwaterError, match=r"c_fcc.*matches no linear layer.*mlp\.c_fc"):
        choose_layers(tiny_lm("gpt_neo").model, ("*.mlp.c_fcc",))
    with pytest.raises(HeadwaterError, match=r"Nearest: transformer\.h\.\*\.mlp\."):
        choose_layers(tiny_lm("gpt_neo").model, ("*.mpl.*",))


def test_a_loss_that_is_not_finite_names_the_example() -> None:
    lm = tiny_lm("gpt_neo")
    lm.model.transformer.wpe.weight.data[9] = float("nan")
    sequences = [s for s in random_sequences(20, VOCABULARY, 5) if len(s.input_ids) > 10][:1]
    with pytest.raises(HeadwaterError, match=f"example {sequences[0].id} is not finite"):
        fold(
            Sweep(stage="", lm=lm, layers=choose_layers(lm.model), sequences=sequences),
            lambda: SequenceGradients(choose_layers(lm.model)),
        )


widths = st.integers(1, 12) | st.sampled_from([16, 17, 32, 33])
shapes = st.tuples(st.integers(1, 4), st.integers(1, 30), widths, widths, st.integers(1, 4))


@given(shape=shapes, seed=st.integers(0, 1000), numbers=st.sampled_from([1, 100, 10**9]), kept=st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_every_route_of_a_contraction_agrees(
    shape: tuple[int, int, int, int, int], seed: int, numbers: int, kept: int
) -> None:
    B, T, inputs, outputs, Q = shape
    torch.manual_seed(seed)
    a, g = torch.randn(B, T, inputs).double(), torch.randn(B, T, outputs).double()
    R = torch.randn(Q, outputs, inputs).double()
    Q_A, Q_S = (
        Basis((torch.linalg.qr(torch.randn(n, n).double())[0],)).truncate(torch.randperm(n)[:kept].sort().values)
        for n in (inputs, outputs)
    )
    gradient = FactoredGradient(a, g)
    G = torch.einsum("bto,bti->boi", g, a)
    limit, gradient_module.GRADIENT_NUMBERS = gradient_module.GRADIENT_NUMBERS, numbers
    try:
        torch.testing.assert_close(per_example(gradient), G)
        pieces = [piece for _, _, piece in rotated({"layer": gradient}, {"layer": (Q_A, Q_S)})]
        torch.testing.assert_close(torch.cat(pieces), torch.einsum("op,boi,ij->bpj", Q_S.dense(), G, Q_A.dense()))
        torch.testing.assert_close(inner(gradient, R), torch.einsum("boi,qoi->bq", G, R))
        torch.testing.assert_close(inner_by_token(gradient, R).sum(1), inner(gradient, R))
    finally:
        gradient_module.GRADIENT_NUMBERS = limit


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=30), budget=st.integers(1, 200))
def test_batches_hold_every_sequence_once_within_the_budget(lengths: list[int], budget: int) -> None:
    sequences = [TokenSequence(str(k), np.arange(n), np.ones(n, bool)) for k, n in enumerate(lengths)]
    batches = list(make_batches(sequences, budget))
    assert sorted(int(row) for batch in batches for row in batch.rows) == list(range(len(lengths)))
    for batch in batches:
        assert batch.input_ids.size <= budget or len(batch.ids) == 1


def test_a_wide_weight_is_brought_to_low_rank_as_well_by_looking_at_a_few_random_directions() -> None:
    """Within 1 % of the best of its rank (Eckart and Young), for weights whose spectrum falls as gradients' do."""
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(3, size, 60, dtype=torch.float64))[0] for size in (80, 90))
    spectrum = 0.8 ** torch.arange(60, dtype=torch.float64)
    weights = (left * spectrum) @ right.mT
    found = low_rank(weights, 10)
    assert found.left.shape == (3, 80, 10)
    lost = (weights - found.dense()).norm(dim=(1, 2))
    assert bool((lost <= 1.01 * spectrum[10:].norm()).all())
    again = low_rank(weights, 10)
    assert torch.equal(found.dense(), again.dense())
