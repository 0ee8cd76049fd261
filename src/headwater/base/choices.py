"""What options can be set to, and some of what they are by default: said here, where saying it loads nothing."""

from __future__ import annotations

from typing import Literal

LongTexts = Literal["truncate", "split"]
"""What becomes of texts longer than the longest wanted."""
Dtype = Literal["fp32", "bf16", "int8", "nf4"]
"""What a model runs in. Whatever is summed over tokens or examples is in float32 all the same.

With int8 and nf4 the weights of the linears have 8 or 4 bits; the rest is in bfloat16."""
DeviceMap = Literal["auto", "balanced", "balanced_low_0", "sequential"]
"""How accelerate spreads a model over the devices there are."""
Fisher = Literal["sampled", "empirical"]
"""Whose labels a Fisher's gradients are taken at: the model's own, or the text's."""
RankBy = Literal["influence", "relative"]
Aggregate = Literal["mean", "max"]
"""Over many queries."""
CheckpointMethod = Literal["tracin", "adam", "ekfac", "source"]
"""How the checkpoints of a training are added up."""
CheckKind = Literal["step", "pbrf", "retrain"]
"""How a prediction is checked."""

DEFAULT_CANDIDATES = 256
"""Of those that the index finds, so many are scored exactly, at most."""
DEFAULT_SUBSET = 1024
"""Examples that a solver takes the Gauss–Newton matrix over."""
REFERENCE_EXAMPLES = 512
"""Examples that a proximal response holds fast."""
RESPONSE_ITERATIONS = 40
"""Of finding a proximal response, at most."""
