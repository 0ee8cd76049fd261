"""Run the notebooks of docs/guides, or only those named, and store their outputs in them.

python scripts/write_notebooks.py [chat poison …]
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from notebooks import execute, kernel, notebooks


def main(names: list[str]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name).resolve()
        with kernel(folder) as manager:
            for path in notebooks():
                if not names or path.stem in names:
                    nbformat.write(execute(path, manager, folder), path)
                    print(f"Wrote {path}")


if __name__ == "__main__":
    main(sys.argv[1:])
