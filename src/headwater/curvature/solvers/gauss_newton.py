"""Products with the true Gauss–Newton matrix, which is the Fisher that EK-FAC approximates.

`H v = E_z[Σ_t J_tᵀ (diag(p_t) − p_t p_tᵀ) J_t v]`, J_t the Jacobian of token t's logits in the tracked weights
(Schraudolph 2002; Martens 2010). Forward-mode differentiation carries the tangent J v through the model. The softmax
factor is applied to it, and backpropagation multiplies the result by Jᵀ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from headwater.base.progress import Report, Step, silent
from headwater.corpus.batches import Batch, make_batches
from headwater.gradients.factored import Gradients
from headwater.lm.capture import Capture
from headwater.lm.head import head_curvature
from headwater.lm.layers import TrackedLayer
from headwater.lm.load import LanguageModel
from headwater.sweep.sweep import Sweep


def gauss_newton_product(sweep: Sweep, vectors: Gradients, report: Report = silent) -> Gradients:
    """H v for `vectors` {layer: [Q, O, I]}, in the same shapes. H is the mean over the sequences of `sweep`.

    It costs about four forward passes a vector. Only the targets of a sequence count, as in a loss. Labels have no
    effect.
    """
    total = {name: torch.zeros_like(vector) for name, vector in vectors.items()}
    done = 0
    with Capture(sweep.lm, sweep.layers) as capture:
        for shard in sweep.shards():
            for batch in make_batches(sweep.sequences[shard.start : shard.stop], sweep.token_budget):
                _add_product(capture, batch, vectors, total=total)
                done += len(batch.ids)
                report(Step(stage=sweep.stage, done=done, total=len(sweep.sequences), tokens=batch.tokens))
    return {name: part / max(1, done) for name, part in total.items()}


def _add_product(capture: Capture, batch: Batch, vectors: Gradients, *, total: Gradients) -> None:
    queries = len(next(iter(vectors.values())))
    moved = [
        tangents(capture.lm, capture.layers, {name: every[q] for name, every in vectors.items()}, batch=batch)
        for q in range(queries)
    ]
    forward = capture.forward(batch)
    predicts = torch.from_numpy(batch.targets[:, 1:]).to(forward.hidden.device)
    states = forward.hidden.detach()[:, :-1][predicts]
    seeds = head_curvature(states, [tangent[:, :-1][predicts] for tangent in moved], capture.lm.head)
    for q, products in enumerate(forward.weight_gradients(seeds)):
        for name, product in products.items():
            total[name][q] += product


def tangents(
    lm: LanguageModel, layers: tuple[TrackedLayer, ...], step: Mapping[str, Tensor], *, batch: Batch
) -> Tensor:
    """The change [B, T, H] of the final hidden states, to first order, for a `step` {layer: [O, I]} of the weights."""
    input_ids = torch.from_numpy(batch.input_ids).to(lm.device)
    # Only PyTorch's plain attention supports forward-mode differentiation.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level(), _moving(lm, layers, step):
        hidden = lm.hidden_states(input_ids)
        moved = forward_ad.unpack_dual(hidden).tangent
        return torch.zeros_like(hidden) if moved is None else moved.clone()


@contextmanager
def _moving(lm: LanguageModel, layers: tuple[TrackedLayer, ...], step: Mapping[str, Tensor]) -> Iterator[None]:
    """During a `with`, the tangent of every tracked layer's output includes the step of the layer's own weights."""

    def hook(layer: TrackedLayer) -> Any:
        kernel = step[layer.name][:, : layer.inputs - int(layer.bias)]
        bias = step[layer.name][:, -1] if layer.bias else None

        def add(_: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            primal, passed_on = forward_ad.unpack_dual(output)
            own = torch.nn.functional.linear(forward_ad.unpack_dual(inputs[0]).primal.to(kernel.device), kernel, bias)
            own = own.to(primal.device)
            return forward_ad.make_dual(primal, own if passed_on is None else own + passed_on)

        return add

    handles = [lm.model.get_submodule(layer.name).register_forward_hook(hook(layer)) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
