"""What a model computes around its output layer: a scale of hidden states or logits, and a soft cap.

Gemma 2, VaultGemma and xLSTM cap their logits softly; Cohere, Granite, Falcon-H1 and MiniCPM scale them. The names of
these settings, and whether a factor multiplies or divides, differ by architecture. So the map is observed: the output
layer answers with numbers of our own in float64, and the model's logits are what it makes of them. The precision of the
weights has no part in that. Factors that agree with a setting of the configuration are taken from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from headwater.errors import ModelError
from headwater.lm.body import body_of
from headwater.lm.placement import device_of

SETTINGS = (
    "final_logit_softcapping",
    "logits_soft_cap",
    "output_logit_soft_cap",
    "logit_scale",
    "logits_scaling",
    "lm_head_multiplier",
    "output_multiplier",
    "logits_mup_width_multiplier",
)
"""Settings of transformers' configurations that scale or cap logits."""
SMALL, LARGE = 1e-3, 1e6
"""Logits at which a soft cap is invisible, and at which nothing but the cap is visible."""


@dataclass(frozen=True)
class LogitMap:
    """`logits = cap · tanh(z / cap)` of `z = scale · (input_scale · h Wᵀ + b)`; `logits = z` without a cap."""

    vocabulary: int
    """V, the number of logits. A padded output layer has more rows."""
    scale: float = 1.0
    cap: float | None = None
    input_scale: float = 1.0

    def __call__(self, outputs: Tensor) -> Tensor:
        """The logits [..., V] of the output layer's `outputs` [..., rows], which include `input_scale`."""
        scaled = outputs[..., : self.vocabulary]
        if self.scale != 1.0:
            scaled = scaled * self.scale
        return scaled if self.cap is None else torch.tanh(scaled / self.cap) * self.cap


def observe_logit_map(model: Any) -> LogitMap:
    """The logit map of a Hugging Face causal LM whose output layer is linear.

    Raises ModelError if hidden states reach the output layer changed, or if the logits are not the scaled and softly
    capped outputs of that layer.
    """
    probes, found, hidden, inputs = _probed(model)
    settings = sorted(set(_settings(model.config)))
    problem = "the output layer runs several times, or not at all"
    if probes is not None:
        vocabulary = min(found.shape[-1], probes.shape[-1])
        probes, found = probes[..., :vocabulary], found.to(probes.dtype)
        rounding = 1e-9 if found.dtype == torch.float64 else 1e-5
        steepness = float((found[:, 0] / probes[:, 0]).median())
        ceiling = float(found[:, 2].abs().median())
        cap = None if ceiling > 0.5 * abs(steepness) * LARGE else _named(ceiling, settings, 1e-5)[0]
        observed = LogitMap(vocabulary, _named(steepness, settings, 1e-5)[0], cap)
        problem = "the outputs of the output layer are changed by more than a scale and a soft cap"
        if torch.allclose(observed(probes), found, rtol=max(rounding, 1e-5), atol=1e-9):
            input_scale = _input_scale(hidden, inputs, settings)
            if input_scale is not None:
                return LogitMap(vocabulary, observed.scale, observed.cap, input_scale)
            problem = "the hidden states are changed before the output layer"
    raise ModelError(
        f"{type(model).__name__} computes its logits in a way that Headwater does not know: {problem}. "
        "Use a model whose logits are its output layer's, scaled or softly capped."
    )


@torch.no_grad()
def _probed(model: Any) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    """Our answer for the output layer, the logits made of it, the body's hidden states, the output layer's inputs."""
    layer: nn.Module = model.get_output_embeddings()
    answers: list[Tensor] = []
    inputs: list[Tensor] = []

    def answer(_: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        inputs.append(args[0])
        answers.append(_probes(output))
        return answers[-1]

    tokens = torch.arange(4, device=device_of(model.get_input_embeddings()))[None]
    training = model.training
    model.eval()
    handle = layer.register_forward_hook(answer)
    try:
        logits = model(tokens, use_cache=False).logits
        handle.remove()
        hidden = body_of(model)(tokens, use_cache=False).last_hidden_state
    finally:
        handle.remove()
        model.train(training)
    if len(answers) != 1 or logits.shape[:2] != answers[0].shape[:2]:
        return None, logits, hidden, hidden
    return answers[0], logits.to(answers[0].device), hidden, inputs[0]


def _probes(output: Tensor) -> Tensor:
    """[1, 4, V] in float64: logits too small for a cap, over a wide range, far beyond a cap, and reversed."""
    width = output.shape[-1]
    precise = torch.float32 if output.device.type == "mps" else torch.float64
    wide = torch.linspace(-150, 151, width, dtype=precise, device=output.device)
    sign = torch.ones_like(wide)
    sign[::2] = -1
    return torch.stack([SMALL * sign, wide, LARGE * sign, wide.flip(0)])[None]


def _settings(config: Any) -> Iterator[float]:
    """Factors and caps that a configuration names, and their inverses."""
    for part in (config, config.get_text_config()):
        for name in SETTINGS:
            value = getattr(part, name, None)
            if isinstance(value, int | float) and value > 0:
                yield from (float(value), 1.0 / float(value))
        base = getattr(part, "dim_model_base", None)  # MiniCPM divides by hidden_size / dim_model_base
        if isinstance(base, int) and base > 0:
            yield from (base / part.hidden_size, part.hidden_size / base)


def _named(observed: float, settings: list[float], tolerance: float) -> tuple[float, bool]:
    """The factor of `settings`, or 1, nearest to the observed one; the observed one itself if none is near."""
    nearest = min([1.0, *settings], key=lambda factor: abs(factor - observed))
    near = abs(nearest - observed) <= tolerance * abs(observed)
    return (nearest if near else observed), near


def _input_scale(hidden: Tensor, inputs: Tensor, settings: list[float]) -> float | None:
    """The factor of the configuration, or 1, between the body's hidden states and the output layer's inputs, if any."""
    before, after = hidden.double().flatten(), inputs.double().flatten().to(hidden.device)
    if before.shape != after.shape:
        return None
    tolerance = 1e-4 if hidden.dtype in (torch.float32, torch.float64) else 1e-2
    factor, near = _named(float(before @ after / (before @ before)), settings, tolerance)
    same = torch.allclose(factor * before, after, rtol=tolerance, atol=tolerance * float(after.abs().max()))
    return factor if near and same else None
