"""A curvature, a solver, a sketch and a metric for Headwater, each in a few lines. See docs/plugins.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headwater.attribution.index.sketch import Codes, SketchKind
from headwater.base.progress import Step
from headwater.corpus.batches import Batch
from headwater.curvature.base import Eigenbasis, EigenCurvature
from headwater.curvature.damping import Damping
from headwater.curvature.eigen import eigendecompose
from headwater.curvature.registry import CurvatureKind, Fitting
from headwater.curvature.solvers.solver import LinearProblem, Solver
from headwater.curvature.solvers.vectors import dots, plus, times
from headwater.evaluate.measures import Bench, Metric, MetricResult
from headwater.evaluate.metrics import mean
from headwater.gradients.basis import Basis
from headwater.gradients.factored import FactoredGradient, Gradients, per_example
from headwater.lm.layers import TrackedLayer

# --8<-- [start:curvature]


class Sides:
    """Reducer: sums over examples of G Gᵀ per layer, and of Gᵀ G per group of layers that share their inputs."""

    def __init__(self, layers: Sequence[TrackedLayer]) -> None:
        self.layers = tuple(layers)
        self.sums: dict[str, Tensor] = {}

    def update(self, batch: Batch, gradients: Mapping[str, FactoredGradient]) -> None:
        for layer in self.layers:
            for _, piece in gradients[layer.name].chunks():  # a few examples at a time
                G = per_example(piece)
                self._add(f"{layer.name}.L", torch.einsum("boi,bpi->op", G, G))
                self._add(f"{layer.group}.R", torch.einsum("boi,boj->ij", G, G))
        self._add("examples", torch.tensor(float(len(batch.ids))))

    def merge(self, other: Self) -> None:
        for name, total in other.sums.items():
            self._add(name, total)

    def _add(self, name: str, more: Tensor) -> None:
        self.sums[name] = self.sums[name] + more if name in self.sums else more

    def state_dict(self) -> dict[str, Tensor]:
        return self.sums

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.sums = dict(state)


def shampoo(fitting: Fitting) -> EigenCurvature:
    """H ≈ L ⊗ R / tr R, with Shampoo's matrices L = E[G Gᵀ] and R = E[Gᵀ G]. It has the trace of H.

    Gupta et al. 2018 (arXiv 1802.09568). Morwani et al. 2024 (arXiv 2406.17748): why it approximates the Fisher.
    """
    layers = fitting.layers
    sides = fitting.fold("sides", lambda: Sides(layers))
    found = {
        name: eigendecompose(total / sides.sums["examples"], name)
        for name, total in sides.sums.items()
        if name != "examples"
    }
    inputs = {layer.group: Basis((found[f"{layer.group}.R"][1],)) for layer in layers}  # one per group of layers
    bases: dict[str, Eigenbasis] = {}
    for layer in layers:
        (left, Q_S), (right, _) = found[f"{layer.name}.L"], found[f"{layer.group}.R"]
        eigenvalues = left[:, None] * right / right.sum().clamp(min=1e-30)
        bases[layer.name] = Eigenbasis(inputs[layer.group], Basis((Q_S,)), eigenvalues)
    return EigenCurvature(fitting.kind, layers, bases, Damping())


SHAMPOO = CurvatureKind(shampoo)
# --8<-- [end:curvature]

# --8<-- [start:solver]


def steepest(problem: LinearProblem, iterations: int) -> Gradients:
    """Steepest descent, preconditioned by the fitted curvature, with the best step length in every step."""
    x, residual = times(0.0, problem.gradients), problem.gradients
    for done in range(iterations):
        problem.report(Step(stage="steepest descent", done=done, total=iterations, tokens=0))
        direction = problem.curvature.precondition(residual)
        product = problem.product(direction)
        length = dots(residual, direction) / dots(direction, product).clamp(min=1e-30)
        x, residual = plus(x, direction, length), plus(residual, product, -length)
    return x


STEEPEST = Solver(steepest, {"iterations": 10})
# --8<-- [end:solver]

# --8<-- [start:sketch]


@dataclass(frozen=True)
class Signs:
    """Eight cells per byte, one bit per cell: the sign of the sum of its coordinates, each with a random sign."""

    dimensions: int
    bytes: int
    seed: int

    @property
    def noise(self) -> float:
        kept = 2 / math.pi * min(1.0, 8 * self.bytes / self.dimensions)
        return math.sqrt((1 / kept - 1) / self.dimensions)

    @cached_property
    def order_and_signs(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """[D] the order in which coordinates go to the cells, and [D] their signs."""
        rng = np.random.default_rng(self.seed)
        signs = 2 * rng.integers(0, 2, self.dimensions) - 1
        return rng.permutation(self.dimensions), signs.astype(np.float32)

    def cells(self, whitened: NDArray[Any]) -> NDArray[np.float32]:
        """[n, 8 · bytes]: the sum of each cell."""
        order, signs = self.order_and_signs
        cells = 8 * self.bytes
        padded = np.zeros((len(whitened), -(-self.dimensions // cells) * cells), np.float32)
        padded[:, : self.dimensions] = whitened[:, order] * signs
        return padded.reshape(len(whitened), -1, cells).sum(1)

    def encode(self, whitened: NDArray[Any]) -> Codes:
        cells = self.cells(whitened)
        energies = (whitened.astype(np.float64) ** 2).sum(1)
        scales = energies / np.maximum(np.abs(cells).sum(1), 1e-30)  # makes I(z, z) exact
        return Codes(np.packbits(cells > 0, axis=1), scales.astype(np.float32), energies)

    def table(self, whitened: NDArray[Any]) -> NDArray[np.float32]:
        bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32)
        return self.cells(whitened[None]).reshape(self.bytes, 8) @ (2 * bits - 1).T


def signs_of_width(dimensions: int, width: int, seed: int) -> Signs:
    return Signs(dimensions, min(width, -(-dimensions // 8)), seed)


SIGNS = SketchKind(signs_of_width, Signs)
# --8<-- [end:sketch]

# --8<-- [start:metric]


def concentration(bench: Bench, scores: NDArray[Any]) -> dict[str, MetricResult]:
    """Share of a query's positive influence that comes from the strongest hundredth of the examples."""
    top = max(1, len(scores) // 100)
    positive = -np.sort(-scores.clip(min=0), axis=0)
    shares = (positive[:top].sum(0) / np.maximum(positive.sum(0), 1e-30)).tolist()
    return {"by the top 1 %": MetricResult(mean(shares, bench.context.seed), dict(enumerate(shares)))}


CONCENTRATION = Metric(concentration)
# --8<-- [end:metric]
