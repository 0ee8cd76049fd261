"""Check source and documentation for words of a list, and measure how easy the documentation is to read.

`--check` fails if a word of the list is found. `--measure` prints the mean sentence length and the Flesch reading ease
(206.835 − 1.015 words per sentence − 84.6 syllables per word; Flesch 1948) of each page and of all pages. Tables, code,
headings and link targets are left out. Syllables come from the hyphenation dictionary of pyphen.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PRIVATE = (
    r"anew",
    r"foretells?|foretold|foretelling",
    r"mends?|mended|mending",
    r"so many",
    r"held fast|hold fast|holds fast",
    r"put away",
    r"told by",
    r"as (?:it|he|she|they) sees? fit",
    r"call(?:s|ed)? the roll",
    r"stillborn",
    r"chances are",
    r"at a time as",
    r"(?<=\. )Of which|^Of which",
    r"the other way about",
    r"whosever",
)
"""Private vocabulary of the first build (docs/design.md, "Words")."""
NAMES = (
    r"EvalScene",
    r"AttributionScene",
    r"\bSought\b",
    r"laid_out",
    r"\b_knock\b",
    r"call_the_roll",
    r"\bHERE\b",
    r"lm\.precise\b",
)
"""Names that were renamed."""
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/*.md")
GENERATED = ("docs/cli.md", "docs/api.md", "docs/options.md", "docs/tree.md")
CHECKED = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs", "src", "deploy", "examples", "scripts")
SUFFIXES = (".md", ".py", ".js", ".html", ".ipynb", ".sh", ".css")
EXEMPT = ("scripts/check_prose.py", "src/headwater/demo/story_templates", "src/headwater/demo/lexicon.py")
"""This list, and the stories, which may use any word."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="Fail if a word of the list is found.")
    parser.add_argument("--measure", action="store_true", help="Print sentence length and reading ease of the pages.")
    parser.add_argument("--root", type=Path, default=ROOT, help="Checkout to read.")
    asked = parser.parse_args()
    if asked.measure:
        measure(asked.root)
    if asked.check or not asked.measure:
        found = list(private_words(asked.root))
        for line in found:
            print(line)
        if found:
            sys.exit(f"{len(found)} words to rewrite in plain technical English (docs/design.md).")


def private_words(root: Path) -> Iterator[str]:
    """`file:line: word` for each occurrence of a word of the list."""
    words = re.compile(rf"\b(?:{'|'.join(PRIVATE)})\b", re.IGNORECASE | re.MULTILINE)
    names = re.compile("|".join(NAMES))
    for file in _files(root):
        for number, line in enumerate(_text(file).splitlines(), start=1):
            for found in (words.search(line), names.search(line)):
                if found:
                    yield f"{file.relative_to(root)}:{number}: {found[0]}"


def measure(root: Path) -> None:
    """Print words, words per sentence and reading ease of each page, and of all pages together."""
    total: list[str] = []
    pages = [page for pattern in PAGES for page in sorted(root.glob(pattern))]
    for page in pages:
        name = str(page.relative_to(root))
        if name in GENERATED:
            continue
        text = prose(page.read_text(encoding="utf-8"))
        total.append(text)
        _show(name, text)
    _show("all together", "\n\n".join(total))


def _show(name: str, text: str) -> None:
    words, sentences, syllables = counts(text)
    ease = 206.835 - 1.015 * words / sentences - 84.6 * syllables / words
    print(f"{name:<28}{words:>7,} words {words / sentences:>6.1f} a sentence   reading ease {ease:.1f}")


def prose(markdown: str) -> str:
    """The running text of a page."""
    for pattern, instead in (
        (r"```.*?```", ""),
        (r"^\|.*$", ""),
        (r"^#.*$", ""),
        (r"^:::.*$", ""),
        (r"!\[[^\]]*\]\([^)]*\)", ""),
        (r"\[([^\]]*)\]\([^)]*\)", r"\1"),
        (r"`[^`]*`", "x"),
        (r"</?[a-zA-Z][^>\n]*>", ""),
        (r"^\s*(?:[-*]|\d+\.)\s+", "\n"),
        (r"[*_]", ""),
    ):
        markdown = re.sub(pattern, instead, markdown, flags=re.DOTALL if "```" in pattern else re.MULTILINE)
    return markdown


def counts(text: str) -> tuple[int, int, int]:
    """(words, sentences, syllables) of a text. A blank line ends a sentence."""
    from pyphen import Pyphen

    hyphens = Pyphen(lang="en_US", left=1, right=1)
    sentences = [part for part in re.split(r"(?<=[.!?])\s+|\n\s*\n", text) if re.search(r"[A-Za-z]", part)]
    words = [word for part in sentences for word in re.findall(r"[A-Za-z][A-Za-z'’-]*", part)]
    syllables = sum(len(hyphens.positions(word)) + 1 for word in words)
    return max(1, len(words)), max(1, len(sentences)), max(1, syllables)


def _files(root: Path) -> Iterator[Path]:
    named = subprocess.run(
        ["git", "ls-files", "--", *CHECKED], cwd=root, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for name in named:
        file = root / name
        if file.suffix in SUFFIXES and not name.startswith(EXEMPT) and file.exists():
            yield file


def _text(file: Path) -> str:
    """The text of a file, or the cells of a notebook without outputs."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".ipynb":
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])


if __name__ == "__main__":
    main()
