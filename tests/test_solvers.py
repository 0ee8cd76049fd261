"""The Gauss–Newton product, conjugate gradients and LiSSA, against plain autograd and dense solutions in float64."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from headwater.attribution.preconditioned import loss_gradients
from headwater.corpus.batches import TokenSequence
from headwater.curvature.base import EigenCurvature, identity
from headwater.curvature.damping import Damping
from headwater.curvature.fit import fit_curvature
from headwater.curvature.solvers.conjugate_gradient import solve
from headwater.curvature.solvers.gauss_newton import gauss_newton_product
from headwater.curvature.solvers.lissa import neumann_series
from headwater.curvature.solvers.solver import LinearProblem, damped_product
from headwater.curvature.workbench import Workbench
from headwater.errors import HeadwaterError
from headwater.gradients.factored import Gradients
from headwater.lm.capture import Labels
from headwater.lm.layers import TrackedLayer, choose_layers, shape_of
from headwater.sweep.sweep import Sweep
from tests.models import ARCHITECTURES, VOCABULARY, plain_model, tiny_lm
from tests.oracle import assert_near, random_sequences

CORPUS = random_sequences(7, VOCABULARY, seed=41)
QUERIES = random_sequences(2, VOCABULARY, seed=42)


def plain_product(
    model: Any, layers: list[TrackedLayer], step: dict[str, Tensor], sequence: TokenSequence
) -> Gradients:
    """H v of one sequence from the definition; the logits' tangent by differentiating a gradient."""
    model.requires_grad_(True)
    modules = [model.get_submodule(layer.name) for layer in layers]
    weights = [p for module in modules for p in (module.weight, getattr(module, "bias", None)) if p is not None]
    steps: list[Tensor] = []
    for layer, module in zip(layers, modules, strict=True):
        kernel = step[layer.name][:, : shape_of(module)[0]]
        steps.append(kernel if module.weight.shape == kernel.shape else kernel.t())
        if layer.bias:
            steps.append(step[layer.name][:, -1])
    with sdpa_kernel(SDPBackend.MATH):  # the only one that can be differentiated twice
        every = model(torch.from_numpy(sequence.input_ids)[None]).logits[0, :-1]
    logits = every[torch.from_numpy(sequence.targets[1:])]
    dummy = torch.zeros_like(logits, requires_grad=True)
    pulled = torch.autograd.grad(logits, weights, dummy, create_graph=True)
    inner = sum(((a * b).sum() for a, b in zip(pulled, steps, strict=True)), torch.zeros((), dtype=logits.dtype))
    (tangent,) = torch.autograd.grad(inner, dummy, retain_graph=True)
    p = logits.detach().softmax(-1)
    products = iter(torch.autograd.grad(logits, weights, p * tangent - p * (p * tangent).sum(-1, keepdim=True)))
    found: Gradients = {}
    for layer, module in zip(layers, modules, strict=True):
        kernel = next(products)
        kernel = kernel if kernel.shape[0] == layer.outputs and not _transposed(module) else kernel.t()
        found[layer.name] = torch.cat([kernel, next(products)[:, None]], 1) if layer.bias else kernel
    return found


def _transposed(module: Any) -> bool:
    return type(module).__name__ == "Conv1D"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_product_is_that_of_the_definition(architecture: str) -> None:
    """Batching and padding included, on every architecture, with targets that are not all the tokens."""
    lm = tiny_lm(architecture)
    layers = choose_layers(lm.model)
    draw = torch.Generator().manual_seed(0)
    vectors = {
        layer.name: torch.randn(2, layer.outputs, layer.inputs, generator=draw, dtype=torch.float64) for layer in layers
    }
    found = gauss_newton_product(Sweep(stage="", lm=lm, layers=layers, sequences=CORPUS, tokens_in_batch=45), vectors)
    model = plain_model(architecture)
    for q in range(2):
        step = {name: every[q] for name, every in vectors.items()}
        each = [plain_product(model, layers, step, sequence) for sequence in CORPUS]
        for layer in layers:
            expected = torch.stack([product[layer.name] for product in each]).mean(0)
            assert_near(found[layer.name][q], expected, 1e-6)  # the plain models take their softmax in float32


@dataclass(frozen=True)
class Dense:
    """A system that is small enough to write down."""

    sweep: Sweep
    curvature: EigenCurvature
    gradients: Gradients
    H: Tensor
    """[P, P] the Gauss–Newton matrix."""

    @property
    def problem(self) -> LinearProblem:
        return LinearProblem(curvature=self.curvature, sweep=self.sweep, gradients=self.gradients)

    def damped(self, curvature: EigenCurvature) -> Tensor:
        """H + λI with the curvature's λ."""
        layers = curvature.layers
        each = [torch.full((x.parameters,), curvature.damping_of(x.name), dtype=torch.float64) for x in layers]
        return self.H + torch.diag(torch.cat(each))

    def solution(self, curvature: EigenCurvature) -> Tensor:
        """[Q, P]"""
        return torch.linalg.solve(self.damped(curvature), _flat(self.gradients).t()).t()


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Dense:
    lm = tiny_lm("gpt_neo")
    layers = choose_layers(lm.model)[:2]
    sweep = Sweep(stage="", lm=lm, layers=layers, sequences=CORPUS)
    fit = Sweep(stage="fit", lm=lm, layers=layers, sequences=CORPUS, labels=Labels("sampled"))
    curvature = fit_curvature("ekfac", fit, Workbench(tmp_path_factory.mktemp("fit"), "test"))
    assert isinstance(curvature, EigenCurvature)
    sizes = [layer.parameters for layer in layers]
    units = torch.eye(sum(sizes), dtype=torch.float64).split(sizes, dim=1)
    eye = {layer.name: unit.reshape(-1, layer.outputs, layer.inputs) for layer, unit in zip(layers, units, strict=True)}
    return Dense(sweep, curvature, loss_gradients(lm, layers, QUERIES), _flat(gauss_newton_product(sweep, eye)))


def test_one_iteration_is_the_curvatures_answer_at_its_best_length_for_each_question(dense: Dense) -> None:
    found = _flat(solve(dense.problem, 1).gradients)
    answer, target = _flat(dense.curvature.precondition(dense.gradients)), _flat(dense.gradients)
    moved = answer @ dense.damped(dense.curvature)
    best = (target * answer).sum(1) / (moved * answer).sum(1)  # the least of ½ xᵀ(H + λI)x − xᵀ∇L along the answer
    torch.testing.assert_close(found, best[:, None] * answer, rtol=1e-5, atol=1e-8)
    assert best[0] / best[1] != pytest.approx(1, abs=0.01), "each question has a length of its own"


def test_every_iteration_of_conjugate_gradients_comes_closer_to_the_dense_solution(dense: Dense) -> None:
    """In the norm that they lessen, √(xᵀ(H + λI)x); and in the end in any."""
    exact, matrix = dense.solution(dense.curvature), dense.damped(dense.curvature)

    def away(found: Gradients) -> Tensor:
        error = _flat(found) - exact
        return ((error @ matrix) * error).sum(1).sqrt()

    solved = {n: solve(dense.problem, n) for n in (1, 2, 3, 5, 12, 80)}
    distances = torch.stack([away(solution.gradients) for solution in solved.values()])
    assert bool((distances[1:] < distances[:-1]).all())
    assert bool((distances[0] < away(dense.curvature.precondition(dense.gradients))).all())
    error = float((_flat(solved[80].gradients) - exact).norm() / exact.norm())
    assert error < 0.02
    assert len(solved[12].residuals) == 13
    left = _flat(dense.gradients) - _flat(solved[12].gradients) @ matrix
    expected = (left.norm(dim=1) / _flat(dense.gradients).norm(dim=1)).tolist()
    assert solved[12].residuals[-1] == pytest.approx(expected, rel=1e-4), "the residual that is told is the true one"
    assert max(solved[80].residuals[-1]) < 0.02 < min(solved[80].residuals[1])


def test_the_neumann_series_of_lissa_converges_to_the_dense_solution(dense: Dense) -> None:
    """Heavily damped, which is what it needs to arrive in few steps."""
    curvature = replace(dense.curvature, damping=Damping(factor=20.0))
    exact = dense.solution(curvature)
    errors = [
        float((_flat(found) - exact).norm() / exact.norm())
        for steps in (0, 5, 20, 60)
        for found in [neumann_series(lambda v: damped_product(curvature, dense.sweep, v), dense.gradients, steps)]
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.1
    assert errors[-1] < 1e-3


@given(steps=st.integers(0, 60), seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_the_neumann_series_leaves_unsolved_what_curves_little(steps: int, seed: int) -> None:
    """n steps of 1/σ solve the direction of eigenvalue a up to (1 − a/σ)ⁿ⁺¹, σ half as large again as the largest."""
    draw = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(18, 18, generator=draw, dtype=torch.float64))[0]
    values = torch.cat([torch.tensor([6.0]), torch.rand(17, generator=draw) ** 3 + 1e-4]).double()
    matrix = basis @ torch.diag(values) @ basis.t()

    def shaped(flat: Tensor) -> Gradients:
        return {"a": flat[:, :12].reshape(-1, 3, 4), "b": flat[:, 12:].reshape(-1, 2, 3)}

    gradients = torch.randn(2, 18, generator=draw, dtype=torch.float64)
    found = _flat(neumann_series(lambda v: shaped(_flat(v) @ matrix), shaped(gradients), steps))
    largest = 1.5 * values[0]
    factor = (1 - (1 - values / largest) ** (steps + 1)) / values
    expected = gradients @ basis @ torch.diag(factor) @ basis.t()
    assert float((found - expected).norm() / expected.norm()) < 0.01


def test_what_cannot_be_solved_is_refused(tmp_path: Path) -> None:
    lm = tiny_lm("gpt_neo")
    layers = choose_layers(lm.model)[:1]
    sweep, gradients = Sweep(stage="", lm=lm, layers=layers, sequences=CORPUS), loss_gradients(lm, layers, QUERIES)
    with pytest.raises(HeadwaterError, match="a damping above zero"):
        solve(LinearProblem(curvature=identity(layers), sweep=sweep, gradients=gradients), 3)
    curvature = fit_curvature(
        "ekfac",
        Sweep(stage="fit", lm=lm, layers=layers, sequences=CORPUS, labels=Labels("sampled")),
        Workbench(tmp_path, "test"),
    )
    with pytest.raises(HeadwaterError, match="at least one"):
        solve(LinearProblem(curvature=curvature, sweep=sweep, gradients=gradients), 0)


def _flat(gradients: Gradients) -> Tensor:
    return torch.cat([part.flatten(1) for part in gradients.values()], dim=1)
