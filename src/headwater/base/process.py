"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
KEPT_BYTES = 1 << 30
"""So much freed memory stays with the process."""


def keep_freed_memory() -> None:
    """Let glibc keep up to a gigabyte of freed memory, instead of returning it and asking for it again every batch.

    It maps every large tensor anew and unmaps it when it is freed, so that each is cleared page by page by the system:
    a fifth of the time of a sweep, and half of forming wide gradients (docs/performance.md). Other systems and C
    libraries are left alone, and so is a process with HEADWATER_MALLOC=system in its environment.
    """
    if sys.platform != "linux" or os.environ.get("HEADWATER_MALLOC") == "system":
        return
    with suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
