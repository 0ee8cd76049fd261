"""How much one request may ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    body_bytes: int = 1 << 20
    k: int = 50
    """Examples at each end of an answer."""
    candidates: int = 100_000
    texts: int = 8
    """Texts of the caller's own that are scored in place of the corpus."""
    text_characters: int = 100_000
    """Of each of them."""
    condition_characters: int = 2_000
    """Of a condition or of words to look for."""
    layers: int = 256
    """Globs of layer names."""
    iterations: int = 100
    """Of conjugate gradients."""
    new_tokens: int = 256
    """Of a continuation."""
    wait_seconds: float = 30.0
    """That a request may wait for its job to end."""


LIMITS = Limits()
