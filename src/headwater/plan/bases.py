"""Eigenbases for the probe: decomposed where that is quick, and else timed at a smaller width."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from headwater.curvature.covariances import Covariances
from headwater.curvature.eigen import Eigenbases, eigendecompose

SECONDS = 3.0
"""The probe spends about so long on decompositions."""


@dataclass(frozen=True)
class ProbedBases:
    """Every eigenbasis of the layers, and how long finding them all takes."""

    bases: Eigenbases
    """Those not decomposed are the identity."""
    seconds: float
    """To decompose all of them."""


def probe_bases(covariances: Covariances, budget: float = SECONDS) -> ProbedBases:
    """Decompose covariances from the narrowest up for about `budget` seconds; time goes with the width's cube."""
    by_width: dict[int, list[str]] = defaultdict(list)
    for name in covariances.names:
        by_width[len(covariances.sums[name])].append(name)
    tensors: dict[str, Tensor] = {}
    total = spent = 0.0
    cube: float | None = None
    for width, names in sorted(by_width.items()):
        if cube is None or cube * width**3 > budget:  # nothing known yet, or too long: a corner of the matrix tells
            corner = min(width, 512 if cube is None else 1024)
            cube, seconds = _cube(covariances.covariance(names[0]), corner)
            spent += seconds
        for name in names:
            matrix, seconds = covariances.covariance(name), cube * width**3
            if spent + seconds <= budget:
                start = time.perf_counter()
                values, vectors = eigendecompose(matrix, name)
                seconds = time.perf_counter() - start
                spent, cube = spent + seconds, seconds / width**3
            else:
                values, vectors = matrix.new_ones(width), torch.eye(width, dtype=matrix.dtype, device=matrix.device)
            total += seconds
            tensors |= {f"Q {name}": vectors, f"λ {name}": values}
    return ProbedBases(Eigenbases(tensors), total)


def _cube(matrix: Tensor, corner: int) -> tuple[float, float]:
    """Seconds a cubed width, and seconds spent, measured on the `corner` × `corner` beginning of a matrix."""
    part = matrix[:corner, :corner].contiguous()
    start = time.perf_counter()
    eigendecompose(part)
    seconds = time.perf_counter() - start
    return seconds / corner**3, seconds
