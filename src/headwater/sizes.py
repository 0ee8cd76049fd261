"""How much room files take."""

from __future__ import annotations

import os
from pathlib import Path


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
