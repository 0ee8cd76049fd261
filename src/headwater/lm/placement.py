"""Where the weights of a model are: on one device, on several, or offloaded (by accelerate's hooks)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from headwater.errors import ModelError


def device_of(module: Any) -> torch.device:
    """The device that a module computes on. Its weight may be offloaded."""
    hook = getattr(module, "_hf_hook", None)
    device = getattr(hook, "execution_device", None)
    return module.weight.device if device is None else torch.device(device)


def is_offloaded(model: Any) -> bool:
    """Whether some weights are offloaded to memory or disk, and loaded when their layer runs."""
    return any(weight.is_meta for weight in model.parameters())


def check_for_adapter(model: Any, name: str) -> None:
    """Raises ModelError if the base model of the adapter `name` is offloaded."""
    if is_offloaded(model):
        # transformers 5.24 does not load the offloaded weights again: logits are NaN.
        raise ModelError(
            f"The base model of the adapter {name} does not fit on the devices (--device-map), and an adapter does not "
            "work with offloaded weights. Load it in fewer bits (--dtype nf4), or merge the adapter into it."
        )


def fetched(module: Any, name: str) -> Tensor:
    """The weight `name` of `module` itself, loaded if it is offloaded."""
    weight: Tensor = getattr(module, name)
    return module._hf_hook.weights_map[name] if weight.is_meta else weight.detach()


def each_weight(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Every entry of the state dict, by name. Offloaded weights are loaded one after the other."""
    for path, tensor in sorted(model.state_dict().items()):
        parent, _, name = path.rpartition(".")
        yield path, fetched(model.get_submodule(parent), name) if tensor.is_meta else tensor
