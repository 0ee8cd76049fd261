"""The main job on a real model and real stories, where they are at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from headwater.attribution.preconditioned import loss_gradients
from headwater.corpus.options import CorpusOptions, ReadOptions
from headwater.curvature.options import FitOptions
from headwater.lm.layers import choose_layers
from headwater.lm.load import load_model
from headwater.runs.run import Run
from headwater.training.adam import kernel_moments
from headwater.training.checkpoints import read_checkpoints

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"no real stories at {DATA}: only the tiny models are tested")


def test_a_sentence_of_a_story_is_traced_to_that_story(tmp_path: Path) -> None:
    options = CorpusOptions(ReadOptions(limit=300), max_tokens=128)
    run = Run.create(tmp_path / "run", str(DATA / "gptneo-1m"), DATA / "tinystories" / "stories.jsonl", options=options)
    run.fit(FitOptions(fit_examples=60))
    stories = list(run.corpus.read([17, 170, 270]))
    questions = [run.question(story.text[:200], story.text[200:300]) for story in stories]
    for story, answer in zip(stories, run.ask_all(questions, k=3), strict=True):
        assert answer.proponents[0].id == story.id
        for example in answer.proponents + answer.opponents:
            assert "".join(token.token for token in example.tokens) == example.text
            assert sum(t.influence for t in example.tokens) == pytest.approx(example.influence, rel=1e-4)


def test_the_optimisers_state_beside_a_checkpoint_belongs_to_the_layers_it_is_read_for(tmp_path: Path) -> None:
    """Layers are of the same shape, so that a wrong order would fit too; but v is near the squared gradients there."""
    checkpoint = read_checkpoints(DATA / "gptneo-1m" / "checkpoints")[1]
    lm = load_model(checkpoint.name)
    options = CorpusOptions(ReadOptions(limit=24), max_tokens=128)
    run = Run.create(tmp_path / "run", lm, DATA / "tinystories" / "stories.jsonl", options=options)
    layers = choose_layers(lm.model, None)
    gradients = loss_gradients(lm, layers, run.corpus.sequences())
    state = checkpoint.adam(lm)
    assert state is not None
    moments = [kernel_moments(lm, layer.name, state.second_moments).log().flatten() for layer in layers]
    squares = [(gradients[layer.name] ** 2).mean(0).log().flatten() for layer in layers]
    for kind in (0, 1):  # the two linear maps of a block
        for own, square in list(enumerate(squares))[kind::2]:
            alike = {
                other: float(torch.corrcoef(torch.stack([square, moment]))[0, 1])
                for other, moment in list(enumerate(moments))[kind::2]
            }
            assert max(alike, key=lambda other: alike[other]) == own
