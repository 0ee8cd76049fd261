"""One process at a time works on a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from headwater.errors import HeadwaterError

LOCK = ".lock"


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Work on `folder` while no other process does; the lock is the system's, and ends with the process.

    Raises HeadwaterError where another process is at work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise HeadwaterError(
            f"Another process is at work on {folder}. Wait until it has ended, or stop it; what it has finished is "
            "kept."
        ) from error
    try:
        yield
    finally:
        lock.release()


def abandon(folder: Path) -> None:
    """Delete a folder that holds nothing but its lock. Raises OSError where there is more in it."""
    if [file.name for file in folder.iterdir()] == [LOCK]:
        (folder / LOCK).unlink()
    folder.rmdir()
