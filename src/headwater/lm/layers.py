"""Tracked layers: the linear maps whose weights influence is computed over."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from headwater.errors import ModelError
from headwater.lm.placement import device_of

DEFAULT_LAYERS = ("*.mlp.*", "*.fc1", "*.fc2")
"""Every MLP linear, as in Grosse et al. 2023. OPT calls its two fc1 and fc2."""
ADAPTER_LAYERS = ("*.lora_A.*", "*.lora_B.*")
"""The linears of a LoRA adapter (Hu et al. 2021): only they were trained."""
ALL_LINEAR = "all-linear"
"""Stands for every linear layer except the language-model head."""


@dataclass(frozen=True, kw_only=True)
class TrackedLayer:
    """A linear map y = W x + b of the model. With a bias, the input has one more column, of ones."""

    name: str
    inputs: int
    """I, the bias column included."""
    outputs: int
    """O"""
    bias: bool
    group: str
    """Name of the first layer that reads the same input tensor. Layers of a group share A and its eigenbasis."""

    @property
    def parameters(self) -> int:
        return self.inputs * self.outputs


def choose_layers(model: Any, globs: Sequence[str] | None = None) -> list[TrackedLayer]:
    """The linear layers of `model` whose names match one of `globs`, in the order of the forward pass.

    `all-linear` is every linear layer except the language-model head. The default is every MLP linear, or every linear
    of the LoRA adapter if the model has one. Raises ModelError, with the nearest names, if a glob matches nothing.
    """
    candidates = _linears(model)
    wanted: set[str] = set()
    adapted = any(".lora_A." in name for name in candidates)
    for glob in globs or (ADAPTER_LAYERS if adapted else DEFAULT_LAYERS):
        matched = {name for name in candidates if glob == ALL_LINEAR or fnmatchcase(name, glob)}
        if not matched and globs:
            hint = f" Use '{ALL_LINEAR}' for all of them."
            raise ModelError(_no_match(glob, list(candidates), "linear layer of this model") + hint)
        wanted |= matched
    if not wanted:
        raise ModelError(
            f"{type(model).__name__} has no linear layer under an 'mlp' module. "
            f"Choose layers with --layers. {_names(list(candidates))}"
        )
    return _in_forward_order(model, {name: module for name, module in candidates.items() if name in wanted})


def select_layers(layers: Sequence[TrackedLayer], globs: Sequence[str]) -> tuple[TrackedLayer, ...]:
    """The tracked `layers` whose names match one of `globs`, in their order.

    Raises ModelError, with the nearest names, if a glob matches nothing.
    """
    for glob in globs:
        if not any(fnmatchcase(layer.name, glob) for layer in layers):
            raise ModelError(_no_match(glob, [layer.name for layer in layers], "tracked layer"))
    return tuple(layer for layer in layers if any(fnmatchcase(layer.name, glob) for glob in globs))


def shape_of(module: nn.Module) -> tuple[int, int, bool]:
    """(inputs without bias, outputs, has bias) of a Linear, or of GPT-2's Conv1D, whose weight is transposed."""
    if isinstance(module, Conv1D):
        inputs, outputs = module.weight.shape
    else:  # not by the weight, which has another shape if it is quantised
        inputs, outputs = module.in_features, module.out_features
    return int(inputs), int(outputs), getattr(module, "bias", None) is not None  # pyright: ignore


def linear_shapes(model: Any) -> list[tuple[int, int]]:
    """(inputs, outputs) of every linear layer of a model except its head."""
    return [shape_of(module)[:2] for module in _linears(model).values()]


@contextlib.contextmanager
def stepped(model: Any, steps: Mapping[str, Tensor]) -> Iterator[None]:
    """Add `steps` {layer: [O, I]} to the tracked weights, bias in the last column, for the length of a `with`."""
    before: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for name, step in steps.items():
            module = model.get_submodule(name)
            inputs, _, has_bias = shape_of(module)
            kernel = step[:, :inputs]
            parts = [(module.weight, kernel.t() if isinstance(module, Conv1D) else kernel)]
            if has_bias:
                parts.append((module.bias, step[:, inputs]))
            for parameter, change in parts:
                before.append((parameter, parameter.detach().clone()))
                parameter += change.to(parameter)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, saved in before:
                parameter.copy_(saved)


def _linears(model: Any) -> dict[str, nn.Module]:
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    }


def _in_forward_order(model: Any, modules: Mapping[str, nn.Module]) -> list[TrackedLayer]:
    """The layers in the order of a forward pass of a few tokens, which also shows which layers share an input."""
    seen: list[tuple[str, Tensor]] = []

    def note(name: str) -> Any:
        return lambda _, args: seen.append((name, args[0]))

    handles = [module.register_forward_pre_hook(note(name)) for name, module in modules.items()]
    try:
        with torch.no_grad():
            model.base_model(torch.arange(4, device=device_of(model.get_input_embeddings()))[None], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    names = [name for name, _ in seen]
    for name in modules:
        if names.count(name) != 1:
            raise ModelError(
                f"Layer {name} runs {names.count(name)} times in one forward pass, and a tracked layer must run once. "
                "Leave it out with --layers."
            )
    groups: dict[tuple[int, bool], str] = {}
    layers: list[TrackedLayer] = []
    for name, tensor in seen:
        if tensor.dim() != 3:
            raise ModelError(
                f"The inputs of layer {name} have the shape {tuple(tensor.shape)}, not [batch, tokens, width], as in "
                "routed experts. Examples cannot be separated there. Leave the layer out with --layers."
            )
        inputs, outputs, bias = shape_of(modules[name])
        group = groups.setdefault((id(tensor), bias), name)
        layers.append(TrackedLayer(name=name, inputs=inputs + int(bias), outputs=outputs, bias=bias, group=group))
    return layers


def _no_match(glob: str, names: list[str], what: str) -> str:
    """The message for a `glob` that matches nothing. It gives the nearest names, as globs over the blocks."""
    globs = dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)", "*", name) for name in names)
    near = sorted(globs, key=lambda name: -difflib.SequenceMatcher(None, name, glob.replace("*", "")).ratio())
    return f"--layers {glob!r} matches no {what}. Nearest: {', '.join(near[:4])}."


def _names(names: list[str]) -> str:
    return f"Its linear layers: {', '.join(names[:6])}{' …' if len(names) > 6 else ''}."
