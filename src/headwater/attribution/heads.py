"""Exact scores of attention layers, split by head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from headwater.attribution.context import AttributionContext
from headwater.attribution.preconditioned import PreconditionedQueries
from headwater.attribution.scores import Rows
from headwater.corpus.batches import Batch, TokenSequence
from headwater.errors import HeadwaterError
from headwater.gradients.factored import FactoredGradient
from headwater.lm.layers import TrackedLayer
from headwater.sweep.sweep import Sweep, fold

QUERIES = ("q_proj", "query")
KEYS_VALUES = ("k_proj", "key", "v_proj", "value")
OUTPUTS = ("o_proj", "out_proj", "c_proj", "dense")


@dataclass(frozen=True)
class HeadSplit:
    """Which head each output (or input) of an attention layer belongs to."""

    of_inputs: bool
    """True for the output projection, which reads the heads side by side. The others write them."""
    head: Tensor
    """[O] or [I] number of the head. A bias column of the output projection counts as one more."""
    heads: int


def head_splits(model: Any, layers: Sequence[TrackedLayer]) -> dict[str, HeadSplit]:
    """The splits of the tracked attention layers. Layers whose heads cannot be told are left out.

    Known are separate projections of queries, keys, values (keys and values of grouped heads have fewer) and outputs,
    and the fused ones of GPT-2 (`c_attn`) and GPT-NeoX (`query_key_value`).
    """
    config = model.config.get_text_config()
    heads = int(config.num_attention_heads)
    groups = int(getattr(config, "num_key_value_heads", None) or heads)
    found: dict[str, HeadSplit] = {}
    for layer in layers:
        parent, _, leaf = layer.name.rpartition(".")
        if "attn" not in parent and "attention" not in parent:
            continue
        inside = layer.inputs - int(layer.bias)
        width = getattr(config, "head_dim", None) or int(config.hidden_size) // heads
        if leaf in OUTPUTS and inside == heads * width:
            numbers = torch.arange(layer.inputs) // width
            found[layer.name] = HeadSplit(True, numbers, heads + int(layer.bias))
        elif leaf in QUERIES and layer.outputs == heads * width:
            found[layer.name] = HeadSplit(False, torch.arange(layer.outputs) // width, heads)
        elif leaf in KEYS_VALUES and layer.outputs == groups * width:
            found[layer.name] = HeadSplit(False, torch.arange(layer.outputs) // width, groups)
        elif leaf == "c_attn" and layer.outputs == 3 * heads * width:  # all queries, then keys, then values
            found[layer.name] = HeadSplit(False, torch.arange(layer.outputs) % (heads * width) // width, heads)
        elif leaf == "query_key_value" and model.config.model_type == "gpt_neox":  # head by head
            found[layer.name] = HeadSplit(False, torch.arange(layer.outputs) // (3 * width), heads)
    return found


class HeadScores(Rows):
    """[N, heads] influence of every example on one query by head, one split layer after the other."""

    def __init__(self, preconditioned: Mapping[str, Tensor], splits: Mapping[str, HeadSplit]) -> None:
        super().__init__()
        self.preconditioned = preconditioned
        self.splits = splits

    def update(self, batch: Batch, gradients: Mapping[str, FactoredGradient]) -> None:
        parts: list[Tensor] = []
        for name, split in self.splits.items():
            a, g = gradients[name].activations, gradients[name].output_gradients
            weight = self.preconditioned[name][0]
            shares = ((g @ weight) * a if split.of_inputs else (a @ weight.mT) * g).sum(dim=1)
            by_head = shares.new_zeros(len(shares), split.heads)
            parts.append(by_head.index_add_(1, split.head.to(shares.device), shares))
        self.add(batch, torch.cat(parts, dim=1))


def head_shares(
    context: AttributionContext, preconditioned: PreconditionedQueries, sequences: Sequence[TokenSequence]
) -> list[dict[str, list[float]]]:
    """For each sequence, layer -> its influence on one question by head. The sum over heads is the layer's influence.

    Raises HeadwaterError if no attention layer is tracked whose heads are known.
    """
    splits = head_splits(context.lm.model, context.curvature.layers)
    if not splits:
        raise HeadwaterError(
            "--heads splits the scores of attention layers, and the run tracks none whose heads are known. "
            "Fit it with attention layers, such as --layers '*attn*'."
        )
    if not sequences:
        return []
    weights = preconditioned.dense()
    sweep = Sweep(stage="heads", lm=context.lm, layers=context.curvature.layers, sequences=sequences)
    rows = fold(sweep, lambda: HeadScores(weights, splits)).values
    sizes = [split.heads for split in splits.values()]
    return [{name: part.tolist() for name, part in zip(splits, row.split(sizes), strict=True)} for row in rows]
