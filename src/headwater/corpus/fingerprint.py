"""Fingerprints of a corpus: SHA-256 over the id, the tokens and the loss mask of every example, in order.

A fingerprint is a chain. The digest of an example covers the digest of the example before it, so the whole state is one
digest. A catalogue stores it, and cataloguing that was interrupted continues after the last finished file without
reading the earlier files again.

Runs made by earlier versions have plain fingerprints: one SHA-256 over all examples, joined. Such a run keeps its
fingerprint, and a corpus is compared with it by the same plain hash.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

CHAINED = "chain-"
"""Prefix of a chained fingerprint. A plain one has no prefix."""
DIGITS = 16
"""Hexadecimal digits of a digest that a fingerprint shows."""
START = "00" * 32
"""State of a chain without examples."""


class Fingerprint(Protocol):
    """The fingerprint of the examples added so far."""

    def add(self, identity: bytes) -> None: ...

    @property
    def state(self) -> str | None:
        """What `ChainedFingerprint` continues from; None if this kind cannot be continued."""
        ...

    @property
    def value(self) -> str: ...


class ChainedFingerprint:
    """A chain of SHA-256 digests, one for each example."""

    def __init__(self, state: str = START) -> None:
        self._digest = bytes.fromhex(state)

    def add(self, identity: bytes) -> None:
        self._digest = hashlib.sha256(self._digest + identity).digest()

    @property
    def state(self) -> str:
        return self._digest.hex()

    @property
    def value(self) -> str:
        return CHAINED + self.state[:DIGITS]


class PlainFingerprint:
    """One SHA-256 over all examples, as earlier versions computed it. Its state cannot be stored."""

    state = None

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, identity: bytes) -> None:
        self._hash.update(identity)

    @property
    def value(self) -> str:
        return self._hash.hexdigest()[:DIGITS]


def fingerprint_like(known: str | None) -> Fingerprint:
    """A fingerprint without examples, of the same kind as `known`. None: of the kind that new corpora get."""
    return ChainedFingerprint() if known is None or known.startswith(CHAINED) else PlainFingerprint()


def same_kind(one: str, other: str) -> bool:
    """Whether two fingerprints were computed the same way, so that they can be compared."""
    return one.startswith(CHAINED) == other.startswith(CHAINED)
