"""Routed experts: a module that stores them in one tensor runs them one by one, each as a linear layer of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class ExpertLinear(nn.Module):
    """One matrix of one expert, y = W x + b. It has no parameters: W and b are views of the tensors of all experts.

    So the names of the model's weights, their fingerprint and saved files do not change.
    """

    def __init__(self, experts: Any, matrix: str, number: int) -> None:
        super().__init__()
        self._experts = (experts,)  # in a tuple, or else the experts would be a child of their own child
        self.matrix = matrix
        """Name of the parameter [E, O, I] of the experts, or [E, I, O] if it is stored transposed."""
        self.number = number
        self.transposed = bool(experts.is_transposed)
        shape = getattr(experts, matrix).shape[1:]
        self.out_features, self.in_features = (int(n) for n in (shape[::-1] if self.transposed else shape))

    @property
    def weight(self) -> Tensor:
        """[O, I]"""
        return self._own(getattr(self._experts[0], self.matrix))

    @property
    def bias(self) -> Tensor | None:
        """[O]"""
        experts = self._experts[0]
        return getattr(experts, f"{self.matrix}_bias")[self.number] if experts.has_bias else None

    @property
    def token_share(self) -> float:
        """k/E: the part of the tokens that an expert gets on average."""
        experts = self._experts[0]
        return min(1.0, top_k(experts) / int(experts.num_experts))

    def part_of(self, tensors: Mapping[str, Tensor], layer: str) -> tuple[Tensor, Tensor | None]:
        """Kernel [O, I] and bias [O] of `layer` in tensors that have the names and shapes of the model's parameters.

        Raises KeyError if a name is missing.
        """
        name = f"{layer.rsplit('.', 2)[0]}.{self.matrix}"
        has_bias = self._experts[0].has_bias
        return self._own(tensors[name]), tensors[f"{name}_bias"][self.number] if has_bias else None

    def forward(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """[n, O] from inputs [n, I]. `rows` [n] are the places of these inputs in the flattened batch, for hooks."""
        return nn.functional.linear(inputs, self.weight, self.bias)

    def _own(self, stacked: Tensor) -> Tensor:
        own = stacked[self.number]
        return own.t() if self.transposed else own


def top_k(experts: Any) -> int:
    """The number of experts that a token is sent to, by the configuration. 1 if it does not say."""
    config = getattr(experts, "config", None)
    for field in ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts"):
        if isinstance(found := getattr(config, field, None), int):
            return found
    return 1


def split_experts(model: Any) -> int:
    """Make every expert of `model` addressable, as `….experts.3.down_proj`, and run the experts one by one.

    It works for the classes of transformers that choose how experts run (`experts_implementation`): they keep all
    experts in one parameter a matrix, and differ in layout, biases and gate. Outputs are the same up to rounding.
    Returns the number of modules that were changed. Splitting twice is harmless.
    """
    changed = 0
    for experts in [module for module in model.modules() if _is_fused(module)]:
        for number in range(experts.num_experts):
            expert = nn.Module()
            for matrix in _matrices(experts):
                expert.add_module(matrix, ExpertLinear(experts, matrix, number))
            experts.add_module(str(number), expert)
        # accelerate, which offloads weights, has put its own `forward` around the one that runs
        inner = "_old_forward" if hasattr(experts, "_hf_hook") else "forward"
        setattr(experts, inner, MethodType(_run_one_by_one, experts))
        changed += 1
    return changed


def _is_fused(module: Any) -> bool:
    stacked = [getattr(module, name, None) for name in _matrices(module)]
    return (
        hasattr(module, "is_transposed")
        and hasattr(module, "_apply_gate")
        and all(isinstance(one, nn.Parameter) and one.dim() == 3 and one.is_floating_point() for one in stacked)
        and not module._is_expert_parallel
        and "0" not in module._modules
    )


def _matrices(experts: Any) -> tuple[str, str]:
    return ("gate_up_proj" if getattr(experts, "has_gate", True) else "up_proj"), "down_proj"


def _run_one_by_one(self: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """[n, H] from hidden states [n, H], the experts [n, k] of each token, and their weights [n, k].

    The steps are those of transformers' `batched_mm_experts_forward`. An index of E or more stands for no expert. An
    expert without tokens runs on none of them if a hook waits for it.
    """
    chosen = top_k_index.shape[-1]
    if hidden_states.is_meta:  # only shapes: the first expert gets all tokens
        order = torch.arange(top_k_index.numel(), device="meta")
        counts = [top_k_index.numel()] + [0] * self.num_experts
    else:
        experts = top_k_index.reshape(-1).clamp(max=self.num_experts)
        order = torch.argsort(experts, stable=True)
        counts = torch.bincount(experts, minlength=self.num_experts + 1).tolist()
    rows = torch.div(order, chosen, rounding_mode="floor")
    pieces = zip(hidden_states[rows].split(counts), rows.split(counts), strict=True)
    outputs: list[Tensor] = []
    for number, (inputs, places) in enumerate(pieces):
        if number < self.num_experts:
            outputs.append(_run_expert(self, number, inputs=inputs, rows=places))
        else:
            outputs.append(torch.zeros_like(inputs))
    weighted = torch.cat(outputs) * top_k_weights.reshape(-1)[order].unsqueeze(1)
    # Sums of the k outputs of a token in a fixed order, which adding to an index would not have on a GPU.
    back = torch.argsort(order) if not order.is_meta else order
    summed = weighted[back].view(len(hidden_states), chosen, hidden_states.shape[-1]).sum(dim=1)
    return summed.to(hidden_states.dtype)


def _run_expert(experts: Any, number: int, *, inputs: Tensor, rows: Tensor) -> Tensor:
    expert = experts._modules[str(number)]
    first, last = _matrices(experts)
    up, down = expert._modules[first], expert._modules[last]
    is_watched = any(one._forward_hooks or one._forward_pre_hooks for one in (up, down))
    if not (len(inputs) or is_watched):
        return inputs
    hidden = up(inputs, rows)
    hidden = experts._apply_gate(hidden) if experts.has_gate else experts.act_fn(hidden)
    output = down(hidden, rows)
    return experts.post_expert_norm(output) if experts.has_post_expert_norm else output


@dataclass(frozen=True)
class Slots:
    """Where the tokens of one expert are kept: text b has as many slots as the text with the most tokens there."""

    shape: tuple[int, int]
    """[B, S]"""
    kept: Tensor
    """The expert's inputs that are no padding, as indices."""
    places: Tensor
    """Place of each of them in the flattened slots."""
    positions: Tensor
    """[B, S] position in the text of the token in a slot, −1 if the slot is free."""

    def fill(self, rows: Tensor) -> Tensor:
        """[B, S, width] from `rows` [n, width] of an expert. Free slots are zero."""
        filled = rows.new_zeros(self.shape[0] * self.shape[1], rows.shape[1])
        filled[self.places] = rows[self.kept]
        return filled.view(*self.shape, rows.shape[1])

    @property
    def taken(self) -> Tensor:
        """[B, S, 1] whether a slot has a token."""
        return (self.positions >= 0).unsqueeze(2)


def slots_of(rows: Tensor, lengths: np.ndarray, tokens: int) -> Slots:
    """The slots of an expert whose inputs are at `rows`, in rising order, of a flattened batch with `lengths` [B]."""
    texts, positions = np.divmod(rows.cpu().numpy(), tokens)
    kept = np.flatnonzero(positions < lengths[texts])
    texts, positions = texts[kept], positions[kept]
    counts = np.bincount(texts, minlength=len(lengths))
    most = max(1, int(counts.max()))
    places = texts * most + np.arange(len(texts)) - (np.cumsum(counts) - counts)[texts]
    table = np.full((len(lengths), most), -1)
    table.reshape(-1)[places] = positions

    def there(numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers).to(rows.device)

    return Slots((len(lengths), most), there(kept), there(places), there(table))
