"""Sizes in bytes: parsed from text, written for people, and measured on disk."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pydantic import ByteSize, TypeAdapter

from headwater.errors import HeadwaterError

_SIZE = TypeAdapter(ByteSize)
_WRITTEN = re.compile(r"\s*[0-9]*\.?[0-9]+\s*([kMGT]?B|[KMGT]iB)?\s*")
"""What is accepted as a size. ByteSize alone takes "1,000" for 1 byte, and "8Gbit" for a gigabyte."""


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder. A missing path, and files deleted meanwhile, count as 0."""
    if path.is_file():
        return path.stat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += (Path(folder) / name).lstat().st_size
            except OSError:
                continue
    return total


def in_bytes(size: int) -> str:
    """A size with the largest decimal unit that fits, to three digits: "1.5 GB"."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}" if size < 100 * scale else f"{size / scale:,.0f} {unit}"
    return f"{size} B"


def parse_bytes(text: str) -> int:
    """The number of bytes that "16GiB", "800 MB" or "1000000" stands for. Raises HeadwaterError for other texts."""
    if not _WRITTEN.fullmatch(text):
        raise HeadwaterError(f"{text!r} is no number of bytes. Write it as 16GiB, 800MB or 1000000.")
    return int(_SIZE.validate_python(text))
