"""How much room files take."""

from __future__ import annotations

import os
import re
from pathlib import Path

from headwater.errors import HeadwaterError

UNITS = (
    {"": 1}
    | {f"{p}B": 1000**k for k, p in enumerate("kMGT", start=1)}
    | {f"{p}iB": 1024**k for k, p in enumerate("KMGT", start=1)}
)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; 0 where there is nothing. Files that vanish meanwhile are 0."""
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
    """Bytes as a person would say them."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}" if size < 100 * scale else f"{size / scale:,.0f} {unit}"
    return f"{size} B"


def parse_bytes(text: str) -> int:
    """The bytes that "16GiB", "800 MB" or "1000000" stand for. Raises HeadwaterError for anything else."""
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kKMGT]?i?B?)\s*", text)
    scale = UNITS.get(found[2]) if found else None
    if found is None or scale is None:
        raise HeadwaterError(f"{text!r} is no number of bytes. Write it as 16GiB, 800MB or 1000000.")
    return int(float(found[1]) * scale)
