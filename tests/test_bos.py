"""The BOS token that a tokenizer adds: every example has it exactly once, a window of a long text too."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from headwater.attribution.options import Sampling
from headwater.corpus.options import CorpusOptions, LongTexts, ReadOptions
from headwater.corpus.read import Record
from headwater.corpus.store import examples_of_records, write_corpus
from headwater.corpus.tokenize import added_bos, fit_windows, tokenize
from headwater.lm.load import LanguageModel, wrap_model
from headwater.runs import asking, later_texts
from headwater.runs.info import describe_run
from headwater.runs.run import Run
from tests.models import TEXT, plain_model, tiny_tokenizer
from tests.test_read import write

BOS = "<|endoftext|>"


def adding_tokenizer() -> Any:
    """The tokenizer of the tests, which begins every text with BOS as Llama's and Gemma's do."""
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.bos_token_id)]
    )
    return tokenizer


ADDING = adding_tokenizer()
ID: int = ADDING.bos_token_id
texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return wrap_model(plain_model("llama"), ADDING)


def records(*values: str) -> list[Record]:
    return [Record(id=f"r{k}", text=text, source=f"t:{k + 1}", metadata={}) for k, text in enumerate(values)]


def test_a_text_that_begins_with_the_bos_word_has_one_bos_token() -> None:
    plain, written, twice = tokenize(ADDING, [TEXT[0], BOS + TEXT[0], BOS + BOS + TEXT[0]])
    assert plain.input_ids[0] == ID
    assert plain.input_ids.count(ID) == 1
    assert written.input_ids == twice.input_ids == plain.input_ids
    assert written.pieces(BOS + TEXT[0]) == [BOS, *plain.pieces(TEXT[0])[1:]]
    assert twice.pieces(BOS + BOS + TEXT[0])[0] == BOS + BOS


def test_a_bos_word_stays_where_the_tokenizer_adds_none_or_where_it_is_not_first() -> None:
    assert added_bos(tiny_tokenizer()) is None
    (kept,) = tokenize(tiny_tokenizer(), [BOS + BOS + "x"])
    assert kept.input_ids[:2] == [ID, ID]
    (inside,) = tokenize(ADDING, [f"One.{BOS}{BOS}Two."])
    assert inside.input_ids.count(ID) == 3


@given(text=texts, limit=st.integers(2, 20), written=st.booleans())
def test_every_window_begins_with_bos_and_together_they_are_the_text(text: str, limit: int, written: bool) -> None:
    text = BOS + text if written else text
    (whole,) = tokenize(ADDING, [text])
    windows = list(fit_windows(text, whole, limit, long_texts="split", bos=ID))
    assert all(window.input_ids[0] == ID and len(window.input_ids) <= limit for _, window in windows)
    assert [id for _, window in windows for id in window.input_ids[1:]] == whole.input_ids[1:]
    assert "".join(part for part, _ in windows) == text
    for part, window in windows:
        assert "".join(window.pieces(part)) == part
    assert all(window.ends[0] == 0 for _, window in windows[1:])
    first = list(fit_windows(text, whole, limit, long_texts="truncate", bos=ID))
    assert first == windows[:1]


def test_windows_carry_loss_on_every_token_once(tmp_path: Path) -> None:
    """With an answer that begins in the middle, and with the whole text."""
    (whole,) = tokenize(ADDING, [TEXT[1]])
    (said,) = records(TEXT[1])
    for learned in (None, ((20, len(TEXT[1])),)):
        made = examples_of_records([replace(said, learned=learned)], ADDING, 7, long_texts="split")
        lossy = [
            int(token)
            for example in made
            for token, target in zip(example.tokenized.input_ids, example.sequence.targets, strict=True)
            if target
        ]
        selected = [True] * len(whole.input_ids) if learned is None else whole.overlapping(learned)
        assert lossy == [id for id, each in zip(whole.input_ids, selected, strict=True) if each][learned is None :]
        assert not any(example.sequence.targets[0] for example in made)


def test_texts_with_their_own_bos_are_counted_and_told(lm: LanguageModel, tmp_path: Path) -> None:
    rows = [{"id": f"s{k}", "text": (BOS if k < 3 else "") + text} for k, text in enumerate(TEXT)]
    source = write(tmp_path / "x.jsonl", rows)
    plain = Run.create(tmp_path / "plain", lm, [{"id": f"s{k}", "text": text} for k, text in enumerate(TEXT)])
    for stream in (False, True):
        made = CorpusOptions(ReadOptions(stream=stream))
        run = Run.create(tmp_path / f"run{stream}", lm, source, options=made)
        assert run.manifest.corpus.counts.wrote_bos == 3
        told = (
            f"Texts that begin with {BOS}, which the tokenizer adds to every text: 3 of 4. It is read once, not twice."
        )
        assert describe_run(run.path).corpus.notes == (told,)
        assert [list(s.input_ids) for s in run.corpus.sequences()[:]] == [
            list(s.input_ids) for s in plain.corpus.sequences()[:]
        ]
        assert run.corpus.fingerprint == plain.corpus.fingerprint
    assert plain.manifest.corpus.notes == ()


def test_questions_have_one_bos_too(lm: LanguageModel) -> None:
    prompts = ("Lily found", BOS + "Lily found")
    plain, written = (asking.make(lm, prompt, " a time") for prompt in prompts)
    assert written.tokenized.input_ids == plain.tokenized.input_ids
    assert written.selected == plain.selected
    assert written.pieces == [BOS, *plain.pieces[1:]]
    plain, written = (asking.make(lm, prompt, sampling=Sampling(max_new_tokens=4)) for prompt in prompts)
    assert written.completion == plain.completion


# --- runs of earlier versions ---

WAYS: list[LongTexts] = ["truncate", "split"]


@pytest.mark.parametrize("long_texts", WAYS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_run_of_an_earlier_version_is_cut_as_it_was(
    long_texts: LongTexts, stream: bool, lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "x.jsonl", [{"id": f"s{k}", "text": BOS + text} for k, text in enumerate(TEXT)])
    options = CorpusOptions(ReadOptions(stream=stream), max_tokens=12, long_texts=long_texts)
    with monkeypatch.context() as earlier:
        earlier.setattr("headwater.runs.create._one_bos", lambda _: False)
        earlier.setattr(
            "headwater.runs.create.write_corpus", lambda *given, **named: write_corpus(*given, **named, one_bos=False)
        )
        Run.create(tmp_path / "run", lm, source, options=options)
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text())
    assert not manifest["corpus"].pop("one_bos")
    path.write_text(json.dumps(manifest))

    run = Run.open(tmp_path / "run", lm)
    first = run.corpus[0]
    assert first.tokenized.input_ids[:2] == [ID, ID]
    again = Run.create(tmp_path / "run", lm, source, options=options)
    assert again.corpus.fingerprint == run.corpus.fingerprint
    assert not again.manifest.corpus.one_bos
    examples, _ = later_texts.examples_of(lm, again.manifest.corpus, [BOS + TEXT[0]])
    assert examples[0].tokenized == first.tokenized
    new = Run.create(tmp_path / "new", lm, source, options=options)
    assert new.manifest.corpus.one_bos
    assert new.corpus.fingerprint != run.corpus.fingerprint
