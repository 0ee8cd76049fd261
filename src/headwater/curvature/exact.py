"""The dense damped Fisher, which EK-FAC approximates. For models that are small enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from headwater.corpus.batches import Batch
from headwater.curvature.base import in_one_line
from headwater.curvature.damping import Damping, mean_eigenvalues
from headwater.errors import HeadwaterError
from headwater.gradients.factored import FactoredGradient, per_example
from headwater.lm.layers import TrackedLayer

EXACT_LIMIT = 8192
"""Most tracked parameters that `exact` accepts. Its matrix then has 512 MB in float64."""


def refuse_if_large(layers: Sequence[TrackedLayer]) -> None:
    """Raises HeadwaterError if the dense Fisher would have more than EXACT_LIMIT rows."""
    parameters = sum(layer.parameters for layer in layers)
    if parameters > EXACT_LIMIT:
        raise HeadwaterError(
            f"--curvature exact needs a dense matrix of {parameters:,} × {parameters:,} numbers. The limit is "
            f"{EXACT_LIMIT:,} tracked parameters. Track fewer layers with --layers, or use --curvature ekfac."
        )


class DenseFisher:
    """H = E[vec(G) vec(G)ᵀ] over examples, for all tracked layers together. A running sum in float64."""

    def __init__(self, layers: Sequence[TrackedLayer]) -> None:
        self.layers = tuple(layers)
        size = sum(layer.parameters for layer in layers)
        self.total = torch.zeros(size, size, dtype=torch.float64)
        self.examples = 0

    def update(self, batch: Batch, gradients: Mapping[str, FactoredGradient]) -> None:
        rows = torch.cat([per_example(gradients[layer.name]).flatten(1) for layer in self.layers], dim=1)
        rows = rows.double().cpu()
        self.total.addmm_(rows.t(), rows)
        self.examples += len(batch.ids)

    def merge(self, other: Self) -> None:
        self.total += other.total
        self.examples += other.examples

    def state_dict(self) -> dict[str, Tensor]:
        return {"fisher": self.total, "counts": torch.tensor([self.examples])}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.total = state["fisher"]
        self.examples = int(state["counts"][0])


class ExactCurvature:
    """(H + λI)⁻¹ with the dense Fisher H [P, P]. Each layer has its own λ, as in the other kinds."""

    kind = "exact"

    def __init__(self, layers: Sequence[TrackedLayer], fisher: Tensor, damping: Damping) -> None:
        self.layers = tuple(layers)
        self.fisher = fisher
        self.damping = damping

    def __repr__(self) -> str:
        return in_one_line(self)

    @cached_property
    def _factor(self) -> Tensor:
        """The lower Cholesky factor of H + λI: [P, P] in float64."""
        damped = self.fisher.clone()
        for layer, diagonal in self._diagonals(damped):
            diagonal += self.damping_of(layer.name)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if int(failed):
            raise HeadwaterError(
                f"The damped Fisher is singular with damping {self.damping.describe()}. Set a larger --damping."
            )
        return factor

    def _diagonals(self, matrix: Tensor) -> Iterator[tuple[TrackedLayer, Tensor]]:
        """Every layer with its part of the diagonal of `matrix`."""
        parts = matrix.diagonal().split([layer.parameters for layer in self.layers])
        return zip(self.layers, parts, strict=True)

    @property
    def dimensions(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def share(self) -> float:
        return 1.0

    def damping_of(self, layer: str) -> float:
        """λ of one layer."""
        return self.damping.value(self._mean_eigenvalues[layer], layer)

    @cached_property
    def _mean_eigenvalues(self) -> dict[str, float]:
        means = {one.name: float(diagonal.mean()) for one, diagonal in self._diagonals(self.fisher)}
        return mean_eigenvalues(self.layers, means)

    def precondition(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """(H + λI)⁻¹ times gradients {layer: [Q, O, I]}, in the same shapes."""
        vectors = self._stack(gradients)
        solved = torch.cholesky_solve(vectors.t(), self._factor).t()
        return self._unstack(solved, next(iter(gradients.values())))

    def precondition_factored(self, gradients: Mapping[str, FactoredGradient]) -> dict[str, Tensor]:
        return self.precondition({name: per_example(gradient) for name, gradient in gradients.items()})

    def whiten(self, gradients: Mapping[str, FactoredGradient]) -> Tensor:
        """L⁻¹ times the gradients, with H + λI = L Lᵀ: [B, P]."""
        vectors = self._stack({name: per_example(gradient) for name, gradient in gradients.items()})
        return torch.linalg.solve_triangular(self._factor, vectors.t(), upper=False).t()

    def whitened_from(self, preconditioned: Mapping[str, Tensor]) -> Tensor:
        """Lᵀ times preconditioned gradients: [Q, P]."""
        return self._stack(preconditioned) @ self._factor

    def self_influence(self, gradients: Mapping[str, FactoredGradient]) -> Tensor:
        """I(z, z) of B examples: [B], the squared norms of their whitened gradients."""
        return self.whiten(gradients).square().sum(dim=1)

    def _stack(self, gradients: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([gradients[layer.name].flatten(1) for layer in self.layers], dim=1).double().cpu()

    def _unstack(self, vectors: Tensor, like: Tensor) -> dict[str, Tensor]:
        parts = vectors.to(like).split([layer.parameters for layer in self.layers], dim=1)
        return {
            layer.name: part.reshape(-1, layer.outputs, layer.inputs)
            for layer, part in zip(self.layers, parts, strict=True)
        }
