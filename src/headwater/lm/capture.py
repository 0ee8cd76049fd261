"""Forward and backward over a batch, catching the activations and output gradients of the tracked layers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from headwater.corpus.batches import Batch
from headwater.errors import HeadwaterError
from headwater.lm.head import head_pass
from headwater.lm.layers import TrackedLayer
from headwater.lm.load import LanguageModel

LabelKind = Literal["true", "sampled"]


@dataclass(frozen=True)
class Labels:
    """Which labels the loss is taken at: the text's own, or draws from the model (the Fisher's)."""

    kind: LabelKind = "true"
    seed: int = 0


@dataclass(frozen=True)
class Captured:
    """One batch's factored gradients, raw: `activations` by group, `output_gradients` by layer."""

    losses: Tensor
    """[B, T] loss of each target token in nats, zero elsewhere; column t is the loss of predicting token t."""
    activations: dict[str, Tensor]
    """group -> [B, T, I], padding rows zero, bias column included."""
    output_gradients: dict[str, Tensor]
    """layer -> [B, T, O] gradient of the summed loss; zero at padding."""


class Capture(AbstractContextManager["Capture"]):
    """Catches (a, g) of the tracked layers. Hooks are registered once, for the length of a `with`.

    The graph begins at the outputs of the lowest tracked layers: nothing below them is differentiated, no weight
    gradient is formed, and the head is fused with its loss.
    """

    def __init__(self, lm: LanguageModel, layers: Sequence[TrackedLayer]) -> None:
        self.lm = lm
        self.layers = tuple(layers)
        self._handles: list[Any] = []
        self._inputs: dict[str, Tensor] = {}
        self._outputs: dict[str, GradientEdge] = {}
        """Where in the graph the layers' outputs are; their numbers need not be kept."""

    def __enter__(self) -> Self:
        for layer in self.layers:
            module = self.lm.model.get_submodule(layer.name)
            self._handles.append(module.register_forward_hook(self._hook(layer)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __call__(self, batch: Batch, labels: Labels = Labels()) -> Captured:
        """One forward and one backward pass of `batch`.

        Raises HeadwaterError naming the example whose loss or gradient is not finite, and the layer that shows it.
        """
        hidden = self.forward(batch)
        losses, seed = _loss(self.lm, hidden, self._ids(batch), batch=batch, labels=labels)
        activations = self.activations(batch)
        _check_finite("loss", losses, batch, layers=[(x.group, activations[x.group]) for x in self.layers])
        gradients = self.pull_back(hidden, seed)
        upwards = [(layer.name, gradients[layer.name]) for layer in self.layers]
        _check_finite("gradient", upwards[0][1].sum(dim=2), batch, layers=upwards[::-1])
        self.forget()
        return Captured(losses, activations, gradients)

    def forward(self, batch: Batch) -> Tensor:
        """[B, T, H] the final hidden states, with a graph behind them until `forget`."""
        assert self._handles, "Capture must be entered with `with` before it is called"
        self.forget()
        with torch.enable_grad():
            return self.lm.hidden_states(self._ids(batch))

    def pull_back(self, hidden: Tensor, seed: Tensor, *, again: bool = False) -> dict[str, Tensor]:
        """layer -> [B, T, O]: a gradient with respect to the hidden states taken back to the layers' outputs.

        With `again` the graph stays for another one.
        """
        outputs = [self._outputs[layer.name] for layer in self.layers]
        gradients = torch.autograd.grad(hidden, outputs, seed, retain_graph=again)
        return {
            layer.name: _precise(gradient.to(self.lm.device))
            for layer, gradient in zip(self.layers, gradients, strict=True)
        }

    def weight_gradients(self, batch: Batch, hidden: Tensor, seeds: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """For every seed, layer -> [O, I]: the seed taken back to the weights, summed over the batch.

        A seed [n, H] is a gradient with respect to the `n` hidden states that predict a token.
        """
        predicts = torch.from_numpy(batch.targets[:, 1:]).to(hidden.device)
        activations = self.activations(batch)
        found: list[dict[str, Tensor]] = []
        for place, seed in enumerate(seeds, start=1):
            whole = torch.zeros_like(hidden)
            whole[:, :-1][predicts] = seed
            pulled = self.pull_back(hidden, whole, again=place < len(seeds))
            found.append(
                {
                    layer.name: pulled[layer.name].flatten(0, 1).t() @ activations[layer.group].flatten(0, 1)
                    for layer in self.layers
                }
            )
        return found

    def forget(self) -> None:
        """Let go of the last batch."""
        self._inputs.clear()
        self._outputs.clear()

    def _ids(self, batch: Batch) -> Tensor:
        return torch.from_numpy(batch.input_ids).to(self.lm.device)

    def _hook(self, layer: TrackedLayer) -> Any:
        def hook(_: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if not output.requires_grad:
                output.requires_grad_()
            if layer.name in self._outputs:  # made again on the way back, by gradient checkpointing
                return
            self._outputs[layer.name] = get_gradient_edge(output)
            if layer.name == layer.group:
                self._inputs[layer.group] = inputs[0].detach()

        return hook

    def activations(self, batch: Batch) -> dict[str, Tensor]:
        """group -> [B, T, I] of the last batch, padding rows zero, bias column included."""
        padding = None
        if int(batch.lengths.min()) < batch.input_ids.shape[1]:
            real = np.arange(batch.input_ids.shape[1]) < batch.lengths[:, None]
            padding = torch.from_numpy(real).to(self.lm.device).unsqueeze(2)
        return {
            layer.group: _with_bias_column(_precise(self._inputs[layer.group].to(self.lm.device)), padding, layer.bias)
            for layer in self.layers
            if layer.name == layer.group
        }


@torch.no_grad()
def token_losses(lm: LanguageModel, batch: Batch) -> Tensor:
    """[B, T] loss in nats of every target token, by a forward pass alone; zero elsewhere."""
    input_ids = torch.from_numpy(batch.input_ids).to(lm.device)
    hidden = lm.hidden_states(input_ids)
    losses = _loss(lm, hidden, input_ids, batch=batch, labels=Labels())[0]
    _check_finite("loss", losses, batch)
    return losses


def _loss(
    lm: LanguageModel, hidden: Tensor, input_ids: Tensor, *, batch: Batch, labels: Labels
) -> tuple[Tensor, Tensor]:
    """[B, T] losses, column t that of predicting token t, and the gradient [B, T, H] of their sum with respect to
    `hidden`. The hidden state before a token predicts it: the one shift between the two is made here."""
    predicts = torch.from_numpy(batch.targets[:, 1:]).to(lm.device)
    uniforms = None
    if labels.kind == "sampled":
        drawn = _uniforms(labels.seed, batch.keys, batch.input_ids.shape[1])[:, 1:]
        uniforms = torch.from_numpy(drawn[batch.targets[:, 1:]]).to(lm.device)
    head = head_pass(hidden.detach()[:, :-1][predicts], lm.head, input_ids[:, 1:][predicts], uniforms=uniforms)
    losses = torch.zeros(input_ids.shape, dtype=head.losses.dtype, device=lm.device)
    losses[:, 1:][predicts] = head.losses
    gradient = torch.zeros_like(hidden)
    gradient[:, :-1][predicts] = head.gradient
    return losses, gradient


def _precise(numbers: Tensor) -> Tensor:
    """In float32 or better, whatever the model runs in: sums of products need the bits."""
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def _with_bias_column(inputs: Tensor, real: Tensor | None, bias: bool) -> Tensor:
    """Zero the padding rows (`real` [B, T, 1] is False there) and add a column that is one on real tokens."""
    if not bias:
        return inputs if real is None else inputs * real
    width = inputs.shape[-1]
    full = inputs.new_empty(*inputs.shape[:-1], width + 1)
    if real is None:
        full[..., :width] = inputs
        full[..., width] = 1
    else:
        torch.mul(inputs, real, out=full[..., :width])
        full[..., width:] = real
    return full


def _check_finite(what: str, values: Tensor, batch: Batch, *, layers: Sequence[tuple[str, Tensor]] = ()) -> None:
    """Raises HeadwaterError where `values` [B, T] are not finite, naming the examples, and the first of `layers` whose
    [B, T, width] are not."""
    bad = ~torch.isfinite(values).all(dim=1)
    if not bool(bad.any()):
        return
    names = ", ".join(str(batch.ids[i]) for i in torch.nonzero(bad)[:3, 0].tolist())
    seen = next((name for name, numbers in layers if not bool(torch.isfinite(numbers[bad]).all())), None)
    where = "" if seen is None else f" It is first seen at layer {seen}."
    raise HeadwaterError(
        f"The {what} of example {names} is not finite.{where} The model's weights or this text are damaged, or numbers "
        "of its precision do not reach so far: look at the example, leave it out of the corpus, or use float32."
    )


def _uniforms(seed: int, keys: np.ndarray, tokens: int) -> np.ndarray:
    """[B, T] numbers in [0, 1) that depend on (seed, example key, position) alone, so that batching, order and
    sharding never change a sampled label. SplitMix64 (Steele et al. 2014) as a counter-based generator."""
    with np.errstate(over="ignore"):
        stream = _mix(keys.astype(np.uint64) ^ _mix(np.uint64(seed % 2**64)))
        counter = np.arange(tokens, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        bits = _mix(stream[:, None] + counter[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: Any) -> Any:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
