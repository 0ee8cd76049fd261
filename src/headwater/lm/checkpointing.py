"""Gradient checkpointing: a block keeps only its input, and runs again in the backward pass (Chen et al. 2016).

transformers checkpoints only blocks in training mode, where some blocks (OPT's) also apply dropout. Here blocks stay in
eval mode. A block runs the same kernels on the same numbers twice, so gradients are the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop
from transformers.modeling_layers import GradientCheckpointingLayer


def checkpoint_gradients(model: Any) -> bool:
    """Make every block of `model` run again in the backward pass. Passes without a gradient do not change.

    Returns whether that changed anything. It does not if checkpointing is on already, or if the model has no blocks
    that transformers could checkpoint.
    """
    blocks: list[Any] = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    plain = [block for block in blocks if not checkpoints_gradients(block)]
    for block in plain:
        block.forward_once = block.forward  # may be a hook of accelerate, not the method of the class
        block.forward = MethodType(_checkpointed, block)
    return bool(plain)


def checkpoints_gradients(model: Any) -> bool:
    """Whether a model, or a block, runs again in the backward pass."""
    return any(hasattr(module, "forward_once") for module in model.modules())


def _checkpointed(self: Any, *args: Any, **kwargs: Any) -> Any:
    if not (torch.is_grad_enabled() and _has_graph(self, (*args, *kwargs.values()))):
        return self.forward_once(*args, **kwargs)
    # Run to the end, so that accelerate offloads the weights again that it loaded for the block.
    with set_checkpoint_early_stop(False):
        # A model in eval mode draws no random numbers.
        return checkpoint(partial(self.forward_once, **kwargs), *args, use_reentrant=False, preserve_rng_state=False)


def _has_graph(block: Any, given: Sequence[Any]) -> bool:
    """Whether a graph enters a block, or may begin in it, at a hook or a trainable weight."""
    return (
        any(isinstance(one, Tensor) and one.requires_grad for one in given)
        or any(module._forward_hooks for module in block.modules())
        or any(weight.requires_grad for weight in block.parameters())
    )
