"""Which layers are tracked: inputs of two dimensions, modules that do not run, defaults of each architecture."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Gemma3Config

from headwater.attribution.preconditioned import SequenceGradients
from headwater.errors import HeadwaterWarning, ModelError
from headwater.lm.coverage import coverage_of
from headwater.lm.layers import choose_layers
from headwater.lm.load import LanguageModel, load_model, max_positions, wrap_model
from headwater.sweep.sweep import Sweep, fold
from tests.models import VOCABULARY, plain_model, tiny_lm, tiny_tokenizer
from tests.oracle import assert_near, example_gradients, random_sequences

CORPUS = random_sequences(5, VOCABULARY, seed=81)


class Flattened(nn.Module):
    """A linear layer that sees all tokens of a batch as rows."""

    def __init__(self, linear: nn.Module, *, token_by_token: bool) -> None:
        super().__init__()
        self.linear = linear
        self.token_by_token = token_by_token

    def forward(self, states: Tensor) -> Tensor:
        if self.token_by_token:
            states = states.transpose(0, 1)
        found = self.linear(states.flatten(0, 1)).view(*states.shape[:2], -1)
        return found.transpose(0, 1).contiguous() if self.token_by_token else found


def flattened(model: Any, *, token_by_token: bool) -> Any:
    for block in model.transformer.h:
        block.mlp.c_fc = Flattened(block.mlp.c_fc, token_by_token=token_by_token)
    return model


def assert_matches_autograd(lm: LanguageModel, plain: Any, tolerance: float = 1e-6) -> list[str]:
    layers = choose_layers(lm.model)
    names = [layer.name for layer in layers]
    sweep = Sweep(stage="", lm=lm, layers=layers, sequences=CORPUS, tokens_in_batch=40)
    found = fold(sweep, lambda: SequenceGradients(layers)).by_layer()
    expected = example_gradients(plain, names, CORPUS)
    for name in names:
        assert_near(found[name], expected[name], tolerance)
    return names


def test_flattened_inputs_are_separated_by_the_shape_of_the_batch() -> None:
    lm = tiny_lm("gpt2")
    flattened(lm.model, token_by_token=False)
    names = assert_matches_autograd(lm, flattened(plain_model("gpt2"), token_by_token=False))
    assert "transformer.h.0.mlp.c_fc.linear" in names


def test_inputs_that_mix_texts_are_refused() -> None:
    lm = tiny_lm("gpt2")
    flattened(lm.model, token_by_token=True)
    with pytest.raises(ModelError, match=r"c_fc\.linear depend on the other texts .* --layers"):
        choose_layers(lm.model)
    assert len(choose_layers(lm.model, ["*.mlp.c_proj"])) == 2


def test_modules_that_do_not_run_are_left_out_with_a_count() -> None:
    lm = tiny_lm("llama")
    expected = choose_layers(lm.model)
    lm.model.model.vision = nn.ModuleDict({"mlp": nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4))})
    with pytest.warns(HeadwaterWarning, match=r"2 of the chosen layers are left out: model\.vision\.mlp\.0"):
        assert choose_layers(lm.model) == expected
    with pytest.warns(HeadwaterWarning), pytest.raises(ModelError, match="no linear layer that runs on text"):
        choose_layers(lm.model, ["*.vision.*"])


def test_rwkv_tracks_its_feed_forward_layers() -> None:
    names = assert_matches_autograd(tiny_lm("rwkv"), plain_model("rwkv"))
    assert {name.split(".")[-2] for name in names} == {"feed_forward"}
    assert len(names) == 6


@pytest.mark.filterwarnings("ignore::headwater.errors.HeadwaterWarning")
def test_a_model_without_mlp_tracks_every_linear_layer() -> None:
    names = assert_matches_autograd(tiny_lm("mamba"), plain_model("mamba"), 1e-5)  # its scan is in float32
    assert {name.split(".")[-1] for name in names} == {"in_proj", "x_proj", "out_proj"}


def test_opt_tracks_its_two_linear_layers() -> None:
    names = assert_matches_autograd(tiny_lm("opt"), plain_model("opt"))
    assert {name.split(".")[-1] for name in names} == {"fc1", "fc2"}


def test_the_longest_text_is_read_from_the_configuration_of_texts() -> None:
    config = Gemma3Config(text_config={"max_position_embeddings": 777})
    assert max_positions(config) == 777


def adapted(folder: Path, **settings: Any) -> tuple[LanguageModel, Any]:
    """A LoRA adapter with weights that are not zero, as saved by peft, and the same model untouched by Headwater."""
    peft = pytest.importorskip("peft")
    base = plain_model("llama")
    base.save_pretrained(folder / "base")
    tiny_tokenizer().save_pretrained(folder / "base")
    base.name_or_path = str(folder / "base")
    chosen = {"target_modules": ["up_proj", "down_proj"]} | settings
    made = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", r=3, **chosen))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if ".lora_" in name or "modules_to_save" in name:
                weight.add_(torch.randn_like(weight), alpha=0.1)
    made.save_pretrained(folder / "lora")
    lm = load_model(str(folder / "lora"))
    plain = copy.deepcopy(lm.model).double().eval()
    return wrap_model(lm.model.double(), lm.tokenizer, "lora"), plain


def test_an_adapter_of_dora_matches_autograd(tmp_path: Path) -> None:
    """Its norm calls each layer once more, on the identity, and no gradient goes through that call."""
    lm, plain = adapted(tmp_path, use_dora=True)
    names = assert_matches_autograd(lm, plain)
    assert len(names) == 8
    assert any("lora_magnitude_vector" in name for name, _ in plain.named_parameters())
    found = coverage_of(lm.model, choose_layers(lm.model))
    assert found.of == "adapter"
    magnitudes = 2 * (24 + 16)
    assert (found.tracked, found.parameters) == (2 * 2 * 3 * (16 + 24), 2 * 2 * 3 * (16 + 24) + magnitudes)


def test_a_head_that_an_adapter_saves_is_used_and_counted(tmp_path: Path) -> None:
    lm, plain = adapted(tmp_path, modules_to_save=["lm_head"])
    saved = next(w for name, w in plain.named_parameters() if "modules_to_save" in name and "lm_head" in name)
    base = next(w for name, w in plain.named_parameters() if "original_module" in name and "lm_head" in name)
    assert not torch.equal(saved, base)
    assert torch.equal(lm.head.weight, saved)
    assert len(assert_matches_autograd(lm, plain)) == 8
    found = coverage_of(lm.model, choose_layers(lm.model))
    assert found.parameters == found.tracked + saved.numel()
    assert found.describe() == "9 % of the adapter's parameters, all of its MLPs'"
