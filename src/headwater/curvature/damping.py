"""Damping λ, which is added to the curvature of every direction."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from headwater.lm.layers import TrackedLayer

DEFAULT_FACTOR = 0.1
"""λ over the mean eigenvalue of a layer (Grosse et al. 2023, section 3.1)."""


@dataclass(frozen=True)
class Damping:
    """λ of a layer: `factor · mean(Λ)`, or one `absolute` value for all layers."""

    factor: float | None = DEFAULT_FACTOR
    absolute: float | None = None

    def value(self, mean_eigenvalue: float, layer: str) -> float:
        """λ of one layer. Raises HeadwaterError if a factor gives no damping, because Λ is zero."""
        if self.absolute is not None:
            return self.absolute
        assert self.factor is not None
        if mean_eigenvalue <= 0 and self.factor > 0:
            raise HeadwaterError(
                f"The curvature of layer {layer} is zero: no gradient reaches it. Leave it out with --layers, or set "
                "an absolute --damping such as 1e-6."
            )
        return self.factor * mean_eigenvalue

    def describe(self) -> str:
        return f"{self.factor:g} × mean(Λ)" if self.absolute is None else f"{self.absolute:g}"


def parse_damping(text: str | float | None) -> Damping:
    """The damping that a text stands for.

    None is the default, `1e-5` an absolute λ, `0.01*mean` a factor of each layer's mean eigenvalue. Raises
    HeadwaterError for any other text and for negative numbers.
    """
    if text is None:
        return Damping()
    match = re.fullmatch(r"\s*([0-9.eE+-]+)\s*(?:([*×])\s*mean(?:\(Λ\))?)?\s*", str(text))
    try:
        number = float(match[1]) if match else -1.0
    except ValueError:
        number = -1.0
    if not match or not 0 <= number < float("inf"):
        raise HeadwaterError(
            f"--damping {text!r} is not a damping. Give an absolute λ such as 1e-5, or a factor such as 0.1*mean."
        )
    return Damping(factor=number) if match[2] else Damping(factor=None, absolute=number)


def mean_eigenvalues(layers: Sequence[TrackedLayer], measured: Mapping[str, float]) -> dict[str, float]:
    """layer -> mean(Λ), of which a damping may be a factor, from the `measured` means.

    An expert that no token was sent to during the fit has none of its own. It gets the mean of the experts of its
    shape, so that a question that reaches it is damped as it is there.
    """
    means = dict(measured)
    for layer in layers:
        if layer.is_routed and measured[layer.name] == 0:
            alike = [x for x in layers if x.is_routed and (x.inputs, x.outputs) == (layer.inputs, layer.outputs)]
            seen = [measured[x.name] for x in alike if measured[x.name] > 0]
            means[layer.name] = sum(seen) / max(1, len(seen))
    return means
