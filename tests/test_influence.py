"""Ladder 4 and 5: parts sum to the whole, batching changes nothing, and a real step moves the query as predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headwater.attribution.preconditioned import PreconditionedQueries, SequenceGradients, loss_gradients
from headwater.attribution.question import Question, make_question
from headwater.attribution.scores import (
    Rows,
    Scores,
    SelfInfluence,
    TokenScores,
    WhitenedGradients,
)
from headwater.attribution.strongest import both_ends
from headwater.corpus.batches import Batch, TokenSequence, pad
from headwater.curvature.base import Curvature, identity
from headwater.curvature.fit import fit_curvature
from headwater.curvature.workbench import Workbench
from headwater.errors import HeadwaterError
from headwater.gradients.factored import FactoredGradient, Gradients, LowRank, inner
from headwater.lm.capture import Labels, token_losses
from headwater.lm.layers import choose_layers, stepped
from headwater.lm.load import LanguageModel
from headwater.sweep.sweep import Sweep, fold
from tests.models import VOCABULARY, plain_model, tiny_lm
from tests.oracle import assert_near, example_gradients, keep, random_sequences, sequence_loss

LM = tiny_lm("gpt_neo")
LAYERS = choose_layers(LM.model)
CORPUS = random_sequences(30, VOCABULARY, seed=21)
QUERIES = random_sequences(3, VOCABULARY, seed=22)


def preconditioned(lm: LanguageModel, curvature: Curvature, sequences: Sequence[TokenSequence]) -> Gradients:
    """R of every sequence."""
    return loss_gradients(lm, curvature.layers, sequences, curvature=curvature)


class LayerScores(Rows):
    """[N, L, Q] influence by layer. The sum over L is `Scores`."""

    def __init__(self, preconditioned: Mapping[str, Tensor | LowRank]) -> None:
        super().__init__()
        self.preconditioned = preconditioned

    def update(self, batch: Batch, gradients: Mapping[str, FactoredGradient]) -> None:
        parts = [inner(gradient, self.preconditioned[name]) for name, gradient in gradients.items()]
        self.add(batch, torch.stack(parts, dim=1))


def sweep(sequences: list[TokenSequence] = CORPUS, budget: int = 100) -> Sweep:
    return Sweep(stage="", lm=LM, layers=LAYERS, sequences=sequences, tokens_in_batch=budget)


@pytest.fixture(scope="module")
def curvature(tmp_path_factory: pytest.TempPathFactory) -> Curvature:
    fit = Sweep(stage="fit", lm=LM, layers=LAYERS, sequences=CORPUS, labels=Labels("sampled"))
    return fit_curvature("ekfac", fit, Workbench(tmp_path_factory.mktemp("fit"), "test"))


def test_scores_are_inner_products_of_preconditioned_and_plain_gradients(curvature: Curvature) -> None:
    names = [layer.name for layer in LAYERS]
    Q = example_gradients(plain_model(), names, QUERIES)
    Z = example_gradients(plain_model(), names, CORPUS)
    R = curvature.precondition(Q)
    expected = torch.stack([Z[n].flatten(1) @ R[n].flatten(1).t() for n in names]).sum(0)
    found = fold(sweep(), lambda: Scores(preconditioned(LM, curvature, QUERIES))).values
    assert found.shape == (30, 3)
    assert_near(found, expected)


@pytest.mark.parametrize("kind", ["ekfac", "kfac", "diagonal", "identity", "exact"])
def test_dot_products_of_whitened_gradients_are_influences(kind: str, tmp_path: Path) -> None:
    """Every curvature kind, the dense one included: ⟨w(q), w(z)⟩ = I(q, z) and ‖w(z)‖² = I(z, z)."""
    layers = LAYERS[:1] if kind == "exact" else LAYERS
    fit = Sweep(stage="fit", lm=LM, layers=layers, sequences=CORPUS, labels=Labels("sampled"))
    used = fit_curvature(kind, fit, Workbench(tmp_path, "test"))
    corpus = Sweep(stage="", lm=LM, layers=layers, sequences=CORPUS, tokens_in_batch=100)
    scores = fold(corpus, lambda: Scores(preconditioned(LM, used, QUERIES))).values
    whitened = fold(corpus, lambda: WhitenedGradients(used)).values
    asked = fold(Sweep(stage="", lm=LM, layers=layers, sequences=QUERIES), lambda: WhitenedGradients(used)).values
    assert_near(whitened @ asked.t(), scores, 1e-7)
    assert_near(used.whitened_from(preconditioned(LM, used, QUERIES)), asked, 1e-7)
    assert_near(whitened.square().sum(1), fold(corpus, lambda: SelfInfluence(used)).values, 1e-7)


@given(rank=st.integers(1, 30))
@settings(max_examples=15)
def test_low_rank_queries_are_scored_as_their_dense_form_and_lose_nothing_at_full_rank(
    rank: int, curvature: Curvature
) -> None:
    R = preconditioned(LM, curvature, QUERIES)
    low = PreconditionedQueries(R).of_rank(rank)
    dense = {name: weights.dense() for name, weights in low.items() if isinstance(weights, LowRank)}
    assert len(dense) == len(R)
    for make in (Scores, LayerScores):
        found, expected = (fold(sweep(), lambda make=make, used=used: make(used)).values for used in (low, dense))
        assert_near(found, expected)
    by_token = zip(
        fold(sweep(), lambda: TokenScores(low)).values, fold(sweep(), lambda: TokenScores(dense)).values, strict=True
    )
    for found, expected in by_token:
        assert_near(found, expected)
    for layer in LAYERS:
        singular = torch.linalg.svdvals(R[layer.name])
        lost = (R[layer.name] - dense[layer.name]).square().sum((1, 2))
        assert_near(lost, singular[:, rank:].square().sum(1), 1e-6)  # the best of that rank (Eckart and Young)
        if rank >= min(layer.outputs, layer.inputs):
            assert_near(dense[layer.name], R[layer.name], 1e-9)


def test_tokens_and_layers_sum_to_the_example(curvature: Curvature) -> None:
    R = preconditioned(LM, curvature, QUERIES)
    whole = fold(sweep(), lambda: Scores(R)).values
    by_layer = fold(sweep(), lambda: LayerScores(R)).values
    by_token = fold(sweep(), lambda: TokenScores(R)).values
    both = fold(sweep(), lambda: TokenScores(R, by_layer=True)).values
    assert_near(by_layer.sum(1), whole, 1e-9)
    for row, shares in enumerate(by_token):
        assert shares.shape == (len(CORPUS[row].input_ids), 3)
        assert_near(shares.sum(0), whole[row], 1e-9)
        assert_near(both[row].sum(0), shares, 1e-9)
        assert_near(both[row].sum(1), by_layer[row], 1e-9)


def test_token_scores_are_those_of_the_definition(curvature: Curvature) -> None:
    """s_t = g_tᵀ R a_t, by hooks and autograd on one text: token t's own share of every weight gradient."""
    R = preconditioned(LM, curvature, QUERIES[:1])
    model, sequence = plain_model().requires_grad_(True), CORPUS[4]
    kept: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for layer in LAYERS:
        model.get_submodule(layer.name).register_forward_hook(keep(kept, layer.name))
    loss = sequence_loss(model, sequence)
    expected = torch.zeros(len(sequence.input_ids)).double()
    for layer in LAYERS:
        inputs, output = kept[layer.name]
        (g,) = torch.autograd.grad(loss, output, retain_graph=True)
        a = torch.cat([inputs[0], torch.ones(len(inputs[0]), 1)], 1)
        expected += torch.einsum("to,oi,ti->t", g[0], R[layer.name][0], a).detach()
    found = fold(sweep([sequence]), lambda: TokenScores(R)).values[0][:, 0]
    assert_near(found, expected)


def test_token_by_token_sums_to_both(curvature: Curvature) -> None:
    question = make_question(LM, "Once upon a time, Lily", " found a shiny key.")
    R_whole = preconditioned(LM, curvature, [question.sequence])
    R_each = preconditioned(LM, curvature, question.token_sequences())
    shares = fold(sweep(), lambda: TokenScores(R_each)).values
    whole = fold(sweep(), lambda: TokenScores(R_whole)).values
    alone = fold(sweep(), lambda: Scores(R_each)).values
    for row in range(len(CORPUS)):
        assert shares[row].shape[1] == sum(question.selected)
        assert_near(shares[row].sum(1), whole[row][:, 0], 1e-7)  # over query tokens: the training tokens' shares
        assert_near(shares[row].sum(0), alone[row], 1e-9)  # over training tokens: each query token alone


@given(budget=st.integers(1, 300), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_batches_and_order_never_change_a_score(budget: int, seed: int, curvature: Curvature) -> None:
    order = np.random.default_rng(seed).permutation(len(CORPUS))
    R = preconditioned(LM, curvature, QUERIES)
    expected = fold(sweep(), lambda: Scores(R)).values
    found = fold(sweep([CORPUS[i] for i in order], budget), lambda: Scores(R)).values
    assert_near(found, expected[order.copy()], 1e-9)


def test_influence_is_symmetric_and_self_influence_lies_on_its_diagonal(curvature: Curvature) -> None:
    R = preconditioned(LM, curvature, CORPUS)
    scores = fold(sweep(), lambda: Scores(R)).values
    assert_near(scores, scores.t(), 1e-7)
    norms = fold(sweep(), lambda: SelfInfluence(curvature)).values
    assert_near(norms, scores.diagonal(), 1e-7)
    assert bool((norms > 0).all())


@pytest.mark.parametrize("kind", ["ekfac", "identity"])
def test_a_small_step_on_an_example_moves_the_query_loss_by_its_influence(kind: str, curvature: Curvature) -> None:
    """θ ← θ − ε (H + λI)⁻¹ ∇L(z) changes L(q) by −ε I(q, z): proponents lower it, opponents raise it."""
    used = curvature if kind == "ekfac" else identity(LAYERS)
    query = QUERIES[0]
    scores = fold(sweep(), lambda: Scores(preconditioned(LM, used, [query]))).values[:, 0]
    ends = both_ends(scores.numpy(), 3)
    assert len(ends.proponents) == len(ends.opponents) == 3
    before = query_loss(query)
    for position in ends.positions:
        step = used.precondition(fold(sweep([CORPUS[position]]), lambda: SequenceGradients(LAYERS)).by_layer())
        size = sum(float(part.square().sum()) for part in step.values()) ** 0.5
        epsilon = 1e-5 / size
        with stepped(LM.model, {name: -epsilon * part[0] for name, part in step.items()}):
            change = query_loss(query) - before
        predicted = -epsilon * float(scores[position])
        assert np.sign(change) == np.sign(predicted)
        assert abs(change - predicted) < 0.02 * abs(predicted)
    assert query_loss(query) == before


def query_loss(query: TokenSequence) -> float:
    return float(token_losses(LM, pad([query], [0])).sum())


def test_prompt_and_completion_are_one_text_and_only_the_completion_carries_loss() -> None:
    prompt, completion = "Tom the otter lost", " his red hat"
    question = make_question(LM, prompt, completion)
    assert question.sequence.input_ids.tolist() == LM.tokenizer(prompt + completion)["input_ids"]
    chosen = "".join(p for p, s in zip(question.pieces, question.selected, strict=True) if s)
    assert completion in chosen
    assert len(chosen) - len(completion) < 3  # at most one token straddles
    assert "".join(question.pieces) == prompt + completion


def test_a_span_selects_its_words_alone() -> None:
    question = make_question(LM, "Once upon a time, Lily found a", " shiny key in the garden.", span="shiny key")
    chosen = "".join(p for p, s in zip(question.pieces, question.selected, strict=True) if s)
    assert chosen.strip() == "shiny key"


@pytest.mark.parametrize(
    ("prompt", "completion", "span", "message"),
    [
        ("Once", "", None, "completion of query is empty"),
        ("Once", " upon", "moon", "not in the completion"),
        ("", "O", None, "does not predict the first token"),
        ("Once upon " * 40, "a", None, "reads at most 64"),
    ],
)
def test_a_query_without_meaning_is_refused(prompt: str, completion: str, span: str | None, message: str) -> None:
    with pytest.raises(HeadwaterError, match=message):
        make_question(LM, prompt, completion, span=span)


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=30), st.integers(1, 10))
def test_both_ends_are_the_strongest_of_each_sign(values: list[float], k: int) -> None:
    ends = both_ends(np.array(values, dtype=np.float32), k)
    assert [values[family.position] for family in ends.proponents] == sorted(
        (v for v in values if v > 0), reverse=True
    )[:k]
    assert [values[family.position] for family in ends.opponents] == sorted(v for v in values if v < 0)[:k]


def test_a_question_knows_its_text() -> None:
    question = make_question(LM, "The café", " was closed. 🦊")
    assert isinstance(question, Question)
    assert question.text == "The café was closed. 🦊"
    assert "".join(question.pieces) == question.text


def test_nothing_is_left_behind_in_the_folder(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, "x")
    fit_curvature("ekfac", Sweep(stage="fit", lm=LM, layers=LAYERS, sequences=CORPUS, labels=Labels("sampled")), bench)
    assert list(tmp_path.glob("*.checkpoint.safetensors"))
    bench.clear()
    assert not list(tmp_path.iterdir())
