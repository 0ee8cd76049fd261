"""Eigenbases of a probe: small covariances are decomposed, and wide ones are timed at a smaller width."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from headwater.curvature.covariances import Covariances
from headwater.curvature.eigen import Eigenbases, eigendecompose

SECONDS = 3.0
"""Time budget of a probe for decompositions."""


@dataclass(frozen=True)
class ProbedBases:
    """Eigenbases of the layers, and the estimated time of all decompositions."""

    bases: Eigenbases
    """The identity for those that were not decomposed."""
    seconds: float
    """Seconds to decompose all covariances."""


def probe_bases(covariances: Covariances, budget: float = SECONDS) -> ProbedBases:
    """Decompose covariances, narrow ones first, for about `budget` seconds. Time is proportional to width³."""
    by_width: dict[int, list[str]] = defaultdict(list)
    for name in covariances.names:
        by_width[len(covariances.sums[name])].append(name)
    tensors: dict[str, Tensor] = {}
    total = used = 0.0
    per_cube: float | None = None
    for width, names in sorted(by_width.items()):
        if per_cube is None or per_cube * width**3 > budget:  # unknown or too long: time a corner of the matrix
            corner = min(width, 512 if per_cube is None else 1024)
            per_cube, seconds = _time_corner(covariances.covariance(names[0]), corner)
            used += seconds
        for name in names:
            matrix, seconds = covariances.covariance(name), per_cube * width**3
            if used + seconds <= budget:
                start = time.perf_counter()
                values, vectors = eigendecompose(matrix, name)
                seconds = time.perf_counter() - start
                used, per_cube = used + seconds, seconds / width**3
            else:
                values, vectors = matrix.new_ones(width), torch.eye(width, dtype=matrix.dtype, device=matrix.device)
            total += seconds
            tensors |= {f"Q {name}": vectors, f"λ {name}": values}
    return ProbedBases(Eigenbases(tensors), total)


def _time_corner(matrix: Tensor, corner: int) -> tuple[float, float]:
    """(seconds per width³, seconds used), measured on the first `corner` rows and columns of a matrix."""
    part = matrix[:corner, :corner].contiguous()
    start = time.perf_counter()
    eigendecompose(part)
    seconds = time.perf_counter() - start
    return seconds / corner**3, seconds
