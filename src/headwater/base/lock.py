"""A lock on a folder, for one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from headwater.errors import HeadwaterError

LOCK = ".lock"
"""Name of the file of the lock."""


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder` for the length of a `with`. The system releases it if the process ends.

    Raises HeadwaterError if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise HeadwaterError(
            f"Another process is at work on {folder}. Wait until it ends, or stop it: what it has finished is kept."
        ) from error
    try:
        yield
    finally:
        lock.release()


def abandon(folder: Path) -> None:
    """Delete a folder that is empty except for its lock. Raises OSError if it holds anything else."""
    if [file.name for file in folder.iterdir()] == [LOCK]:
        (folder / LOCK).unlink()
    folder.rmdir()
