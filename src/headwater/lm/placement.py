"""Where a model's weights are: on one device, on several, or put away until they are needed (accelerate's hooks)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def device_of(module: Any) -> torch.device:
    """The device that a module computes on, wherever its weight is meanwhile."""
    hook = getattr(module, "_hf_hook", None)
    device = getattr(hook, "execution_device", None)
    return module.weight.device if device is None else torch.device(device)


def is_offloaded(model: Any) -> bool:
    """Whether some weights are put away, in memory or on disk, and fetched when their layer runs."""
    return any(weight.is_meta for weight in model.parameters())


def fetched(module: Any, name: str) -> Tensor:
    """A weight of `module` itself, from where it is put away if it is."""
    weight: Tensor = getattr(module, name)
    return module._hf_hook.weights_map[name] if weight.is_meta else weight.detach()


def each_weight(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Every entry of the state dict, by name; of those put away, one is fetched at a time."""
    for path, tensor in sorted(model.state_dict().items()):
        parent, _, name = path.rpartition(".")
        yield path, fetched(model.get_submodule(parent), name) if tensor.is_meta else tensor
