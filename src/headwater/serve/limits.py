"""How much one request may ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
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
    """Of conjugate gradients, and of finding a response."""
    checked: int = 100
    """Examples that an answer does not show, to be verified with it; of those shown, `k` at each end."""
    responses: int = 24
    """Examples whose response is found in one verification."""
    reference_examples: int = 4096
    """Examples that are held fast in a response."""
    response_texts: int = 400_000
    """Texts that the responses of a verification may go over at most: examples × held fast × iterations. With the
    demo's model two cores do some 300 a second, and most responses need half of their iterations."""
    new_tokens: int = 256
    """Of a continuation."""
    wait_seconds: float = 30.0
    """That a request may wait for its job to end."""


LIMITS = Limits()
