"""Add examples to the corpus of a run, and remove them. Each is one step, which a kill cannot leave half done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from headwater.corpus.corpus import Corpus
from headwater.corpus.lines import read_lines
from headwater.corpus.options import LongTexts
from headwater.corpus.read import Record
from headwater.corpus.store import Segment, same_examples, write_corpus
from headwater.errors import CorpusError


def add_examples(
    corpus: Corpus,
    records: Iterable[Record],
    tokenizer: Any,
    *,
    max_tokens: int,
    long_texts: LongTexts,
    one_bos: bool = True,
) -> Corpus:
    """The corpus with `records` appended as a new segment.

    If the same records were added before, in the same order, they are not added twice; those that were removed since
    are restored. Raises CorpusError if an id is in the corpus already.
    """
    path = corpus.next_segment()
    waiting = path.with_suffix(".new")
    try:
        write_corpus(waiting, records, tokenizer, max_tokens=max_tokens, long_texts=long_texts, one_bos=one_bos)
        added = Segment(waiting)
        for segment, (first, stop) in zip(corpus.added, corpus.key_ranges[1:], strict=True):
            if same_examples(segment, added):
                corpus.write_removed(set(corpus.removed) - set(range(first, stop)))
                return corpus.reopened()
        for id in added.ids:
            if id in corpus.position:
                raise CorpusError(
                    f"The example {id!r} is in the corpus already. Give the new examples other ids (--id-field), or "
                    "remove the old ones first: headwater index RUN --remove ids.txt"
                )
        waiting.rename(path)
    finally:
        waiting.unlink(missing_ok=True)
    return corpus.reopened()


def remove_examples(corpus: Corpus, ids: Sequence[str]) -> Corpus:
    """The corpus without the examples `ids`. Ids that were removed before are accepted.

    Raises CorpusError for an id that was never in the corpus, and if no example would be left.
    """
    all_ids = corpus.ids_by_key
    gone = {all_ids[key] for key in corpus.removed}
    unknown = [id for id in ids if id not in corpus.position and id not in gone]
    if unknown:
        raise CorpusError(
            f"{len(unknown):,} of the ids to remove are not in the corpus. The first is {unknown[0]!r}. Nothing was "
            "removed."
        )
    keys = {int(corpus.keys[corpus.position[id]]) for id in ids if id in corpus.position}
    if len(keys) == len(corpus):
        raise CorpusError("That would remove every example of the corpus. Nothing was removed.")
    corpus.write_removed(set(corpus.removed) | keys)
    return corpus.reopened()


def read_ids(path: Path) -> list[str]:
    """The ids in a text file with one id on each line. Raises CorpusError if it has none, or cannot be read."""
    ids = [line for line in read_lines(path, "the ids") if line.strip()]
    if not ids:
        raise CorpusError(f"{path} contains no id. Write one id on each line.")
    return ids
