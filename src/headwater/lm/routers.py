"""Routers, which choose a token's experts: their product with their weights becomes a linear layer of its own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MethodType
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class RouterLinear(nn.Module):
    """The scores of all experts, y = W x + b. It has no parameters: W and b are those of its router."""

    def __init__(self, router: Any) -> None:
        super().__init__()
        self._router = (router,)  # in a tuple, or else the router would be a child of its own child
        self.out_features, self.in_features = (int(n) for n in router.weight.shape)

    @property
    def weight(self) -> Tensor:
        """[E, I]"""
        return self._router[0].weight

    @property
    def bias(self) -> Tensor | None:
        """[E]"""
        found = getattr(self._router[0], "bias", None)
        return found if isinstance(found, Tensor) else None

    def part_of(self, tensors: Mapping[str, Tensor], layer: str) -> tuple[Tensor, Tensor | None]:
        """Kernel and bias of `layer` in tensors that have the names of the model's parameters.

        Raises KeyError if a name is missing.
        """
        name = layer.rpartition(".")[0]
        return tensors[f"{name}.weight"], None if self.bias is None else tensors[f"{name}.bias"]

    def forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """[n, E] from inputs [n, I]. The router gives its own weights, perhaps in another precision."""
        return nn.functional.linear(inputs, weight, bias)


class _Through(TorchFunctionMode):
    """Products with a matrix of the shape of the router's go through its linear layer, where hooks see them."""

    def __init__(self, linear: RouterLinear) -> None:
        super().__init__()
        self.linear = linear

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is nn.functional.linear and args[1].shape == self.linear.weight.shape:
            return self.linear(*args[:2], args[2] if len(args) > 2 else given.get("bias"))
        return func(*args, **given)


def split_routers(model: Any) -> int:
    """Make the routers of `model` addressable, as `….mlp.gate.linear`. Their outputs do not change.

    A router is a module beside experts (`lm/experts.py`) whose weight has a row for each of them. Returns the number of
    modules that were changed. Splitting twice is harmless.
    """
    changed = 0
    for block in list(model.modules()):
        experts = block._modules.get("experts")
        if not isinstance(rows := getattr(experts, "num_experts", None), int):
            continue
        for router in block._modules.values():
            weight = getattr(router, "weight", None)
            is_plain = isinstance(router, nn.Linear) or "linear" in getattr(router, "_modules", {})
            if not is_plain and isinstance(weight, nn.Parameter) and weight.dim() == 2 and len(weight) == rows:
                router.add_module("linear", RouterLinear(router))
                inner = "_old_forward" if hasattr(router, "_hf_hook") else "forward"  # as in split_experts
                router.routed_forward = getattr(router, inner)
                setattr(router, inner, MethodType(_forward, router))
                changed += 1
    return changed


def _forward(self: Any, *args: Any, **kwargs: Any) -> Any:
    linear = self._modules["linear"]
    if not (linear._forward_hooks or linear._forward_pre_hooks):
        return self.routed_forward(*args, **kwargs)
    with _Through(linear):
        return self.routed_forward(*args, **kwargs)
