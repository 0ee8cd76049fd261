"""Which files of a folder belong to a split, by the naming conventions of the hub (those of the datasets library).

The first of these rules that fits some file decides:

1. `data/<split>-00000-of-00002.parquet`, with any name of a split;
2. a folder named by the split: `train/…`, `my-validation/…`;
3. a file named by the split: `train.jsonl`, `stories_test.parquet`.

In rules 2 and 3, the name stands alone between separators (`-`, `.`, `_`, space, a digit), and some words mean the same
(`WORDS`). Case is ignored. If no rule fits, the folder has no splits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from headwater.base.shown import counted
from headwater.errors import CorpusError

WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""The words in names of files and folders that stand for each split."""
ALL = "all"
"""The name of all files together, those without a split too."""
NAMED = 3
"""Files that a message names. The others are only counted."""
_SHARD = re.compile(r"data/(\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*\.[^/]*", re.ASCII)
_WORD = {
    split: re.compile(rf"(?:^|[-._ 0-9])(?:{'|'.join(words)})(?=[-._ 0-9]|$)", re.IGNORECASE)
    for split, words in WORDS.items()
}


@dataclass(frozen=True)
class Chosen:
    """The files of a folder that are read."""

    names: tuple[str, ...]
    note: str = ""
    """Which files these are and which are left out, in one line. Empty if none is left out."""


def choose(names: Sequence[str], split: str, folder: str) -> Chosen:
    """The files of `split` among `names`, paths below a folder, in the same order.

    `split` may join several with +; "all" means every file. A folder whose names tell of no split is read whole as
    train. Raises CorpusError, which lists the splits of the folder, if it lacks this one.
    """
    splits = splits_of(names)
    if split == ALL or (split == "train" and not splits):
        return Chosen(tuple(names))
    wanted = [_same(each.strip()) for each in split.split("+")]
    if lacking := [each for each in wanted if each not in splits]:
        raise CorpusError(_absent(lacking[0], splits, names, folder=folder))
    kept = {name for each in wanted for name in splits[each]}
    if len(kept) == len(names):
        return Chosen(tuple(names))
    chosen = tuple(name for name in names if name in kept)
    rest = [each for each in splits if each not in wanted]
    left = [f"{each} ({counted(len(set(splits[each]) - kept), 'file')})" for each in rest if set(splits[each]) - kept]
    if without := len(set(names) - {name for files in splits.values() for name in files}):
        left.append(f"{counted(without, 'file')} without a split")
    shown = ", ".join([*chosen[:NAMED], *(["…"] if len(chosen) > NAMED else [])])
    note = (
        f"Split {'+'.join(wanted)} of {PurePosixPath(folder).name}: {len(chosen):,} of "
        f"{counted(len(names), 'file')} ({shown}). "
        f"Left out: {', '.join(left)}. --split all reads every file."
    )
    return Chosen(chosen, note)


def splits_of(names: Sequence[str]) -> dict[str, list[str]]:
    """The files of each split. A file may belong to several, as on the hub. Empty if no name tells of a split."""
    sharded: dict[str, list[str]] = {}
    for name in names:
        if found := _SHARD.fullmatch(name):
            sharded.setdefault(_same(found[1]), []).append(name)
    if sharded:
        return sharded
    by_folder = _matching({name: PurePosixPath(name).parent.parts for name in names})
    return by_folder or _matching({name: (PurePosixPath(name).name,) for name in names})


def _matching(parts: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """The names, of which any of the given `parts` holds a word of a split."""
    found = {
        split: [name for name, each in parts.items() if any(word.search(part) for part in each)]
        for split, word in _WORD.items()
    }
    return {split: names for split, names in found.items() if names}


def _same(split: str) -> str:
    """The split that a name stands for."""
    return next((one for one, words in WORDS.items() if split.lower() in words), split)


def _absent(split: str, splits: dict[str, list[str]], names: Sequence[str], *, folder: str) -> str:
    if not splits:
        return (
            f"{folder} has no split {split!r}: no name of its {counted(len(names), 'file')} tells of a split. Leave "
            "--split out to read all of it, or give the path of the files."
        )
    there = [f"{each} ({counted(len(files), 'file')})" for each, files in splits.items()]
    return (
        f"{folder} has no files for the split {split!r}. It has {', '.join(there)}. Choose with --split, read every "
        "file with --split all, or give the path of the files."
    )
