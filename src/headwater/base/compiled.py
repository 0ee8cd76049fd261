"""Compiled loops that release the GIL, on as many threads as PyTorch uses."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from numba import njit

compiled = njit(nogil=True, fastmath=True, cache=True)
"""Compiles a function of numbers and arrays at its first call, and keeps it on disk."""
inlined = njit(forceinline=True, fastmath=True)
"""A part of compiled functions, which becomes theirs.

Never `compiled`: two that call each other are linked anew when they come from disk, and may be rounded otherwise than
where they were compiled.
"""


def in_parallel(work: Callable[[int, int], object], count: int, step: int = 1024) -> None:
    """Call `work(start, stop)` on slices of `range(count)`, one thread for each that torch uses."""
    threads = torch.get_num_threads()
    step = max(1, min(step, -(-count // threads)))
    spans = [(start, min(start + step, count)) for start in range(0, count, step)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda span: work(*span), spans))
