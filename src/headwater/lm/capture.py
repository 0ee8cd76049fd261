"""Forward and backward passes that capture the activations and output gradients of the tracked layers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from headwater.corpus.batches import Batch
from headwater.errors import HeadwaterError
from headwater.lm.experts import Slots, slots_of
from headwater.lm.head import head_pass
from headwater.lm.layers import TrackedLayer
from headwater.lm.load import LanguageModel

LabelKind = Literal["true", "sampled"]


@dataclass(frozen=True)
class Labels:
    """The labels of the loss: the text's own tokens, or tokens sampled from the model (for the Fisher)."""

    kind: LabelKind = "true"
    seed: int = 0


@dataclass(frozen=True)
class Captured:
    """The factored gradients of one batch: `activations` by group, `output_gradients` by layer."""

    losses: Tensor
    """[B, T] loss of each target token in nats, zero elsewhere. Column t is the loss of predicting token t."""
    activations: dict[str, Tensor]
    """group -> [B, T, I], padding rows zero, bias column included. For an expert [B, S, I], only its tokens."""
    output_gradients: dict[str, Tensor]
    """layer -> [B, T, O] gradient of the summed loss, zero at padding. For an expert [B, S, O]."""
    positions: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """layer of an expert -> [B, S] positions of its tokens in their texts, −1 where a text has fewer."""


class Capture(AbstractContextManager["Capture"]):
    """Captures (a, g) of the tracked layers, with hooks that are registered for the length of a `with`.

    The autograd graph begins at the outputs of the lowest tracked layers. Nothing below them is differentiated, no
    weight gradient is formed, and the head is fused with its loss.
    """

    def __init__(self, lm: LanguageModel, layers: Sequence[TrackedLayer]) -> None:
        self.lm = lm
        self.layers = tuple(layers)
        self._handles: list[Any] = []
        self._recording: ForwardPass | None = None
        """The forward pass that is running now."""

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
        """Run one forward and one backward pass of `batch`.

        Raises HeadwaterError if a loss or gradient is not finite. The message names the example and the layer where
        it first happens.
        """
        forward = self.forward(batch)
        losses, seed = _loss(self.lm, forward.hidden, _token_ids(batch, self.lm), batch=batch, labels=labels)
        activations = forward.activations()
        _check_finite("loss", losses, batch, layers=[(x.group, activations[x.group]) for x in self.layers])
        gradients = forward.pull_back(seed)
        from_the_top = [(layer.name, gradients[layer.name]) for layer in reversed(self.layers)]
        # All gradients that are not finite reach the lowest layer, or a lower expert that few tokens go through.
        lowest = next((name for name, _ in from_the_top[::-1] if name not in forward.slots), None)
        summed = [numbers.sum(dim=(1, 2)) for name, numbers in from_the_top if name in (lowest, *forward.slots)]
        _check_finite("gradient", torch.stack(summed, dim=1), batch, layers=from_the_top)
        positions = {name: slots.positions.to(self.lm.device) for name, slots in forward.slots.items()}
        return Captured(losses, activations, gradients, positions)

    def forward(self, batch: Batch) -> ForwardPass:
        """Run one forward pass of `batch`. The result owns everything that was captured."""
        assert self._handles, "Capture must be entered with `with` before it is called"
        self._recording = recording = ForwardPass(self.lm, self.layers, batch)
        try:
            with torch.enable_grad():
                recording.hidden = self.lm.hidden_states(_token_ids(batch, self.lm))
        finally:
            self._recording = None
        return recording

    def _hook(self, layer: TrackedLayer) -> Any:
        def hook(_: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if not output.requires_grad:
                output.requires_grad_()
            if self._recording is not None:  # gradient checkpointing runs the layer again during the backward pass
                self._recording.record(layer, inputs, output)

        return hook


class ForwardPass:
    """One forward pass of a batch: its hidden states, its activations, and the graph to take gradients back.

    The graph and the activations live as long as this object.
    """

    hidden: Tensor
    """[B, T, H] the final hidden states."""

    def __init__(self, lm: LanguageModel, layers: tuple[TrackedLayer, ...], batch: Batch) -> None:
        self.lm = lm
        self.layers = layers
        self.batch = batch
        self._inputs: dict[str, Tensor] = {}
        self._outputs: dict[str, GradientEdge] = {}
        """Positions of the layers' outputs in the graph. The values need not be kept."""
        self._freed = False
        self.slots: dict[str, Slots] = {}
        """layer of an expert -> the slots of its tokens"""
        self._known_slots: tuple[Tensor, Slots] | None = None
        """The rows of the last expert, and their slots: its layers share them."""

    def record(self, layer: TrackedLayer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Keep what the backward pass needs of one layer. An expert's inputs are its tokens [n, I] and their rows [n].

        If a layer runs twice (in DoRA), the last call counts.
        """
        self._outputs[layer.name] = get_gradient_edge(output)
        if layer.is_routed:
            self.slots[layer.name] = self._slots_at(inputs[1])
        if layer.name == layer.group:
            self._inputs[layer.group] = inputs[0].detach()

    def _slots_at(self, rows: Tensor) -> Slots:
        if self._known_slots is None or self._known_slots[0] is not rows:
            slots = slots_of(rows, self.batch.lengths, self.batch.input_ids.shape[1])
            self._known_slots = rows, slots
        return self._known_slots[1]

    def _by_text(self, name: str, numbers: Tensor) -> Tensor:
        """[B, T, width], or [B, S, width] for an expert, from the numbers of a layer in the model's own shape."""
        if name in self.slots:
            return self.slots[name].fill(numbers)
        return numbers.reshape(*self.batch.input_ids.shape, numbers.shape[-1])

    def _precise(self, numbers: Tensor) -> Tensor:
        """In float32 or better, and in what the model runs in, although some routers compute in less."""
        return _at_least_float32(numbers.to(torch.promote_types(numbers.dtype, self.hidden.dtype)))

    def activations(self) -> dict[str, Tensor]:
        """group -> [B, T, I], or [B, S, I] for an expert: padding rows zero, bias column included."""
        lengths, tokens = self.batch.lengths, self.batch.input_ids.shape[1]
        padding = None
        if int(lengths.min()) < tokens:
            padding = torch.from_numpy(np.arange(tokens) < lengths[:, None]).to(self.lm.device).unsqueeze(2)
        found: dict[str, Tensor] = {}
        for layer in self.layers:
            if layer.name == layer.group:
                inputs = self._by_text(layer.name, self._inputs[layer.group]).to(self.lm.device)
                slots = self.slots.get(layer.name)
                real = padding if slots is None else slots.taken.to(self.lm.device)
                found[layer.group] = _with_bias_column(self._precise(inputs), real, layer.bias)
        return found

    def pull_back(self, seed: Tensor) -> dict[str, Tensor]:
        """layer -> [B, T, O]: `seed` [B, T, H], a gradient in the hidden states, taken back to the layers' outputs.

        For an expert, [B, S, O].

        This frees the graph, so it can be done once.
        """
        return self._pull_back(seed, last=True)

    def weight_gradients(self, seeds: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """layer -> [O, I] for every seed: the seed taken back to the weights, summed over the batch.

        A seed [n, H] is a gradient in the `n` hidden states that predict a token. This frees the graph, so it can be
        done once.
        """
        predicts = torch.from_numpy(self.batch.targets[:, 1:]).to(self.hidden.device)
        activations = self.activations()
        found: list[dict[str, Tensor]] = []
        for place, seed in enumerate(seeds, start=1):
            spread = torch.zeros_like(self.hidden)
            spread[:, :-1][predicts] = seed
            gradients = self._pull_back(spread, last=place == len(seeds))
            found.append(
                {
                    layer.name: gradients[layer.name].flatten(0, 1).t() @ activations[layer.group].flatten(0, 1)
                    for layer in self.layers
                }
            )
        return found

    def _pull_back(self, seed: Tensor, *, last: bool) -> dict[str, Tensor]:
        assert not self._freed, "the graph of this forward pass is freed: give all seeds in one call"
        self._freed = last
        outputs = [self._outputs[layer.name] for layer in self.layers]
        gradients = torch.autograd.grad(self.hidden, outputs, seed, retain_graph=not last)
        return {
            layer.name: self._precise(self._by_text(layer.name, gradient).to(self.lm.device))
            for layer, gradient in zip(self.layers, gradients, strict=True)
        }


@torch.no_grad()
def token_losses(lm: LanguageModel, batch: Batch) -> Tensor:
    """[B, T] loss in nats of every target token, zero elsewhere, by a forward pass only."""
    input_ids = _token_ids(batch, lm)
    losses = _loss(lm, lm.hidden_states(input_ids), input_ids, batch=batch, labels=Labels())[0]
    _check_finite("loss", losses, batch)
    return losses


def _token_ids(batch: Batch, lm: LanguageModel) -> Tensor:
    return torch.from_numpy(batch.input_ids).to(lm.device)


def _loss(
    lm: LanguageModel, hidden: Tensor, input_ids: Tensor, *, batch: Batch, labels: Labels
) -> tuple[Tensor, Tensor]:
    """Losses [B, T], and the gradient [B, T, H] of their sum in `hidden`. Column t is the loss of predicting token t.

    The hidden state at t − 1 predicts token t. This function makes that shift, and no other code does.
    """
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


def _at_least_float32(numbers: Tensor) -> Tensor:
    """In float32 or better, whatever the model runs in: sums of products need the bits."""
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def _with_bias_column(inputs: Tensor, real: Tensor | None, bias: bool) -> Tensor:
    """Zero the padding rows, where `real` [B, T, 1] is False, and add a column that is one on real tokens."""
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
    """Raises HeadwaterError if `values` [B, T] are not finite.

    The message names up to three examples, and the first of `layers` whose [B, T, width] numbers are not finite.
    """
    bad = ~torch.isfinite(values).all(dim=1)
    if not bool(bad.any()):
        return
    names = ", ".join(str(batch.ids[i]) for i in torch.nonzero(bad)[:3, 0].tolist())
    layer = next((name for name, numbers in layers if not bool(torch.isfinite(numbers[bad]).all())), None)
    where = "" if layer is None else f" It happens first at layer {layer}."
    raise HeadwaterError(
        f"The {what} of example {names} is not finite.{where} The model's weights or this text are damaged, or the "
        "numbers overflow the model's precision. Look at the example, leave it out of the corpus, or use --dtype fp32."
    )


def _uniforms(seed: int, keys: np.ndarray, tokens: int) -> np.ndarray:
    """[B, T] numbers in [0, 1) that depend on (seed, example key, position) only.

    So batching, order and sharding never change a sampled label. SplitMix64 (Steele et al. 2014) as a counter-based
    generator.
    """
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
