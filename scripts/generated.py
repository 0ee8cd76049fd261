"""Write a generated document, or check that it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def keep(name: str, wanted: str, arguments: list[str]) -> int:
    """Write docs/`name`; with --check only compare. Returns the exit status, 1 if the file is out of date."""
    path = DOCS / name
    if arguments == ["--check"]:
        current = path.read_text(encoding="utf-8") if path.exists() else ""
        if current != wanted:
            print(f"{path} is out of date. Update it with: make docs-generated", file=sys.stderr)
        return int(current != wanted)
    path.write_text(wanted, encoding="utf-8")
    print(f"Wrote {path}")
    return 0
