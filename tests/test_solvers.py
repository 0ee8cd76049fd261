"""The Gauss–Newton product and conjugate gradients, against plain autograd and dense solutions in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from headwater.corpus.batches import TokenSequence
from headwater.curvature.kinds import identity
from headwater.errors import HeadwaterError
from headwater.gradient import Gradients
from headwater.influence.fit import Workbench, fit_curvature
from headwater.influence.question import loss_gradients
from headwater.lm.capture import Labels
from headwater.lm.layers import TrackedLayer, choose_layers, shape_of
from headwater.solvers.conjugate_gradient import solve
from headwater.solvers.gauss_newton import gauss_newton_product
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
    found = gauss_newton_product(Sweep("", lm, layers, CORPUS, token_budget=45), vectors)
    model = plain_model(architecture)
    for q in range(2):
        step = {name: every[q] for name, every in vectors.items()}
        each = [plain_product(model, layers, step, sequence) for sequence in CORPUS]
        for layer in layers:
            expected = torch.stack([product[layer.name] for product in each]).mean(0)
            assert_near(found[layer.name][q], expected, 1e-6)  # the plain models take their softmax in float32


def test_conjugate_gradients_solve_the_damped_system_and_come_closer_than_the_curvature(tmp_path: Path) -> None:
    lm = tiny_lm("gpt_neo")
    layers = choose_layers(lm.model)[:2]
    sweep = Sweep("", lm, layers, CORPUS)
    curvature = fit_curvature("ekfac", Sweep("fit", lm, layers, CORPUS, Labels("sampled")), Workbench(tmp_path, "test"))
    gradients = loss_gradients(lm, layers, QUERIES)
    sizes = [layer.parameters for layer in layers]
    units = torch.eye(sum(sizes), dtype=torch.float64).split(sizes, dim=1)
    eye = {layer.name: unit.reshape(-1, layer.outputs, layer.inputs) for layer, unit in zip(layers, units, strict=True)}
    H = _flat(gauss_newton_product(sweep, eye))
    damping = torch.cat([torch.full((layer.parameters,), curvature.damping_of(layer.name)) for layer in layers])
    exact = torch.linalg.solve(H + torch.diag(damping.double()), _flat(gradients).t()).t()

    def error(found: Gradients) -> float:
        return float((_flat(found) - exact).norm() / exact.norm())

    few, many = (solve(curvature, sweep, gradients, iterations) for iterations in (12, 80))
    assert error(few.gradients) < 0.5 * error(curvature.precondition(gradients))
    assert error(many.gradients) < 0.02
    assert len(few.residuals) == 13
    assert max(many.residuals[-1]) < 0.02 < min(many.residuals[0])


def test_what_cannot_be_solved_is_refused(tmp_path: Path) -> None:
    lm = tiny_lm("gpt_neo")
    layers = choose_layers(lm.model)[:1]
    sweep, gradients = Sweep("", lm, layers, CORPUS), loss_gradients(lm, layers, QUERIES)
    with pytest.raises(HeadwaterError, match="a damping above zero"):
        solve(identity(layers), sweep, gradients, 3)
    curvature = fit_curvature("ekfac", Sweep("fit", lm, layers, CORPUS, Labels("sampled")), Workbench(tmp_path, "test"))
    with pytest.raises(HeadwaterError, match="at least one"):
        solve(curvature, sweep, gradients, 0)


def _flat(gradients: Gradients) -> Tensor:
    return torch.cat([part.flatten(1) for part in gradients.values()], dim=1)
