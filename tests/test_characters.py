"""Characters of several tokens: they are selected, generated and shown as a whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.attribution.answer import Answer
from headwater.attribution.options import Sampling
from headwater.attribution.question import Question, continue_prompt, describe, make_question
from headwater.corpus.options import CorpusOptions, ReadOptions
from headwater.corpus.tokenize import fit_windows, locate_generated, tokenize
from headwater.errors import HeadwaterError
from headwater.lm.load import LanguageModel
from headwater.render.summary import meaning
from headwater.runs.run import Run
from headwater.verify.from_answer import answered_question
from tests.answers import answer
from tests.models import tiny_lm, tiny_tokenizer

FOX = " 🦊"
LM = tiny_lm()


def ids_of(text: str) -> list[int]:
    return tiny_tokenizer()(text)["input_ids"]


def test_all_tokens_of_a_character_are_explained() -> None:
    question = make_question(LM, "Lily saw a", FOX)
    assert len(ids_of(FOX)) == 5, "a space and four bytes"
    assert sum(question.selected) == 5
    found = describe(LM, question)
    ids = torch.tensor([question.tokenized.input_ids])
    log_probs = LM.model(ids).logits[0].log_softmax(-1)
    expected = -sum(float(log_probs[t - 1, ids[0, t]]) for t in range(ids.shape[1] - 5, ids.shape[1]))
    assert found.loss == pytest.approx(expected)


def test_a_span_has_whole_characters_and_only_its_own() -> None:
    question = make_question(LM, "Lily", " saw 🦊🐻.", span="🐻")
    chosen = [piece for piece, selected in zip(question.pieces, question.selected, strict=True) if selected]
    assert chosen == ["🐻", "", "", ""]


@given(st.text(st.sampled_from("ab é🦊한 "), min_size=1, max_size=12), st.data())
def test_every_character_of_a_span_is_covered_by_its_tokens_alone(text: str, data: st.DataObject) -> None:
    (tokenized,) = tokenize(tiny_tokenizer(), [text])
    start = data.draw(st.integers(0, len(text) - 1))
    chosen = tokenized.overlapping([(start, start + 1)])
    kept = [id for id, one in zip(tokenized.input_ids, chosen, strict=True) if one]
    assert text[start] in tiny_tokenizer().decode(kept)
    first, last = chosen.index(True), len(chosen) - chosen[::-1].index(True)
    assert all(chosen[first:last]), "they stand together"
    for part in (tokenized.input_ids[:first], tokenized.input_ids[last:]):
        assert "\ufffd" not in tiny_tokenizer().decode(part), "no character is divided"


def test_a_window_keeps_what_its_tokens_share() -> None:
    text = "a🦊b🐻c"
    (tokenized,) = tokenize(tiny_tokenizer(), [text])
    windows = list(fit_windows(text, tokenized, 6, long_texts="split"))
    assert "".join(part for part, _ in windows) == text
    second = windows[1][1]
    assert second.overlapping([(0, 1)]) == [True] * 4 + [False]


def speaking(monkeypatch: pytest.MonkeyPatch, said: list[int]) -> LanguageModel:
    """A model that continues any prompt with these tokens."""
    lm = replace(LM)

    def generate(input_ids: Any, max_new_tokens: int, **_: Any) -> Any:
        return torch.cat([input_ids, torch.tensor([said[:max_new_tokens]])], dim=1)

    monkeypatch.setattr(lm.model, "generate", generate)
    return lm


def test_a_continuation_that_ends_inside_a_character_is_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = speaking(monkeypatch, ids_of("🦊!"))
    question = continue_prompt(lm, "Lily saw", Sampling(max_new_tokens=1))
    assert question.completion == "🦊"
    assert question.tokenized.input_ids == ids_of("Lily saw🦊")
    assert question.note == "The continuation ended inside a character, so it has 4 tokens instead of 1."
    assert question.note in meaning(replace(answer([], []), query=describe(lm, question)))


def test_a_character_that_is_never_completed_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    lead = ids_of("🦊")[0]
    lm = speaking(monkeypatch, [*ids_of(" b"), *[lead] * 9])
    question = continue_prompt(lm, "Lily saw", Sampling(max_new_tokens=len(ids_of(" b")) + 2))
    assert question.completion == " b"
    assert "2 of its tokens were dropped" in (question.note or "")
    with pytest.raises(HeadwaterError, match="inside a character"):
        continue_prompt(speaking(monkeypatch, [lead] * 9), "Lily saw", Sampling(max_new_tokens=2))


def test_the_tokens_of_a_continuation_are_those_that_were_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    spelled = [id for letter in " once 🦊 a" for id in ids_of(letter)]
    assert spelled != ids_of(" once 🦊 a"), "it is usually written with fewer tokens"
    lm = speaking(monkeypatch, spelled)
    question = continue_prompt(lm, "Lily saw", Sampling(max_new_tokens=len(spelled)), span="🦊")
    assert question.tokenized.input_ids[-len(spelled) :] == spelled
    assert question.note is None
    assert "".join(question.pieces) == "Lily saw once 🦊 a"
    chosen = np.flatnonzero(question.selected)
    assert [question.tokenized.input_ids[t] for t in chosen] == ids_of("🦊")
    found = replace(answer([], []), query=describe(lm, question))
    again: Question = answered_question(lm, Answer.from_json(found.to_json()))
    assert again.tokenized.input_ids == question.tokenized.input_ids
    assert again.selected == question.selected


@given(st.text(st.sampled_from("ab é🦊한 "), min_size=1, max_size=12))
def test_decoding_locates_tokens_where_the_tokenizer_does(text: str) -> None:
    prompt, whole = tokenize(tiny_tokenizer(), ["Lily", "Lily" + text])
    if whole.input_ids[: len(prompt.input_ids)] != prompt.input_ids:
        return
    new = whole.input_ids[len(prompt.input_ids) :]
    found = locate_generated(tiny_tokenizer(), "Lily" + text, prompt, generated=new)
    assert found.input_ids == whole.input_ids
    assert found.ends[len(prompt.ends) :] == whole.ends[len(prompt.ends) :]
    assert list(found.joined)[len(prompt.ends) :] == list(whole.joined)[len(prompt.ends) :]


def test_a_corpus_with_prompts_learns_whole_characters(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"id": "a", "prompt": "Lily saw a", "text": " 🦊"}', encoding="utf-8")
    reading = CorpusOptions(ReadOptions(prompt_field="prompt"))
    run = Run.create(tmp_path / "run", LM, tmp_path / "c.jsonl", options=reading)
    assert (run.corpus[0].targets or []).count(True) == 5
