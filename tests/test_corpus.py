"""A corpus keeps every text whole, every token's place in it, and a fingerprint of both."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.corpus import store
from headwater.corpus.corpus import Corpus
from headwater.corpus.fingerprint import CHAINED, ChainedFingerprint, PlainFingerprint, fingerprint_like
from headwater.corpus.options import LongTexts
from headwater.corpus.read import Record
from headwater.corpus.store import (
    Segment,
    examples_of_records,
    fingerprint_records,
    recounted,
    same_examples,
    write_corpus,
)
from headwater.corpus.tokenize import fit_windows, tokenize
from headwater.errors import CorpusError
from tests.models import TEXT, tiny_tokenizer

texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=80)


def records(*values: str) -> list[Record]:
    return [
        Record(id=f"r{k}", text=text, source=f"t.jsonl:{k + 1}", metadata={"n": k}) for k, text in enumerate(values)
    ]


@given(text=texts)
@settings(max_examples=200)
def test_token_texts_join_to_the_text(text: str) -> None:
    (tokenized,) = tokenize(tiny_tokenizer(), [text])
    assert "".join(tokenized.pieces(text)) == text


@given(text=texts, limit=st.integers(2, 20))
def test_windows_cover_the_text_once_and_a_truncated_one_its_beginning(text: str, limit: int) -> None:
    (tokenized,) = tokenize(tiny_tokenizer(), [text])
    windows = list(fit_windows(text, tokenized, limit, long_texts="split"))
    ids = [id for _, window in windows for id in window.input_ids]
    left_out = len(tokenized.input_ids) - len(ids)
    assert left_out in (0, 1)  # a last window of one token carries no loss
    assert ids == tokenized.input_ids[: len(ids)]
    assert text.startswith("".join(piece for piece, _ in windows))
    for piece, window in windows:
        assert len(window.input_ids) <= limit
        assert "".join(window.pieces(piece)) == piece
    first = list(fit_windows(text, tokenized, limit, long_texts="truncate"))
    assert first == windows[:1]


def test_a_corpus_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    counts = write_corpus(tmp_path / "c.arrow", records(*TEXT, "x"), tiny_tokenizer(), max_tokens=64)
    corpus = Corpus(tmp_path / "c.arrow")
    assert [example.text for example in corpus.read(range(4))] == TEXT
    assert corpus[2].source == "t.jsonl:3"
    assert corpus[2].metadata == {"n": 2}
    assert corpus.counts == counts
    assert (counts.records, counts.examples, counts.too_short) == (5, 4, 1)
    assert corpus.position == {f"r{k}": k for k in range(4)}


def test_a_missing_number_of_a_data_frame_is_none(tmp_path: Path) -> None:
    record = Record(id="a", text=TEXT[0], source="t.parquet:1", metadata={"year": float("nan"), "by": "Lily"})
    write_corpus(tmp_path / "c.arrow", [record], tiny_tokenizer(), max_tokens=64)
    assert Corpus(tmp_path / "c.arrow")[0].metadata == {"year": None, "by": "Lily"}


def test_long_texts_are_counted_and_windows_named(tmp_path: Path) -> None:
    counts = write_corpus(tmp_path / "c.arrow", records(*TEXT), tiny_tokenizer(), max_tokens=20, long_texts="split")
    corpus = Corpus(tmp_path / "c.arrow")
    assert counts.long == 4
    assert corpus.ids[:2] == ["r0#0", "r0#1"]
    assert max(len(s.input_ids) for s in corpus.sequences()[0 : len(corpus)]) <= 20


def test_the_fingerprint_follows_ids_tokens_and_order(tmp_path: Path) -> None:
    def fingerprint(given: list[Record], limit: int = 64) -> str:
        return write_corpus(tmp_path / "c.arrow", given, tiny_tokenizer(), max_tokens=limit).fingerprint

    base = records(*TEXT)
    assert fingerprint(base) == fingerprint(base)
    changed = [base[::-1], base[:3], [Record(id="other", text=TEXT[0], source="", metadata={}), *base[1:]]]
    assert len({fingerprint(base), *map(fingerprint, changed), fingerprint(base, 10)}) == 5


def test_a_corpus_with_nothing_to_predict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="shorter than two tokens"):
        write_corpus(tmp_path / "c.arrow", records("x", "y"), tiny_tokenizer(), max_tokens=64)
    assert not list(tmp_path.iterdir())


def test_a_window_never_takes_the_id_of_another_example(tmp_path: Path) -> None:
    long, short = records(TEXT[0] * 9, TEXT[1][:9])
    with pytest.raises(CorpusError, match=r"t\.jsonl:2: the id 'r0#1' is used twice"):
        write_corpus(
            tmp_path / "c.arrow", [long, replace(short, id="r0#1")], tiny_tokenizer(), max_tokens=20, long_texts="split"
        )
    assert not list(tmp_path.iterdir())


def test_records_are_counted_and_fingerprinted_without_writing(tmp_path: Path) -> None:
    given = [*records(*TEXT, "x"), replace(records("told")[0], id="q", text="Tom said hello.", learned=((4, 15),))]
    ways: list[tuple[int, LongTexts]] = [(64, "truncate"), (10, "truncate"), (10, "split")]
    for limit, long_texts in ways:
        path = tmp_path / f"{limit}{long_texts}.arrow"
        counts = write_corpus(path, given, tiny_tokenizer(), max_tokens=limit, long_texts=long_texts)
        assert fingerprint_records(given, tiny_tokenizer(), limit, long_texts=long_texts) == counts
        made = examples_of_records(given, tiny_tokenizer(), limit, long_texts=long_texts)
        assert made == list(Segment(path).read(range(counts.examples)))
        assert recounted(Segment(path)) == (counts.fingerprint, counts.checksum)
    with pytest.raises(CorpusError, match="shorter than two tokens"):
        fingerprint_records(records("x", "y"), tiny_tokenizer(), 64)


@given(parts=st.lists(st.binary(max_size=200), max_size=8), cut=st.integers(0, 8))
def test_a_chain_continues_from_its_state(parts: list[bytes], cut: int) -> None:
    whole, first = ChainedFingerprint(), ChainedFingerprint()
    for part in parts:
        whole.add(part)
    for part in parts[:cut]:
        first.add(part)
    second = ChainedFingerprint(first.state)
    for part in parts[cut:]:
        second.add(part)
    assert (second.state, second.value) == (whole.state, whole.value)


@given(parts=st.lists(st.binary(min_size=1, max_size=5), min_size=2, max_size=5))
def test_a_chain_knows_where_examples_end(parts: list[bytes]) -> None:
    apart, joined = ChainedFingerprint(), ChainedFingerprint()
    for part in parts:
        apart.add(part)
    joined.add(b"".join(parts))
    assert apart.value != joined.value


def test_a_fingerprint_of_an_earlier_version_is_the_plain_hash_of_all_examples(tmp_path: Path) -> None:
    given = records(*TEXT)
    identities = b"".join(
        f"r{k}".encode() + b"\0" + np.array(ids, dtype=np.int32).tobytes() + b"\0"
        for k, ids in enumerate(tiny_tokenizer()(TEXT)["input_ids"])
    )
    old = hashlib.sha256(identities).hexdigest()[:16]
    assert fingerprint_records(given, tiny_tokenizer(), 64, like=old).fingerprint == old
    assert isinstance(fingerprint_like(old), PlainFingerprint)
    write_corpus(tmp_path / "new.arrow", given, tiny_tokenizer(), max_tokens=64)
    new = Segment(tmp_path / "new.arrow")
    assert new.counts.fingerprint != old
    assert recounted(new, like=old)[0] == old


def test_segments_of_two_versions_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def segment(name: str, *texts: str) -> Segment:
        write_corpus(tmp_path / name, records(*texts), tiny_tokenizer(), max_tokens=64)
        return Segment(tmp_path / name)

    with monkeypatch.context() as earlier:
        earlier.setattr(store, "fingerprint_like", lambda _: PlainFingerprint())
        old = segment("old.arrow", *TEXT)
    assert not old.counts.fingerprint.startswith(CHAINED)
    assert same_examples(old, segment("same.arrow", *TEXT))
    assert not same_examples(old, segment("other.arrow", *TEXT[:3]))
