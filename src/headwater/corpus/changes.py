"""Adding examples to a run's corpus and taking them out, each in one step that a kill cannot halve."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from headwater.corpus.corpus import Corpus
from headwater.corpus.options import LongTexts
from headwater.corpus.read import Record
from headwater.corpus.store import Segment, same_examples, write_corpus
from headwater.errors import CorpusError


def add_examples(
    corpus: Corpus, records: Iterable[Record], tokenizer: Any, *, max_tokens: int, long_texts: LongTexts
) -> Corpus:
    """The corpus with `records` appended as a segment of their own.

    Records that were added before, all of them and in this order, are not added twice; of those, any that were taken
    out meanwhile are put back. Raises CorpusError where an id is in the corpus already.
    """
    path = corpus.next_segment()
    waiting = path.with_suffix(".new")
    try:
        write_corpus(waiting, records, tokenizer, max_tokens=max_tokens, long_texts=long_texts)
        added = Segment(waiting)
        for segment, (first, stop) in zip(corpus.added, corpus.stretches[1:], strict=True):
            if same_examples(segment, added):
                corpus.write_removed(set(corpus.removed) - set(range(first, stop)))
                return corpus.reopened()
        for id in added.ids:
            if id in corpus.position:
                raise CorpusError(
                    f"The example {id!r} is in the corpus already. Give the new ones ids of their own (--id-field), or "
                    "take the old ones out first: headwater index RUN --remove ids.txt"
                )
        waiting.rename(path)
    finally:
        waiting.unlink(missing_ok=True)
    return corpus.reopened()


def remove_examples(corpus: Corpus, ids: Sequence[str]) -> Corpus:
    """The corpus without the examples `ids`; those that were taken out before are no mistake.

    Raises CorpusError for an id that never was there, and where nothing would be left.
    """
    everything = [id for segment in corpus.segments for id in segment.ids]
    gone = {everything[key] for key in corpus.removed}
    unknown = [id for id in ids if id not in corpus.position and id not in gone]
    if unknown:
        raise CorpusError(
            f"{len(unknown):,} of the ids to remove are not in the corpus, the first is {unknown[0]!r}. Nothing was "
            "removed."
        )
    keys = {int(corpus.keys[corpus.position[id]]) for id in ids if id in corpus.position}
    if len(keys) == len(corpus):
        raise CorpusError("That would remove every example of the corpus. Nothing was removed.")
    corpus.write_removed(set(corpus.removed) | keys)
    return corpus.reopened()


def read_ids(path: Path) -> list[str]:
    """The ids of a text file, one a line. Raises CorpusError where there is none, or the file cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"Cannot read the ids in {path}: {error}") from error
    ids = [line.rstrip("\r") for line in lines if line.strip()]
    if not ids:
        raise CorpusError(f"{path} holds no id: give one a line.")
    return ids
