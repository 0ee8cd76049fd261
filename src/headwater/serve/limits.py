"""Limits of one request, tighter than those of the options themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headwater.attribution.options import AskOptions, Sampling
from headwater.verify.options import VerifyOptions


@dataclass(frozen=True, kw_only=True)
class Limits:
    body_bytes: int = 1 << 20
    k: int = 50
    """Examples at each end of an answer."""
    candidates: int = 100_000
    texts: int = 8
    """Texts of the caller that are scored in place of the corpus."""
    messages: int = 256
    """Messages of a conversation."""
    text_characters: int = 100_000
    """Characters of each of these texts."""
    condition_characters: int = 2_000
    """Characters of a condition or of words to look for."""
    layers: int = 256
    """Globs of layer names."""
    iterations: int = 100
    """Iterations of conjugate gradients, and of finding a response."""
    checked: int = 100
    """Examples verified that an answer does not show; of those it shows, `k` at each end."""
    responses: int = 24
    """Examples whose response is found in one verification."""
    reference_examples: int = 4096
    """Examples in the reference set of a response."""
    response_texts: int = 400_000
    """Texts that all responses of a verification may process: examples × reference examples × iterations. With the
    demo's model two cores process about 300 per second, and most responses need half of their iterations."""
    new_tokens: int = 256
    """Tokens of a continuation."""
    temperature: float = 5.0
    seed: int = 2**32 - 1
    wait_seconds: float = 30.0
    """Seconds that a request may wait for its job to end."""


LIMITS = Limits()
LARGEST_INTEGER = 2**31 - 1
"""Maximum of a whole number that has no tighter limit."""
OPTION_LIMITS: Mapping[type, Mapping[str, float]] = {
    AskOptions: {"k": LIMITS.k, "candidates": LIMITS.candidates, "iterations": LIMITS.iterations},
    Sampling: {"max_new_tokens": LIMITS.new_tokens, "temperature": LIMITS.temperature, "seed": LIMITS.seed},
    VerifyOptions: {
        "k": LIMITS.k,
        "random": LIMITS.checked,
        "subset": LIMITS.reference_examples,
        "iterations": LIMITS.iterations,
        "seed": LIMITS.seed,
    },
}
"""Maximum of each option that has a tighter limit here."""
