"""Eigenbases for the probe: decomposed where that is quick, and else timed at a smaller width."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from headwater.curvature.covariances import Covariances
from headwater.curvature.eigen import eigendecompose
from headwater.lm.layers import TrackedLayer

SECONDS = 3.0
"""The probe spends about so long on decompositions."""


@dataclass(frozen=True)
class Bases:
    """Every eigenbasis of the layers, and how long finding them all takes."""

    tensors: dict[str, Tensor]
    """`<group>.Q_A`, `<group>.λ_A`, `<layer>.Q_S`, `<layer>.λ_S`. Those not decomposed are the identity."""
    seconds: float
    """To decompose all of them."""

    def of(self, layer: TrackedLayer) -> tuple[Tensor, Tensor]:
        """(Q_A, Q_S) of a layer."""
        return self.tensors[f"{layer.group}.Q_A"], self.tensors[f"{layer.name}.Q_S"]

    def outer(self, layer: TrackedLayer) -> Tensor:
        """λ_S λ_Aᵀ [O, I] of a layer."""
        return self.tensors[f"{layer.name}.λ_S"][:, None] * self.tensors[f"{layer.group}.λ_A"][None, :]


def probe_bases(layers: Sequence[TrackedLayer], covariances: Covariances, budget: float = SECONDS) -> Bases:
    """Decompose covariances from the narrowest up for about `budget` seconds; time goes with the width's cube."""
    by_width: dict[int, list[_Wanted]] = defaultdict(list)
    for wanted in _matrices(layers, covariances):
        by_width[wanted.width].append(wanted)
    tensors: dict[str, Tensor] = {}
    total = spent = 0.0
    cube: float | None = None
    for width, matrices in sorted(by_width.items()):
        if cube is None or cube * width**3 > budget:  # nothing known yet, or too long: a corner of the matrix tells
            corner = min(width, 512 if cube is None else 1024)
            cube, seconds = _cube(matrices[0].matrix(), corner)
            spent += seconds
        for wanted in matrices:
            matrix, seconds = wanted.matrix(), cube * width**3
            if spent + seconds <= budget:
                start = time.perf_counter()
                values, vectors = eigendecompose(matrix, wanted.owner)
                seconds = time.perf_counter() - start
                spent, cube = spent + seconds, seconds / width**3
            else:
                values, vectors = matrix.new_ones(width), torch.eye(width, dtype=matrix.dtype, device=matrix.device)
            total += seconds
            tensors |= {f"{wanted.owner}.Q_{wanted.side}": vectors, f"{wanted.owner}.λ_{wanted.side}": values}
    return Bases(tensors, total)


def _cube(matrix: Tensor, corner: int) -> tuple[float, float]:
    """Seconds a cubed width, and seconds spent, measured on the `corner` × `corner` beginning of a matrix."""
    part = matrix[:corner, :corner].contiguous()
    start = time.perf_counter()
    eigendecompose(part)
    seconds = time.perf_counter() - start
    return seconds / corner**3, seconds


@dataclass(frozen=True)
class _Wanted:
    """A covariance to be decomposed, made only when its turn comes."""

    owner: str
    side: str
    width: int
    matrix: Callable[[], Tensor]


def _matrices(layers: Sequence[TrackedLayer], covariances: Covariances) -> Iterator[_Wanted]:
    for layer in layers:
        if layer.name == layer.group:
            yield _Wanted(layer.group, "A", layer.inputs, partial(covariances.input_covariance, layer))
        yield _Wanted(layer.name, "S", layer.outputs, partial(covariances.output_covariance, layer))
