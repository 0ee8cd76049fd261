"""Texts given after a run was made: read and cut as its corpus was, scored, added or removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headwater.base.lock import exclusive
from headwater.corpus.changes import add_examples, remove_examples
from headwater.corpus.chat import renderer
from headwater.corpus.chat_formats import Messages
from headwater.corpus.corpus import Corpus
from headwater.corpus.objects import CorpusSource, described
from headwater.corpus.options import ReadOptions
from headwater.corpus.piped import is_piped
from headwater.corpus.read import Record, read_records
from headwater.corpus.store import Example, examples_of_records
from headwater.corpus.tokenize import tokenize
from headwater.errors import HeadwaterError
from headwater.lm.load import LanguageModel
from headwater.runs.manifest import CorpusEntry


def read_options(entry: CorpusEntry) -> ReadOptions:
    """The options that the corpus of a run was read with."""
    return ReadOptions(**entry.options)


Texts = str | Path | Sequence[str] | Sequence[Mapping[str, Any]] | Sequence[Messages]
"""A file of texts, or a list of texts, of records, or of conversations."""


def records_of(lm: LanguageModel, entry: CorpusEntry, texts: CorpusSource) -> Iterator[Record]:
    """All records of a file or list, read as the corpus was. Raises CorpusError for a bad one.

    Records of another layout are read too, such as conversations in other columns than those of the corpus.
    """
    options = replace(read_options(entry), limit=None, skip_bad=False, stream=False)
    if not isinstance(texts, str | Path) or is_piped(texts) or Path(texts).is_file():
        options = replace(options, split=ReadOptions.split)  # a file has no splits
    return read_records(texts, options, render=renderer(lm.tokenizer), any_layout=True)


def examples_of(lm: LanguageModel, entry: CorpusEntry, texts: Texts) -> tuple[list[Example], str]:
    """The texts of a file, or a list of texts or conversations, as examples; and their name in an answer.

    Raises HeadwaterError if a text has no token with loss, or there is no such file.
    """
    if isinstance(texts, str | Path):
        if not is_piped(texts) and "://" not in str(texts) and not Path(texts).expanduser().exists():
            raise HeadwaterError(
                f"There is no file {str(texts)[:100]!r}. Give the path of a file of texts, or a list of texts: "
                'ask_against(question, ["…"]).'
            )
        records, name = records_of(lm, entry, texts), f"texts of {described(texts)}"
    elif not all(isinstance(text, str) for text in texts):
        records, name = records_of(lm, entry, texts), "texts given with the question"
    else:
        plain = [str(text) for text in texts]
        for text, tokenized in zip(plain, tokenize(lm.tokenizer, plain), strict=True):
            if len(tokenized.input_ids) < 2:
                raise HeadwaterError(f"The text {text!r} has fewer than two tokens. Give a longer one.")
        named = enumerate(plain, start=1)
        records = (Record(id=f"text {n}", text=text, source="given", metadata={}) for n, text in named)
        name = "texts given with the question"
    made = examples_of_records(
        records, lm.tokenizer, entry.max_tokens, long_texts=entry.long_texts, one_bos=entry.one_bos
    )
    return made, name


def one_example(
    lm: LanguageModel, entry: CorpusEntry, corpus: Corpus, *, id: str | None = None, text: str | None = None
) -> Example:
    """The training example with that id, or a text as an example. Raises HeadwaterError for an unknown id."""
    if (id is None) == (text is None):
        raise HeadwaterError("Give either the id of a training example or a text, not both or neither.")
    if text is not None:
        (example,), _ = examples_of(lm, entry, [text])
        return example
    if id not in corpus.position:
        raise HeadwaterError(f"No example of this run has the id {id!r}.")
    return corpus[corpus.position[id]]


def add(folder: Path, corpus: Corpus, lm: LanguageModel, *, entry: CorpusEntry, texts: str | Path) -> Corpus:
    """Append the examples of a file to the corpus of the run in `folder`. Returns the new corpus."""
    records = records_of(lm, entry, texts)
    with exclusive(folder):
        return add_examples(
            corpus,
            records,
            lm.tokenizer,
            max_tokens=entry.max_tokens,
            long_texts=entry.long_texts,
            one_bos=entry.one_bos,
        )


def remove(folder: Path, corpus: Corpus, ids: Sequence[str]) -> Corpus:
    """Remove the examples with these ids from the corpus of the run in `folder`. Returns the new corpus."""
    with exclusive(folder):
        return remove_examples(corpus, ids)
