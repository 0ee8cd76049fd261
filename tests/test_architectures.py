"""The command that compares architectures with autograd, on a few of them, and the page that it writes."""

from __future__ import annotations

import pytest
import torch
from benchmarks.architectures import PAGE, Row, compare, page, scores_by_autograd, tiny_model


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "cohere", "bart", "phi3"])
def test_scores_of_an_architecture_are_those_of_autograd(name: str) -> None:
    row = compare(name)
    assert row.is_right, row
    assert row.layers


def test_a_wrong_gradient_is_seen() -> None:
    """The comparison itself: without the soft cap, autograd differs by far more than what counts as right."""
    model = tiny_model("gemma2")
    with torch.no_grad():
        model.get_output_embeddings().weight *= 100
    names = ["model.layers.0.mlp.up_proj"]
    capped = scores_by_autograd(model, names)
    model.config.final_logit_softcapping = None
    plain = scores_by_autograd(model, names)
    assert float((capped - plain).abs().max() / plain.abs().max()) > 1e-3


def test_an_architecture_that_cannot_be_read_is_a_row_with_its_reason() -> None:
    row = compare("bert")
    assert row.difference is None
    assert row.remark.startswith("refused: BertLMHeadModel computes its logits in a way that Headwater does not know")
    text = page([row, Row("tiny", "Tiny", ["layers.*.mlp.up"], 3e-8), Row("odd", "Odd", remark="not built tiny: no")])
    assert "Of 3 names in its mapping, 1 agree with autograd, 1 do not work, and for 1 no tiny model" in text
    assert "| tiny | Tiny | `mlp.up` | 3e-08 |" in text


def test_the_page_is_there() -> None:
    assert "agree with autograd" in PAGE.read_text("utf-8")
