"""Compiled loops without the GIL, on as many threads as PyTorch uses."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from numba import njit

compiled = njit(nogil=True, fastmath=True, cache=True)
"""Decorator that compiles a function of numbers and arrays at its first call, and caches it on disk."""
inlined = njit(forceinline=True, fastmath=True)
"""Decorator for a function that compiled functions call. It is inlined into them.

Such a function must not be `compiled` itself: compiled functions that call each other are linked again when they are
loaded from disk, and may then round differently.
"""


def in_parallel(work: Callable[[int, int], object], count: int, step: int = 1024) -> None:
    """Call `work(start, stop)` on slices of `range(count)`, on as many threads as torch uses."""
    threads = torch.get_num_threads()
    step = max(1, min(step, -(-count // threads)))
    spans = [(start, min(start + step, count)) for start in range(0, count, step)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda span: work(*span), spans))
