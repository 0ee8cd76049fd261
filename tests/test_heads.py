"""Attention scores by head: the right rows and columns, sums that are the layer's, and the way through `ask`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from headwater import HeadwaterError
from headwater.attribution.heads import head_splits
from headwater.lm.layers import choose_layers
from headwater.runs.run import Run
from tests.models import ARCHITECTURES, VOCABULARY, plain_model
from tests.oracle import example_gradients, random_sequences
from tests.serving import COMPLETION, PROMPT
from tests.works import new_run, write_sources


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_head_that_nothing_reads_gets_no_gradient(architecture: str) -> None:
    """With the output projection's columns of head 1 at zero, only the rows of head 1 have no gradient."""
    model = plain_model(architecture)
    layers = choose_layers(model, ["*attention*" if architecture == "gpt_neox" else "*attn*"])
    splits = head_splits(model, layers)
    assert splits.keys() == {layer.name for layer in layers}
    with torch.no_grad():
        for name, split in splits.items():
            if split.of_inputs:
                module = model.get_submodule(name)
                kernel = module.weight if not isinstance(module, Conv1D) else module.weight.t()
                kernel[:, split.head[: kernel.shape[1]] == 1] = 0
    gradients = example_gradients(model, list(splits), random_sequences(1, VOCABULARY, 3, longest=20))
    tested = 0
    for name, split in splits.items():
        if split.of_inputs or split.heads != 4:  # grouped keys and values serve several heads
            continue
        rows = gradients[name][0].abs().sum(dim=1)
        by_head = rows.new_zeros(split.heads).index_add_(0, split.head, rows)
        assert float(by_head[1]) == 0, name
        assert bool((by_head[[0, 2, 3]] > 0).all()), name
        tested += 1
    assert tested >= 2


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("heads")
    run = new_run(write_sources(folder), folder / "run")
    run.fit(layers=("*.attn.*", "*.mlp.c_fc"))
    return run


def test_the_heads_of_a_layer_sum_to_it(run: Run) -> None:
    answer = run.ask(PROMPT, COMPLETION, k=3, heads=True)
    assert answer.proponents
    for example in answer.proponents + answer.opponents:
        assert {name for name in example.layers if ".attn." in name} == example.heads.keys()
        for name, parts in example.heads.items():
            assert len(parts) == (5 if name.endswith("out_proj") else 4)
            assert sum(parts) == pytest.approx(example.layers[name], rel=1e-4, abs=1e-5 * abs(example.influence))
            assert max(map(abs, parts)) > 0
    assert "strongest heads: " in str(answer)
    assert "strongest heads: " in str(answer.proponents[0])
    assert '"heads"' in answer.to_json()
    assert run.ask(PROMPT, COMPLETION, k=3).proponents[0].heads == {}


def test_without_attention_layers_it_is_refused(tmp_path: Path) -> None:
    run = new_run(write_sources(tmp_path), tmp_path / "run")
    run.fit()
    with pytest.raises(HeadwaterError, match="tracks none whose heads are known"):
        run.ask(PROMPT, COMPLETION, heads=True)
