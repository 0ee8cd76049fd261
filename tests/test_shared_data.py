"""The main job on a real model and real stories, where they are at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.corpus.read import ReadOptions
from headwater.run import CorpusOptions, FitOptions, Run

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"no real stories at {DATA}: only the tiny models are tested")


def test_a_sentence_of_a_story_is_traced_to_that_story(tmp_path: Path) -> None:
    options = CorpusOptions(ReadOptions(limit=300), max_tokens=128)
    run = Run.create(tmp_path / "run", str(DATA / "gptneo-1m"), DATA / "tinystories" / "stories.jsonl", options)
    run.fit(FitOptions(fit_examples=60))
    stories = list(run.corpus.read([17, 170, 270]))
    questions = [run.question(story.text[:200], story.text[200:300]) for story in stories]
    for story, answer in zip(stories, run.ask_all(questions, k=3), strict=True):
        assert answer.proponents[0].id == story.id
        for example in answer.proponents + answer.opponents:
            assert "".join(token.token for token in example.tokens) == example.text
            assert sum(t.influence for t in example.tokens) == pytest.approx(example.influence, rel=1e-4)
