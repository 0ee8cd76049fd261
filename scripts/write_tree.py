"""Write docs/tree.md, one line per source file; with --check, exit 1 if the file is out of date."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

from generated import keep

SOURCE = Path(__file__).parents[1] / "src" / "headwater"
HEAD = """# Source tree

Made from the first sentence of each module. What a package is for, and how they work together, is in
[Design](design.md).

"""


def tree(folder: Path, depth: int = 0) -> list[str]:
    """One line per file below `folder`: files first, then folders, by name."""
    sentences = {file.name: first_sentence(file) for file in sorted(folder.glob("*.py"))}
    lines = [f"{'    ' * depth}- `{name}` {sentence}" for name, sentence in sentences.items() if sentence]
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and any(path.glob("*.py"))):
        lines += [f"{'    ' * depth}- **{inner.name}/**", *tree(inner, depth + 1)]
    return lines


def first_sentence(file: Path) -> str:
    """First sentence of the module's docstring on one line, without its full stop. Empty if there is none."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    sentence = re.split(r"(?<=\.)\s|\n\n", docstring, maxsplit=1)[0]
    return " ".join(sentence.split()).removesuffix(".")


if __name__ == "__main__":
    sys.exit(keep("tree.md", HEAD + "\n".join(tree(SOURCE)) + "\n", sys.argv[1:]))
