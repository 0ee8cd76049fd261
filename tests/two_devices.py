"""python -m tests.two_devices: a model half on a processor and half on a device that does not exist.

Tensors have shapes and devices but no numbers (FakeTensorMode), and an operation on two devices raises. This is a
process of its own, since PyTorch is told of the device for good.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import torch
from accelerate.hooks import attach_align_device_hook_on_blocks
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend
from transformers import AutoModelForCausalLM

from headwater.corpus.batches import make_batches
from headwater.curvature.solvers.gauss_newton import tangents
from headwater.lm.capture import Capture
from headwater.lm.checkpointing import checkpoint_gradients
from headwater.lm.head import Head
from headwater.lm.kernels import use_fused_gelu, use_sdpa
from headwater.lm.layers import choose_layers
from headwater.lm.load import LanguageModel
from headwater.lm.placement import device_of, fetched
from tests.models import CONFIGS, VOCABULARY, tiny_tokenizer
from tests.oracle import random_sequences

GPU = "imaginary:0"


def check(architecture: str, first: str, second: str) -> None:
    """Capture with the embeddings and the first block on one device, and the rest on another."""
    (batch,) = make_batches(random_sequences(4, VOCABULARY, seed=1), 512)
    with FakeTensorMode():
        model = AutoModelForCausalLM.from_config(CONFIGS[architecture]()).eval().requires_grad_(False)
        places = {name: second if name[-2:] in (".1", "ad") else first for name in _parts(model)}
        if model.config.tie_word_embeddings:
            places["lm_head"] = first
        for name, place in places.items():
            for module in model.get_submodule(name).modules():
                _move(module, place)
        devices = {name: torch.device(place) for name, place in places.items()}
        attach_align_device_hook_on_blocks(model, execution_device=devices, offload=dict.fromkeys(devices, False))
        use_sdpa(model)
        use_fused_gelu(model)
        layer = model.get_output_embeddings()  # fake numbers cannot tell what a model does to its logits
        head = Head(fetched(layer, "weight").to(device_of(layer)), layer.bias)
        lm = LanguageModel(name="", model=model, tokenizer=tiny_tokenizer(), head=head)
        home = torch.device(places["lm_head"])
        assert lm.device == home
        layers = choose_layers(model)
        for checkpointed in (False, True):
            assert not checkpointed or checkpoint_gradients(model)
            with Capture(lm, layers) as capture:
                forward = capture.forward(batch)
                caught = [forward.hidden, *forward.activations().values()]
                caught += forward.pull_back(torch.zeros_like(forward.hidden)).values()
            assert {tensor.device for tensor in caught} == {home}
            places_of_weights = {weight.device for weight in model.parameters()}
            assert places_of_weights == {torch.device(first), torch.device(second)}
        if architecture == "gpt2":  # whose layer norm carries no tangent here
            return
        steps = {layer.name: torch.zeros(layer.outputs, layer.inputs, device=home) for layer in layers}
        assert tangents(lm, tuple(layers), steps, batch=batch).device == home


def _parts(model: Any) -> Iterator[str]:
    """What accelerate would place: blocks whole, and what stands beside them."""
    body = model.base_model_prefix
    for name, module in model.base_model.named_children():
        blocks = range(len(module)) if isinstance(module, nn.ModuleList) else ()
        yield from [f"{body}.{name}.{k}" for k in blocks] or [f"{body}.{name}"]
    yield "lm_head"


def _move(module: nn.Module, place: str) -> None:
    """Which accelerate does itself, but for these tensors."""
    for name, weight in module.named_parameters(recurse=False):
        setattr(module, name, nn.Parameter(weight.to(place), requires_grad=False))
    for name, buffer in module.named_buffers(recurse=False):
        setattr(module, name, buffer.to(place))


class Imaginary(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return []


if __name__ == "__main__":
    _setup_privateuseone_for_python_backend("imaginary", Imaginary())
    for architecture in ("llama", "gpt2"):
        check(architecture, GPU, "cpu")
        check(architecture, "cpu", GPU)
    sys.stdout.write("every operation was on one device")
    sys.stdout.flush()
    os._exit(0)  # the device's thread does not know how to end
