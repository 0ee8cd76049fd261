"""Mixtures of experts: every matrix of an expert is a layer, whose gradients are those of autograd."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from headwater.attribution.preconditioned import SequenceGradients
from headwater.attribution.scores import Scores, TokenScores
from headwater.corpus.batches import TokenSequence, pad
from headwater.curvature.base import EigenCurvature
from headwater.curvature.covariances import Covariances
from headwater.curvature.fit import fit_curvature
from headwater.curvature.solvers.gauss_newton import gauss_newton_product, tangents
from headwater.curvature.workbench import Workbench
from headwater.gradients.factored import FactoredGradient, at_positions, inner_by_token
from headwater.lm.capture import Capture
from headwater.lm.checkpointing import checkpoint_gradients
from headwater.lm.layers import choose_layers, stepped
from headwater.lm.load import LanguageModel
from headwater.plan.paper import shapes_of
from headwater.sweep.shard_gradients import factored
from headwater.sweep.sweep import Sweep, fold
from headwater.training.adam import kernel_moments
from tests.models import EXPERTS, VOCABULARY, plain_model, tiny_lm
from tests.oracle import assert_near, example_gradients, random_sequences

CORPUS = random_sequences(6, VOCABULARY, seed=71)
"""Texts of different lengths, so that batches have padding."""


def sweep_of(lm: LanguageModel, corpus: list[TokenSequence], *globs: str) -> Sweep:
    """Several batches."""
    layers = choose_layers(lm.model, globs or None)
    return Sweep(stage="", lm=lm, layers=layers, sequences=corpus, tokens_in_batch=50)


@pytest.mark.parametrize("architecture", EXPERTS)
def test_experts_match_autograd(architecture: str) -> None:
    """Routed and shared, with and without gates and biases, beside all other linear layers, and dense MLPs."""
    sweep = sweep_of(tiny_lm(architecture), CORPUS, "all-linear")
    found = fold(sweep, lambda: SequenceGradients(sweep.layers)).by_layer()
    names = [layer.name for layer in sweep.layers]
    expected = example_gradients(plain_model(architecture), names, CORPUS)
    routed = [layer for layer in sweep.layers if layer.is_routed]
    assert any(name.endswith((".gate.linear", ".router.linear")) for name in names), "the router too"
    assert len(routed) in (8, 16)
    assert {layer.token_share for layer in routed} == {0.5}
    assert all(layer.group == layer.name for layer in routed), "experts share no inputs: each sees other tokens"
    for layer in sweep.layers:
        assert found[layer.name].shape == (len(CORPUS), layer.outputs, layer.inputs)
        assert_near(found[layer.name], expected[layer.name], 1e-6)
    if architecture != "nemotron_h":  # which calls everything a mixer
        assert {layer.name for layer in routed} <= {layer.name for layer in choose_layers(sweep.lm.model)}


@pytest.mark.parametrize("architecture", EXPERTS)
def test_the_model_itself_stays_as_it_was(architecture: str) -> None:
    plain, lm = plain_model(architecture), tiny_lm(architecture)
    ids = torch.from_numpy(CORPUS[0].input_ids)[None]
    torch.testing.assert_close(lm.model(ids).logits, plain(ids).logits, rtol=0, atol=1e-6)  # some norms are in float32
    assert list(lm.model.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in lm.model.named_parameters()] == [name for name, _ in plain.named_parameters()]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return tiny_lm("gpt_oss")  # biases, and weights that are stored transposed


@pytest.fixture(scope="module")
def last(lm: LanguageModel) -> Sweep:
    """The experts of the last block, with the texts' own labels: small enough for a dense Fisher."""
    return sweep_of(lm, CORPUS, "model.layers.1.mlp.experts.[01].*")


@pytest.fixture(scope="module")
def expected(last: Sweep) -> dict[str, Tensor]:
    return example_gradients(plain_model("gpt_oss"), [layer.name for layer in last.layers], CORPUS)


def test_covariances_are_means_over_the_tokens_of_an_expert(last: Sweep) -> None:
    """With the token's routing weight in `g`, as autograd has it, and no token of padding."""
    sums = fold(last, lambda: Covariances(last.layers))
    experts = plain_model("gpt_oss").model.layers[1].mlp.experts
    seen: list[tuple[Tensor, Tensor]] = []
    experts.register_forward_pre_hook(lambda _, args: seen.append((args[0].detach(), args[1])))
    model = plain_model("gpt_oss")
    model.model.layers[1].mlp.experts = experts
    for sequence in CORPUS:
        model(torch.from_numpy(sequence.input_ids)[None])
    for number in (0, 1):
        rows = torch.cat([hidden[(chosen == number).any(1)] for hidden, chosen in seen])
        ones = torch.cat([rows, torch.ones(len(rows), 1).double()], 1)
        name = f"model.layers.1.mlp.experts.{number}.gate_up_proj"
        assert 0 < len(rows) < sum(len(s.input_ids) for s in CORPUS)
        assert sums.tokens_of[name] == len(rows)
        torch.testing.assert_close(sums.covariance(f"{name}.A.0"), ones.t() @ ones / len(rows))


def test_a_state_of_covariances_keeps_the_counts_of_experts(last: Sweep) -> None:
    sums = fold(last, lambda: Covariances(last.layers))
    again = Covariances(last.layers)
    again.load_state_dict(sums.state_dict())
    assert again.tokens_of == sums.tokens_of
    again.merge(sums)
    assert again.tokens_of == {name: 2 * count for name, count in sums.tokens_of.items()}
    name = f"{last.layers[0].name}.S.0"
    torch.testing.assert_close(again.covariance(name), fold(last, lambda: Covariances(last.layers)).covariance(name))


@pytest.mark.parametrize("kind", ["exact", "ekfac", "kfac", "identity"])
def test_influence_is_that_of_autograd(kind: str, last: Sweep, expected: dict[str, Tensor], tmp_path: Path) -> None:
    """Every kind, from the gradients of autograd and the curvature's own matrices, to 1e-6."""
    curvature = fit_curvature(kind, last, Workbench(tmp_path, "test"))
    preconditioned = curvature.precondition({name: part[:2] for name, part in expected.items()})
    scores = fold(last, lambda: Scores(preconditioned)).values
    flat = torch.cat([part.flatten(1) for part in expected.values()], dim=1)
    if kind == "exact":
        lambdas = torch.cat(
            [torch.full((x.parameters,), curvature.damping_of(x.name), dtype=torch.float64) for x in last.layers]
        )
        inverse = torch.linalg.inv(flat.t() @ flat / len(flat) + torch.diag(lambdas))
        assert_near(scores, flat @ inverse @ flat[:2].t(), 1e-6)
    else:
        assert isinstance(curvature, EigenCurvature)
        total = torch.zeros(len(flat), 2, dtype=torch.float64)
        for name, part in expected.items():
            rotated = curvature.bases[name].to_eigenbasis(part)
            eigenvalues = curvature.bases[name].eigenvalues
            if kind == "ekfac":
                torch.testing.assert_close(eigenvalues, rotated.square().mean(0))
            damped = rotated / (eigenvalues + curvature.damping_of(name))
            total += torch.einsum("boi,qoi->bq", rotated, damped[:2])
        assert_near(scores, total, 1e-6)
    whole = curvature.whiten(factored_of(last))
    assert_near(whole @ whole.t()[:, :2], scores, 1e-6)


def factored_of(sweep: Sweep) -> dict[str, FactoredGradient]:
    with Capture(sweep.lm, sweep.layers) as capture:
        return factored(sweep.layers, capture(pad(sweep.sequences, range(len(sweep.sequences)))))


def test_kfac_counts_the_tokens_of_an_expert(last: Sweep, tmp_path: Path) -> None:
    """Λ = T̄ λ_S λ_Aᵀ with the expert's own T̄, so its mean is T̄ tr(S) tr(A) / (O I)."""
    found = fit_curvature("kfac", last, Workbench(tmp_path, "test"))
    sums = fold(last, lambda: Covariances(last.layers))
    assert isinstance(found, EigenCurvature)
    for layer in last.layers:
        traces = [sums.covariance(f"{layer.name}.{side}.0").trace() for side in "AS"]
        mean = sums.tokens_of[layer.name] / len(CORPUS) * traces[0] * traces[1] / layer.parameters
        torch.testing.assert_close(found.bases[layer.name].eigenvalues.mean(), mean)


def test_an_expert_has_a_share_only_in_its_own_tokens(last: Sweep, expected: dict[str, Tensor]) -> None:
    gradients = {name: part[:1] for name, part in expected.items()}
    shares = fold(last, lambda: TokenScores(gradients, by_layer=True)).values
    scores = fold(last, lambda: Scores(gradients)).values
    for row, share in enumerate(shares):
        assert share.shape == (len(last.layers), len(CORPUS[row].input_ids), 1)
        torch.testing.assert_close(share.sum((0, 1)), scores[row])
    caught = factored_of(last)
    for place, (name, gradient) in enumerate(caught.items()):
        assert gradient.positions is not None
        assert gradient.positions.shape[1] < max(len(s.input_ids) for s in CORPUS), "memory for its tokens alone"
        whole = at_positions(inner_by_token(gradient, gradients[name]), gradient.positions, 20)
        for row, share in enumerate(shares):
            own = gradient.positions[row][gradient.positions[row] >= 0]
            assert own.tolist() == sorted(set(own.tolist()))
            others = [t for t in range(len(share)) if t not in own.tolist()]
            assert bool((share[place, others] == 0).all())
            torch.testing.assert_close(whole[row, own], share[place, own])


def test_steps_and_tangents_move_one_expert(lm: LanguageModel, last: Sweep) -> None:
    """Forward mode agrees with small steps on the weights, and a step leaves the weights as they were."""
    draw = torch.Generator().manual_seed(0)
    step = {x.name: torch.randn(x.outputs, x.inputs, generator=draw, dtype=torch.float64) for x in last.layers}
    batch = pad(CORPUS, [0, 1, 2])
    before = {name: weight.clone() for name, weight in lm.model.state_dict().items()}
    ids = torch.from_numpy(batch.input_ids)
    moved: list[Tensor] = []
    for size in (1e-3, -1e-3):
        with stepped(lm.model, {name: size * part for name, part in step.items()}), torch.no_grad():
            moved.append(lm.hidden_states(ids))
            changed = lm.model.state_dict()["model.layers.1.mlp.experts.down_proj"]
            assert not torch.equal(changed[1], before["model.layers.1.mlp.experts.down_proj"][1])
            assert torch.equal(changed[2:], before["model.layers.1.mlp.experts.down_proj"][2:])
    assert all(torch.equal(weight, before[name]) for name, weight in lm.model.state_dict().items())
    real = torch.from_numpy(batch.lengths)[:, None] > torch.arange(ids.shape[1])
    found = tangents(lm, tuple(last.layers), step, batch=batch)
    assert_near(found[real], ((moved[0] - moved[1]) / 2e-3)[real], 1e-3)


def test_the_gauss_newton_product_is_symmetric_and_positive(last: Sweep) -> None:
    draw = torch.Generator().manual_seed(1)
    vectors = {x.name: torch.randn(2, x.outputs, x.inputs, generator=draw, dtype=torch.float64) for x in last.layers}
    products = gauss_newton_product(last, vectors)
    flat, moved = (torch.cat([x.flatten(1) for x in each.values()], dim=1) for each in (vectors, products))
    forms = flat @ moved.t()
    torch.testing.assert_close(forms, forms.t())
    assert bool((forms.diagonal() > 0).all())


def test_an_expert_without_tokens_has_no_gradient_and_the_damping_of_the_others(tmp_path: Path) -> None:
    lm = tiny_lm("mixtral")
    whole = sweep_of(lm, CORPUS)
    short = TokenSequence("short", CORPUS[0].input_ids[:2], CORPUS[0].targets[:2])
    few = sweep_of(lm, [short])
    curvature = fit_curvature("ekfac", few, Workbench(tmp_path, "test"))
    assert isinstance(curvature, EigenCurvature)
    unseen = [x.name for x in few.layers if not bool(curvature.bases[x.name].eigenvalues.any())]
    seen = [x for x in few.layers if x.name not in unseen]
    assert unseen
    for name in unseen:
        same = [curvature.damping_of(x.name) for x in seen if x.name.endswith(name[-9:])]
        assert curvature.damping_of(name) == pytest.approx(sum(same) / len(same))
    question = fold(few, lambda: SequenceGradients(few.layers)).by_layer()
    assert all(not bool(question[name].any()) for name in unseen)
    scores = fold(whole, lambda: Scores(curvature.precondition(question))).values
    assert bool(torch.isfinite(scores).all())
    assert bool(torch.isfinite(curvature.whiten(factored_of(whole))).all())


def test_checkpointed_blocks_give_the_same_gradients() -> None:
    lm, again = tiny_lm("deepseek_v3"), tiny_lm("deepseek_v3")
    assert checkpoint_gradients(again.model)
    found, repeated = factored_of(sweep_of(lm, CORPUS)), factored_of(sweep_of(again, CORPUS))
    for name, gradient in found.items():
        assert torch.equal(gradient.activations, repeated[name].activations)
        assert torch.equal(gradient.output_gradients, repeated[name].output_gradients)


def test_moments_of_adam_are_found_in_a_router() -> None:
    lm = tiny_lm("gpt_oss")
    moments = {name: torch.rand_like(weight) for name, weight in lm.model.state_dict().items()}
    found = kernel_moments(lm, "model.layers.0.mlp.router.linear", moments)
    assert torch.equal(found[:, :-1], moments["model.layers.0.mlp.router.weight"])
    assert torch.equal(found[:, -1], moments["model.layers.0.mlp.router.bias"])


@pytest.mark.parametrize("architecture", ["mixtral", "gpt_oss"])
def test_moments_of_adam_are_found_in_the_parameter_of_all_experts(architecture: str) -> None:
    lm = tiny_lm(architecture)
    moments = {name: torch.rand_like(weight) for name, weight in lm.model.state_dict().items()}
    layer = next(x for x in choose_layers(lm.model) if x.name.endswith("experts.2.down_proj"))
    found = kernel_moments(lm, layer.name, moments)
    whole = moments["model.layers.0.mlp.experts.down_proj"][2]
    kernel = whole.t() if architecture == "gpt_oss" else whole
    assert found.shape == (layer.outputs, layer.inputs)
    assert torch.equal(found[:, : kernel.shape[1]], kernel)
    if layer.bias:
        assert torch.equal(found[:, -1], moments["model.layers.0.mlp.experts.down_proj_bias"][2])


def test_an_estimate_counts_the_experts_that_a_token_takes(tmp_path: Path) -> None:
    plain_model("mixtral").config.save_pretrained(tmp_path)
    shapes = shapes_of(str(tmp_path))
    assert shapes.layers == tuple(choose_layers(tiny_lm("mixtral").model))
    attention, head = 2 * (16 * 16 * 2 + 16 * 8 * 2), 16 * VOCABULARY
    routers = 2 * 16 * 4
    assert shapes.products == attention + head + routers + 2 * 2 * (16 * 48 + 24 * 16)
