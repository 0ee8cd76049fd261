"""Brute force: everything Headwater computes, one example at a time, by plain autograd in float64."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from headwater.corpus.batches import TokenSequence, all_targets


def random_sequences(count: int, vocabulary: int, seed: int, longest: int = 20) -> list[TokenSequence]:
    rng = np.random.default_rng(seed)
    return [
        all_targets(rng.integers(0, vocabulary, int(rng.integers(2, longest + 1))), f"z{seed}-{k}")
        for k in range(count)
    ]


def sequence_loss(model: Any, sequence: TokenSequence, labels: Sequence[int] | None = None) -> Tensor:
    """Summed −log p of the target tokens; `labels` replaces them. The model is called plainly, no padding."""
    ids = torch.from_numpy(sequence.input_ids).to(model.device)
    log_p = model(ids[None], use_cache=False).logits[0].log_softmax(-1)
    wanted = ids if labels is None else torch.as_tensor(labels, device=ids.device)
    places = [t for t in range(1, len(ids)) if sequence.targets[t]]
    return -sum(log_p[t - 1, wanted[t]] for t in places)  # pyright: ignore[reportReturnType]


def weight_gradients(model: Any, names: Sequence[str], loss: Tensor) -> dict[str, Tensor]:
    """layer -> [O, I] gradient of `loss` with respect to its weight, bias in the last column."""
    found: dict[str, Tensor] = {}
    for name in names:
        if expert := re.fullmatch(r"(.*\.experts)\.(\d+)\.(\w+)", name):
            found[name] = _expert_gradient(model.get_submodule(expert[1]), expert[3], int(expert[2]), loss=loss)
            continue
        module = model.get_submodule(re.sub(r"\.(gate|router)\.linear$", r".\1", name))
        bias = getattr(module, "bias", None)
        parameters = [module.weight] + ([] if bias is None else [bias])
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
        kernel = gradients[0].t() if isinstance(module, Conv1D) else gradients[0]
        found[name] = torch.cat([kernel, *(g[:, None] for g in gradients[1:])], dim=1)
    return found


def _expert_gradient(experts: Any, matrix: str, number: int, *, loss: Tensor) -> Tensor:
    """The part of one expert in the gradient of the parameter that holds all of them."""
    parameters = [getattr(experts, matrix)] + ([getattr(experts, f"{matrix}_bias")] if experts.has_bias else [])
    whole = torch.autograd.grad(loss, parameters, retain_graph=True)
    kernel = whole[0][number].t() if experts.is_transposed else whole[0][number]
    return torch.cat([kernel, *(g[number][:, None] for g in whole[1:])], dim=1)


def example_gradients(
    model: Any,
    names: Sequence[str],
    sequences: Sequence[TokenSequence],
    labels: Sequence[Sequence[int]] | None = None,
) -> dict[str, Tensor]:
    """layer -> [N, O, I]"""
    model.requires_grad_(True)
    rows = [
        weight_gradients(model, names, sequence_loss(model, s, None if labels is None else labels[k]))
        for k, s in enumerate(sequences)
    ]
    return {name: torch.stack([row[name] for row in rows]) for name in names}


def assert_near(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Equal to within `tolerance` of the largest number. (transformers runs GPT-Neo's scores in float32.)"""
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * max(scale, 1e-6))


def keep(kept: dict[str, tuple[Tensor, Tensor]], name: str) -> Any:
    """A forward hook that keeps a module's input and output under `name`."""
    return lambda _, args, out: kept.__setitem__(name, (args[0], out))
