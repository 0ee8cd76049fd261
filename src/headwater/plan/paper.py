"""Analytic cost estimate without a local model or corpus, from layer shapes and the number of examples.

Only the model's configuration is loaded. The estimate counts the multiplications of matrix products, and the bytes in
memory, on disk and over the network. Seconds are multiplications divided by a rate. `python -m benchmarks.scaling`
compares the counts with measurements (docs/scaling.md).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModelForCausalLM

from headwater.curvature.covariances import WIDE_BLOCK
from headwater.curvature.sections import Section, section_of, sections
from headwater.errors import HeadwaterError, ModelError, first_line
from headwater.gradients.basis import spans
from headwater.lm.layers import TrackedLayer, choose_layers, products_per_token
from headwater.lm.options import Dtype
from headwater.plan.options import PaperOptions
from headwater.sweep.shards import shards_of

WEIGHT_BYTES: dict[Dtype, float] = {"fp32": 4, "bf16": 2, "int8": 1, "nf4": 0.55}
TOKEN_BYTES = 13
"""Bytes per token in the corpus: id, end, text, and its share of the example's other columns."""
SENT_BYTES = 9
"""Bytes per token sent to a worker: its id and whether it is a target."""
DECOMPOSITION = 4.5
"""Multiplications of an eigendecomposition per width³."""
DECOMPOSITION_RATE = 0.01
"""Rate of an eigendecomposition on a GPU, as a share of the rate of matrix products. On a CPU it is 0.2."""


@dataclass(frozen=True)
class Shapes:
    """The sizes of a model that determine costs."""

    layers: tuple[TrackedLayer, ...]
    weights: int
    """Number of weights of the model."""
    products: int
    """Multiplications per token in a forward pass through all linear layers and the head."""
    attention: int
    """Multiplications per token for each token that it attends to."""

    def model(self, tokens: int) -> float:
        """Multiplications per token, forward and backward to the activations. A token attends to half of an example."""
        return 2 * (self.products + self.attention * tokens / 2)

    def covariances(self, block_width: int | None) -> float:
        """Multiplications per token: I² and O², nearly halved by symmetry for wide layers."""
        return sum(
            share * _gram(span.stop - span.start)
            for width, share in self._widths_and_shares
            for span in spans(width, block_width)
        )

    def rotation(self, tokens: int, block_width: int | None = None, directions: int = 0) -> float:
        """Multiplications per token to rotate gradients into the eigenbases, or some directions of them, by the
        cheaper of two ways (see `gradients.factored.rotated`)."""
        total = 0.0
        shared: set[str] = set()
        for layer in self.layers:
            inputs, outputs = layer.inputs, layer.outputs
            k_inputs, k_outputs = (min(n, directions or n) for n in (inputs, outputs))
            into_inputs, into_outputs = (
                sum(span.stop - span.start for span in spans(n, block_width)) * k / len(spans(n, block_width))
                for n, k in ((inputs, k_inputs), (outputs, k_outputs))
            )
            factors = (0 if layer.group in shared else into_inputs) + into_outputs + k_inputs * k_outputs
            made = inputs * outputs + (outputs * into_inputs + k_inputs * into_outputs) / tokens
            total += layer.token_share * min(factors, made)
            if factors <= made:
                shared.add(layer.group)
        return total

    @cached_property
    def widths(self) -> list[int]:
        """Width of every covariance."""
        return [width for width, _ in self._widths_and_shares]

    @property
    def _widths_and_shares(self) -> list[tuple[int, float]]:
        """Width of every covariance, and the part of the tokens that it sums."""
        inputs = [(x.inputs, x.token_share) for x in self.layers if x.name == x.group]
        return inputs + [(x.outputs, x.token_share) for x in self.layers]


@dataclass(frozen=True, kw_only=True)
class PaperStage:
    """Counted cost of one stage."""

    name: str
    multiplications: float
    seconds: float
    memory: int
    """Peak bytes of a worker."""
    disk: int
    """Bytes of the results on disk."""
    sent: int
    """Bytes sent to and from all workers."""


@dataclass(frozen=True, kw_only=True)
class PaperPlan:
    """Counted cost of the stages, and the sections of the fit."""

    model: str
    weights: int
    layers: int
    parameters: int
    options: PaperOptions
    stages: tuple[PaperStage, ...]
    parts: tuple[Section, ...]

    def to_json(self) -> str:
        whole = asdict(self)
        whole["parts"] = [
            {
                "layers": [x.name for x in part.layers],
                "covariances": part.covariances,
                "eigenvalues": part.eigenvalues,
                "peak": part.peak,
            }
            for part in self.parts
        ]
        return json.dumps(whole, indent=2, ensure_ascii=False)


def plan_on_paper(model: str, options: PaperOptions, *, trust_remote_code: bool = False) -> PaperPlan:
    """The plan for a model, of which only the configuration is read.

    Raises ModelError if there is no such model, and HeadwaterError if a layer does not fit into the memory.
    """
    if min(options.examples, options.tokens, options.workers) < 1 or options.rate <= 0:
        raise HeadwaterError("An estimate needs examples, tokens and workers of at least 1, and a rate above 0.")
    shapes = shapes_of(model, options.layers, trust_remote_code=trust_remote_code)
    held = int(shapes.weights * WEIGHT_BYTES[options.dtype]) + _batch(shapes, options.tokens)
    parts = (
        [section_of(shapes.layers, options.block_width)]
        if options.memory is None
        else sections(shapes.layers, options.memory - held, options.block_width)
    )
    stages = (_fit(shapes, options, parts, held=held), _index(shapes, options, held))
    parameters = sum(layer.parameters for layer in shapes.layers)
    return PaperPlan(
        model=model,
        weights=shapes.weights,
        layers=len(shapes.layers),
        parameters=parameters,
        options=options,
        stages=stages,
        parts=tuple(parts),
    )


def shapes_of(model: str, globs: Sequence[str] | None = None, *, trust_remote_code: bool = False) -> Shapes:
    """The shapes of a model, from its configuration, without allocating its weights."""
    try:
        config: Any = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
        with torch.device("meta"), _AnswersYes():
            made: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
            layers = tuple(choose_layers(made, globs))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"Cannot read the configuration of {model!r}: {first_line(error)}.") from error
    weights = sum(weight.numel() for weight in made.parameters())
    products = products_per_token(made)
    text = config.get_text_config()
    return Shapes(
        layers,
        weights,
        products + made.get_output_embeddings().weight.numel(),
        2 * text.num_hidden_layers * text.hidden_size,
    )


class _AnswersYes(TorchFunctionMode):
    """Lets a model without values run: where it asks whether a mask is all ones, for example, the answer is yes."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.__bool__ and args[0].is_meta:
            return True
        return func(*args, **(kwargs or {}))


def _fit(shapes: Shapes, options: PaperOptions, parts: Sequence[Section], *, held: int) -> PaperStage:
    """Cost of the fit. The model runs twice per section: workers do not cache gradients of the first pass for the
    second, and a single process has no room for those of a large model."""
    examples = min(options.fit_examples or options.examples, options.examples)
    tokens = examples * options.tokens
    products = shapes.covariances(options.block_width) + shapes.rotation(options.tokens, options.block_width)
    work = tokens * (2 * len(parts) * shapes.model(options.tokens) + products)
    blocks = [span.stop - span.start for width in shapes.widths for span in spans(width, options.block_width)]
    decomposing = DECOMPOSITION * sum(float(n) ** 3 for n in blocks)
    whole = section_of(shapes.layers, options.block_width)
    sent = 0
    if options.workers > 1:  # each shard returns its sums, and each worker gets tokens and bases
        sent = len(shards_of(examples)) * (whole.covariances + whole.eigenvalues) + options.workers * whole.covariances
        sent += 2 * len(parts) * tokens * SENT_BYTES
    return PaperStage(
        name="fit",
        multiplications=work + decomposing,
        seconds=(work + decomposing / DECOMPOSITION_RATE) / options.rate / options.workers,
        memory=held + max(part.peak for part in parts),
        disk=whole.covariances + whole.eigenvalues,
        sent=_weights(shapes, options) + sent,
    )


def _index(shapes: Shapes, options: PaperOptions, held: int) -> PaperStage:
    tokens = options.examples * options.tokens
    each = shapes.model(options.tokens) + shapes.rotation(options.tokens, options.block_width, options.directions)
    bases = sum(n * min(n, options.directions or n) for n in shapes.widths)
    roots = sum(
        min(x.inputs, options.directions or x.inputs) * min(x.outputs, options.directions or x.outputs)
        for x in shapes.layers
    )
    held += 4 * (bases + roots) + 4 * roots  # the last term is the whitened gradient of one example
    sent = options.workers * 4 * (bases + roots) + tokens * SENT_BYTES + options.examples * options.bytes
    return PaperStage(
        name="index",
        multiplications=tokens * each,
        seconds=tokens * each / options.rate / options.workers,
        memory=held,
        disk=options.examples * (options.bytes + options.tokens * TOKEN_BYTES),
        sent=_weights(shapes, options) + (sent if options.workers > 1 else 0),
    )


def _weights(shapes: Shapes, options: PaperOptions) -> int:
    """Bytes of the model, which every worker loads."""
    return int(shapes.weights * WEIGHT_BYTES[options.dtype]) * options.workers


def _batch(shapes: Shapes, tokens: int) -> int:
    """Bytes of the smallest batch, one example: three times its factors, in float32."""
    return 3 * 4 * tokens * sum(shapes.widths)


def _gram(width: int) -> float:
    """Multiplications per token of a covariance of this width (see `curvature.covariances`)."""
    return width**2 if width < 2 * WIDE_BLOCK else (width**2 + width * WIDE_BLOCK) / 2
