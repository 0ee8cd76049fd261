"""Tracked layers: the linear maps whose weights influence is computed over."""

from __future__ import annotations

import contextlib
import difflib
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from headwater.errors import HeadwaterWarning, ModelError
from headwater.lm.body import body_of
from headwater.lm.experts import ExpertLinear, split_experts
from headwater.lm.placement import device_of
from headwater.lm.routers import RouterLinear, split_routers

DEFAULT_LAYERS = ("*.mlp.*", "*.fc1", "*.fc2", "*.feed_forward.*", "*.ffn.*", "*.block_sparse_moe.*", "*.shared_mlp.*")
"""Every MLP linear, as in Grosse et al. 2023, under the names that architectures give them. Experts belong to it."""
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
    token_share: float = 1.0
    """Part of the tokens that reach it, on average: 1, or k/E for one of E experts of which a token takes k."""

    @property
    def is_routed(self) -> bool:
        """Whether it belongs to an expert, which sees only the tokens that are sent to it."""
        return self.token_share < 1

    @property
    def parameters(self) -> int:
        return self.inputs * self.outputs


def choose_layers(model: Any, globs: Sequence[str] | None = None) -> list[TrackedLayer]:
    """The linear layers of `model` whose names match one of `globs`, in the order of the forward pass.

    `all-linear` is every linear layer except the language-model head. The default is every MLP linear; or every linear
    of the LoRA adapter if the model has one; or every linear if it has no MLP, as Mamba. Each matrix of a routed
    expert is a layer. Layers that do not run on text, as those of a vision tower, are left out with a warning that
    counts them. Raises ModelError, with the nearest names, if a glob matches nothing, and if the examples of a batch
    cannot be separated at a layer.
    """
    split_experts(model)
    split_routers(model)
    candidates = _linears(model)
    wanted: set[str] = set()
    adapted = any(".lora_A." in name for name in candidates)
    for glob in globs or (ADAPTER_LAYERS if adapted else DEFAULT_LAYERS):
        matched = {name for name in candidates if glob == ALL_LINEAR or fnmatchcase(name, glob)}
        if not matched and globs:
            hint = f" Use '{ALL_LINEAR}' for all of them."
            raise ModelError(_no_match(glob, list(candidates), "linear layer of this model") + hint)
        wanted |= matched
    found = _in_forward_order(model, {name: module for name, module in candidates.items() if name in wanted})
    if not (found or globs):
        found = _in_forward_order(model, candidates)
    if not found:
        raise ModelError(
            f"{type(model).__name__} has no linear layer that runs on text among the chosen ones. "
            f"Choose layers with --layers. {_names(list(candidates))}"
        )
    return found


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


def is_mlp(name: str) -> bool:
    """Whether a layer or parameter belongs to an MLP, by its name."""
    return any(fnmatchcase(name, glob) or fnmatchcase(name, f"{glob}.*") for glob in DEFAULT_LAYERS)


def packed_sizes(model: Any) -> dict[str, int]:
    """Parameter -> the numbers of its matrix, for weights that are quantised and hold several in one."""
    shapes = {
        name: shape_of(module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not module.weight.is_floating_point()
    }
    return {f"{name}.weight": inputs * outputs for name, (inputs, outputs, _) in shapes.items()}


def products_per_token(model: Any) -> int:
    """Multiplications per token in the linear layers of a model, except its head. A token runs k of E experts."""
    split_experts(model)
    split_routers(model)
    total = 0.0
    for module in _linears(model).values():
        inputs, outputs, _ = shape_of(module)
        total += inputs * outputs * _token_share(module)
    return round(total)


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
    heads = set(model.get_output_embeddings().modules())  # with those that an adapter saves beside the base's
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D | ExpertLinear | RouterLinear) and module not in heads
    }


def _token_share(module: nn.Module) -> float:
    return module.token_share if isinstance(module, ExpertLinear) else 1.0


TEXTS, TOKENS = 2, 3
"""Of the batch that shows how the layers run. They differ, so that the shapes of inputs tell texts from tokens."""


def _in_forward_order(model: Any, modules: Mapping[str, nn.Module]) -> list[TrackedLayer]:
    """The layers in the order of a forward pass of a few tokens, which also shows which layers share an input."""
    seen = _calls(model, modules)
    _check_calls(model, modules, [name for name, _ in seen])
    last = dict(seen)  # of DoRA's two calls, the second is that of the text
    _check_separable(model, modules, last)
    groups: dict[tuple[int, bool], str] = {}
    layers: list[TrackedLayer] = []
    for name, args in last.items():
        inputs, outputs, bias = shape_of(modules[name])
        share = _token_share(modules[name])
        group = name if share < 1 else groups.setdefault((id(args[0]), bias), name)
        layers.append(
            TrackedLayer(
                name=name, inputs=inputs + int(bias), outputs=outputs, bias=bias, group=group, token_share=share
            )
        )
    return layers


def _calls(
    model: Any, modules: Mapping[str, nn.Module], *, reverse_last: bool = False
) -> list[tuple[str, tuple[Tensor, ...]]]:
    """The calls of `modules` in a forward pass of a small batch, in order: name and arguments."""
    seen: list[tuple[str, tuple[Tensor, ...]]] = []

    def note(name: str) -> Any:
        return lambda _, args: seen.append((name, args))

    def forget(name: str) -> Any:
        """Forget the layers that return more than a product with their weights, as some routers do."""

        def check(_: nn.Module, __: Any, output: object) -> None:
            if not isinstance(output, Tensor):
                seen[:] = [call for call in seen if call[0] != name]

        return check

    handles = [module.register_forward_pre_hook(note(name)) for name, module in modules.items()]
    handles += [module.register_forward_hook(forget(name)) for name, module in modules.items()]
    try:
        with torch.no_grad():
            device = device_of(model.get_input_embeddings())
            batch = torch.arange(TEXTS * TOKENS, device=device).view(TEXTS, TOKENS)
            if reverse_last:
                batch = torch.cat([batch[:-1], batch[-1:].flip(1)])
            body_of(model)(batch, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _check_calls(model: Any, modules: Mapping[str, nn.Module], names: Sequence[str]) -> None:
    """Warn of layers that did not run. Raises ModelError if one ran several times."""
    calls = Counter(names)
    for name, count in calls.items():
        if count > 1 and not _is_dora(model, name):
            raise ModelError(
                f"Layer {name} runs {count} times in one forward pass, and a tracked layer must run once. "
                "Leave it out with --layers."
            )
    if idle := [name for name in modules if name not in calls]:
        counted = f"{len(idle):,} of the chosen layers are" if len(idle) > 1 else "One of the chosen layers is"
        warnings.warn(
            f"{counted} left out: {_shortened(idle)}. A text does not go through them as through a linear layer, which "
            "is so in a vision tower and in some routers.",
            HeadwaterWarning,
            stacklevel=4,
        )


def _is_dora(model: Any, name: str) -> bool:
    """Whether a layer belongs to a DoRA adapter, which calls it once more, on the identity, to measure its norm."""
    parent = name.rsplit(".", 2)[0]
    return ".lora_" in name and len(getattr(model.get_submodule(parent), "lora_magnitude_vector", ())) > 0


def _check_separable(model: Any, modules: Mapping[str, nn.Module], calls: Mapping[str, tuple[Tensor, ...]]) -> None:
    """Raises ModelError if the inputs of a layer are not [B, T, I] or [B, 1, T, I], nor [B · T, I] text by text.

    For flattened inputs, another second text must leave the rows of the first as they are.
    """
    flat = {name for name, args in calls.items() if args[0].dim() == 2}
    for name, args in calls.items():
        rows = args[0].numel() // max(1, args[0].shape[-1])
        fits = isinstance(modules[name], ExpertLinear) or rows == TEXTS * TOKENS
        if not fits or (name not in flat and len(args[0]) != TEXTS):
            raise ModelError(
                f"The inputs of layer {name} have the shape {tuple(args[0].shape)} for {TEXTS} texts of {TOKENS} "
                "tokens, so examples cannot be separated there. Leave the layer out with --layers."
            )
    if not flat or any(args[0].is_meta for args in calls.values()):
        return
    other = dict(_calls(model, {name: modules[name] for name in flat}, reverse_last=True))
    for name in flat:
        before, after = (_first_text(args) for args in (calls[name], other[name]))
        if before.shape != after.shape or not torch.allclose(before, after, rtol=1e-2, atol=1e-2 * _largest(before)):
            raise ModelError(
                f"The inputs of layer {name} depend on the other texts of a batch, so examples cannot be separated "
                "there. Leave the layer out with --layers."
            )


def _first_text(args: tuple[Tensor, ...]) -> Tensor:
    """The inputs of the first text in flattened inputs [B · T, I], or in those of an expert, which come with rows."""
    return args[0][args[1] < TOKENS] if len(args) == 2 else args[0][:TOKENS]


def _largest(numbers: Tensor) -> float:
    return float(numbers.abs().max()) if numbers.numel() else 0.0


def _no_match(glob: str, names: list[str], what: str) -> str:
    """The message for a `glob` that matches nothing. It gives the nearest names, as globs over the blocks."""
    globs = dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)", "*", name) for name in names)
    near = sorted(globs, key=lambda name: -difflib.SequenceMatcher(None, name, glob.replace("*", "")).ratio())
    return f"--layers {glob!r} matches no {what}. Nearest: {', '.join(near[:4])}."


def _names(names: list[str]) -> str:
    return f"Its linear layers: {_shortened(names)}."


def _shortened(names: Sequence[str]) -> str:
    return f"{', '.join(names[:6])}{' …' if len(names) > 6 else ''}"
