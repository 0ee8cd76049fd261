"""Slope, Pearson's and Spearman's correlation of predicted and measured changes.

scipy.stats takes most of a second to import, so the functions that need it import it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.verify.verification import Check


def slope(checks: Sequence[Check]) -> float | None:
    """Least-squares slope of measured on predicted changes through the origin; None if all predictions are 0."""
    predicted, measured = _columns(checks)
    size = float(predicted @ predicted)
    return float(predicted @ measured) / size if size > 0 else None


def correlation(checks: Sequence[Check]) -> float | None:
    """Pearson's correlation of predicted and measured changes; None if either does not vary."""
    return _number(pearson(*_columns(checks)))


def spearman(checks: Sequence[Check]) -> float | None:
    """Spearman's rank correlation of predicted and measured changes; None if either does not vary."""
    return _number(rank_correlation(*_columns(checks)))


def pearson(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """Pearson's correlation of [..., M] and [..., M] along the last axis; NaN where either does not vary."""
    from scipy import stats

    if one.shape[-1] < 2:
        return np.full(np.broadcast_shapes(one.shape, other.shape)[:-1], np.nan)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        found: Any = stats.pearsonr(one, other, axis=-1)
    return np.asarray(found.statistic, dtype=np.float64)


def rank_correlation(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """Spearman's correlation along the last axis: Pearson's of the ranks. Ties share the mean of their ranks."""
    from scipy.stats import rankdata

    return pearson(rankdata(one, axis=-1), rankdata(other, axis=-1))


def _columns(checks: Sequence[Check]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return (
        np.array([check.predicted for check in checks], dtype=np.float64),
        np.array([check.measured for check in checks], dtype=np.float64),
    )


def _number(found: NDArray[np.float64]) -> float | None:
    return None if np.isnan(found) else float(found)
