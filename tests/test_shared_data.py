"""The main job on a real model and real stories, where they are at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.corpus.read import ReadOptions
from headwater.run import CorpusOptions, FitOptions, Run

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"no real stories at {DATA}: only the tiny models are tested")


def test_a_question_about_a_key_is_answered_with_a_story_about_a_key(tmp_path: Path) -> None:
    options = CorpusOptions(ReadOptions(limit=300), max_tokens=128)
    run = Run.create(tmp_path / "run", str(DATA / "gptneo-1m"), DATA / "tinystories" / "stories.jsonl", options)
    run.fit(FitOptions(fit_examples=60))
    answer = run.ask("Once upon a time, Lily found a", " shiny key in the garden.", span="shiny key", k=5)
    assert any("key" in example.text for example in answer.proponents)
    for example in answer.proponents + answer.opponents:
        assert "".join(token.token for token in example.tokens) == example.text
        assert sum(t.influence for t in example.tokens) == pytest.approx(example.influence, rel=1e-4)
