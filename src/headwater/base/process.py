"""Settings of the whole process that make Headwater faster: how threads wait, and what happens to freed memory."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress

WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
"""Environment variables of OpenMP: a waiting thread sleeps after a short spin."""
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's mallopt(3)."""
KEPT_BYTES = 1 << 30
"""Freed memory that the process keeps, instead of returning it to the system."""


def configure_process() -> None:
    """Set how this process's threads wait and how it reuses memory. Nothing else in Headwater changes a process.

    Call it before torch is imported: OpenMP reads its variables once, when torch loads it. The command line, the server
    and the workers of a cluster call it. `import headwater` does not.

    1. `OMP_WAIT_POLICY=PASSIVE` and `GOMP_SPINCOUNT=1000`, unless they are set already. By default, waiting threads of
       GNU OpenMP spin, which slows down every other program on the same cores. Training the demo's model on two cores
       takes as long as before alone, and a 25th of the time beside a second such training.
    2. glibc keeps up to 1 GiB of freed memory. By default it maps each large tensor with a system call and unmaps it
       when it is freed, and the system clears the pages again for the next batch. That takes a fifth of the time of a
       sweep and half the time of forming wide gradients (docs/performance.md). `HEADWATER_MALLOC=system` in the
       environment leaves glibc as it is. Other systems and C libraries are never changed.
    """
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)
    if sys.platform == "linux" and os.environ.get("HEADWATER_MALLOC") != "system":
        with suppress(OSError, AttributeError):  # another C library
            library = ctypes.CDLL("libc.so.6")
            library.mallopt(M_MMAP_MAX, 0)
            library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
