"""SHA-256 that can be put aside and gone on with, which no library's can.

A corpus's fingerprint is taken over all its files. With it a catalogue that was interrupted goes on behind the last
finished file without reading the earlier ones again. Follows FIPS 180-4, section 6.2.
"""

from __future__ import annotations

from math import isqrt
from typing import Any

import numpy as np

from headwater.base.compiled import compiled

BLOCK = 64
GATHERED = 1 << 16
"""Bytes that are hashed in one go."""


def _primes(count: int) -> list[int]:
    found: list[int] = []
    number = 2
    while len(found) < count:
        if all(number % prime for prime in found):
            found.append(number)
        number += 1
    return found


def _cube_root(number: int) -> int:
    """Rounded down."""
    root = round(number ** (1 / 3))
    while root**3 > number:
        root -= 1
    while (root + 1) ** 3 <= number:
        root += 1
    return root


INITIAL = np.array([isqrt(p << 64) & 0xFFFFFFFF for p in _primes(8)], dtype=np.uint64)
"""The first 32 bits behind the point of the square roots of the first primes."""
CONSTANTS = np.array([_cube_root(p << 96) & 0xFFFFFFFF for p in _primes(64)], dtype=np.uint64)
"""The same of their cube roots."""


@compiled
def _compress(state: Any, blocks: Any, constants: Any) -> None:
    """Hash whole blocks, [n, 64] bytes, into `state` [8]."""
    mask = np.uint64(0xFFFFFFFF)
    words = np.empty(64, dtype=np.uint64)
    for n in range(blocks.shape[0]):
        for t in range(16):
            word = np.uint64(0)
            for k in range(4):
                word = (word << np.uint64(8)) | np.uint64(blocks[n, 4 * t + k])
            words[t] = word
        for t in range(16, 64):
            x, y = words[t - 15], words[t - 2]
            twice = x | (x << np.uint64(32))  # so that a shift of 64 bits rotates 32
            low = ((twice >> np.uint64(7)) ^ (twice >> np.uint64(18)) ^ (x >> np.uint64(3))) & mask
            twice = y | (y << np.uint64(32))
            high = ((twice >> np.uint64(17)) ^ (twice >> np.uint64(19)) ^ (y >> np.uint64(10))) & mask
            words[t] = (words[t - 16] + low + words[t - 7] + high) & mask
        a, b, c, d, e, f, g, h = state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7]
        for t in range(64):
            twice = e | (e << np.uint64(32))
            mixed = ((twice >> np.uint64(6)) ^ (twice >> np.uint64(11)) ^ (twice >> np.uint64(25))) & mask
            one = h + mixed + ((e & f) ^ ((e ^ mask) & g)) + constants[t] + words[t]
            twice = a | (a << np.uint64(32))
            mixed = ((twice >> np.uint64(2)) ^ (twice >> np.uint64(13)) ^ (twice >> np.uint64(22))) & mask
            two = mixed + ((a & b) ^ (a & c) ^ (b & c))
            h, g, f, e, d, c, b, a = g, f, e, (d + one) & mask, c, b, a, (one + two) & mask
        for k, value in enumerate((a, b, c, d, e, f, g, h)):
            state[k] = (state[k] + value) & mask


class RunningHash:
    """SHA-256 of all that it was given, whose state can be written down."""

    def __init__(self, state: str = "") -> None:
        """`state` is that of an earlier one; empty: nothing was given yet."""
        numbers, _, rest = state.partition(" ")
        length, _, waiting = rest.partition(" ")
        words = [int(numbers[k : k + 8], 16) for k in range(0, len(numbers), 8)]
        self._state = np.array(words, dtype=np.uint64) if words else INITIAL.copy()
        self._length = int(length or 0)
        self._waiting = bytearray.fromhex(waiting)

    def update(self, data: bytes) -> None:
        self._waiting += data
        self._length += len(data)
        if len(self._waiting) >= GATHERED:
            self._settle()

    def _settle(self) -> None:
        """Hash all whole blocks that wait."""
        whole = len(self._waiting) // BLOCK * BLOCK
        blocks = np.frombuffer(bytes(self._waiting[:whole]), dtype=np.uint8).reshape(-1, BLOCK)
        _compress(self._state, blocks, CONSTANTS)
        del self._waiting[:whole]

    @property
    def state(self) -> str:
        """What another one goes on from."""
        self._settle()
        return f"{''.join(f'{word:08x}' for word in self._state.tolist())} {self._length} {self._waiting.hex()}"

    def hexdigest(self) -> str:
        ended = RunningHash(self.state)
        padding = b"\x80" + bytes(-(self._length + 9) % BLOCK) + (8 * self._length).to_bytes(8, "big")
        ended._waiting += padding
        ended._settle()
        return "".join(f"{word:08x}" for word in ended._state.tolist())
