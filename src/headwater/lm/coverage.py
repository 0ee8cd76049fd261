"""The share of a model's parameters that the tracked layers have, and of the parameters of its MLPs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from headwater.lm.layers import TrackedLayer, is_mlp, packed_sizes


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How many parameters are tracked, of how many. Influence through the others is not seen."""

    tracked: int
    parameters: int
    """Parameters of the model, or of its adapter, which alone was trained."""
    mlp_tracked: int
    mlp_parameters: int
    """Those of its MLPs, experts and routers included. 0 if it has none."""
    of: str = "model"
    """`model` or `adapter`"""

    def describe(self) -> str:
        """In words: `45.2 % of the model's parameters, all of its MLPs'`."""
        whole = f"{percentage(self.tracked, self.parameters)} of the {self.of}'s parameters"
        if not self.mlp_parameters:
            return whole
        return f"{whole}, {percentage(self.mlp_tracked, self.mlp_parameters)} of its MLPs'"

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


def percentage(part: int, whole: int) -> str:
    """`all`, `none`, or a percentage that is rounded down, so that nothing less than all is 100 %."""
    if part >= whole:
        return "all"
    return f"{max(0.1, math.floor(1000 * part / whole) / 10):g} %" if part else "none"


def coverage_of(model: Any, layers: Sequence[TrackedLayer]) -> Coverage:
    """The share of the parameters of `model` that the `layers` have. Tied parameters count once."""
    sizes = {name: weight.numel() for name, weight in model.named_parameters()} | packed_sizes(model)
    trained = {name: size for name, size in sizes.items() if ".lora_" in name or ".modules_to_save." in name}
    adapted = bool(trained) and all(".lora_" in layer.name for layer in layers)
    counted = trained if adapted else {name: size for name, size in sizes.items() if name not in trained}
    return Coverage(
        tracked=sum(layer.parameters for layer in layers),
        parameters=sum(counted.values()),
        mlp_tracked=sum(layer.parameters for layer in layers if is_mlp(layer.name)),
        mlp_parameters=sum(size for name, size in counted.items() if is_mlp(name)),
        of="adapter" if adapted else "model",
    )


def coverage_in(metadata: Mapping[str, str]) -> Coverage | None:
    """The coverage in the metadata of a curvature. None for those fitted before it was recorded."""
    return Coverage(**json.loads(metadata["coverage"])) if "coverage" in metadata else None
