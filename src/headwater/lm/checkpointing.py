"""Gradient checkpointing: a block keeps its input alone, and is run again on the way back (Chen et al. 2016).

transformers' own does so only where a block is in training mode, in which some blocks (OPT's) also drop out. A block
runs the same kernels on the same numbers twice, so that gradients are the same bytes.
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
    """Let every block of `model` be run again on the way back. Passes without a gradient are left as they are.

    Returns whether that changed anything: False where it does so already, or has no blocks that transformers would
    checkpoint.
    """
    blocks: list[Any] = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    plain = [block for block in blocks if not checkpoints_gradients(block)]
    for block in plain:
        block.forward_once = block.forward  # maybe not its class's own: accelerate's hooks stand there too
        block.forward = MethodType(_checkpointed, block)
    return bool(plain)


def checkpoints_gradients(model: Any) -> bool:
    """Whether a model, or a block of it, is run again on the way back."""
    return any(hasattr(module, "forward_once") for module in model.modules())


def _checkpointed(self: Any, *args: Any, **kwargs: Any) -> Any:
    if not (torch.is_grad_enabled() and _has_graph(self, (*args, *kwargs.values()))):
        return self.forward_once(*args, **kwargs)
    # To its end, so that whatever was fetched for it (accelerate's offloaded weights) is put away again.
    with set_checkpoint_early_stop(False):
        # A model in eval mode draws no random numbers.
        return checkpoint(partial(self.forward_once, **kwargs), *args, use_reentrant=False, preserve_rng_state=False)


def _has_graph(block: Any, given: Sequence[Any]) -> bool:
    """Whether a graph comes into a block, or may begin in it: where a hook or a trainable weight is."""
    return (
        any(isinstance(one, Tensor) and one.requires_grad for one in given)
        or any(module._forward_hooks for module in block.modules())
        or any(weight.requires_grad for weight in block.parameters())
    )
