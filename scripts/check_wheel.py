"""Fail if the wheel or the source distribution lacks a file."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
NEEDED = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "constraints.txt", "Makefile", "docs/index.md")
"""Required files of the source distribution, besides the package and its tests."""


def files(folder: str) -> set[str]:
    """Files of a folder relative to the root, without caches."""
    found = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in found}


def lacking(dist: Path) -> list[str]:
    """A line for each missing file."""
    (wheel,), (source,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as packed:
        held = {f"src/{name}" for name in packed.namelist()}
    found = [f"{wheel.name} lacks {name}" for name in sorted(files("src/headwater") - held)]
    with tarfile.open(source) as packed:
        held = {name.partition("/")[2] for name in packed.getnames()}
    wanted = files("src/headwater") | files("tests") | set(NEEDED)
    return found + [f"{source.name} lacks {name}" for name in sorted(wanted - held)]


if __name__ == "__main__":
    sys.exit("\n".join(lacking(Path(sys.argv[1]))) or 0)
