"""Models in 8 and 4 bits, and adapters over them, against what they come to in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig

from headwater.corpus.batches import make_batches
from headwater.errors import ModelError
from headwater.lm.capture import Capture, Captured, token_losses
from headwater.lm.checkpointing import checkpoint_gradients
from headwater.lm.layers import choose_layers
from headwater.lm.load import LanguageModel, load_model
from headwater.runs.run import Run
from headwater.verify.options import VerifyOptions
from tests.models import VOCABULARY, plain_model, tiny_tokenizer
from tests.oracle import random_sequences

(BATCH,) = make_batches(random_sequences(5, VOCABULARY, seed=3), 512)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base`, `lora` over it, and `nf4`, which is `base` already quantised."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.1,
        tie_word_embeddings=False,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "base")
    adapted: Any = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder / "base"),
        peft.LoraConfig(r=2, target_modules=["up_proj", "down_proj"], task_type="CAUSAL_LM"),
    )
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.1)
    adapted.save_pretrained(folder / "lora")
    how = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    AutoModelForCausalLM.from_pretrained(folder / "base", quantization_config=how).save_pretrained(folder / "nf4")
    for name in ("base", "nf4"):
        tiny_tokenizer().save_pretrained(folder / name)
    return folder


def captured(lm: LanguageModel, globs: tuple[str, ...] | None = None) -> Captured:
    with Capture(lm, choose_layers(lm.model, globs)) as capture:
        return capture(BATCH)


def distance(found: Captured, expected: Captured) -> float:
    """The largest distance of a layer's activations or output gradients, relative to their length."""
    pairs = [(found.activations[name], expected.activations[name]) for name in expected.activations]
    pairs += [(found.output_gradients[name], expected.output_gradients[name]) for name in expected.output_gradients]
    return max(float((one - other).norm() / other.norm()) for one, other in pairs)


def test_a_quantised_model_loads_as_it_is_and_computes_with_what_it_comes_to(folder: Path) -> None:
    lm = load_model(str(folder / "nf4"))
    assert lm.model.get_submodule("model.layers.0.mlp.up_proj").weight.dtype == torch.uint8
    assert {(x.inputs, x.outputs) for x in choose_layers(lm.model)} == {(64, 96), (96, 64)}
    fingerprint = load_model(str(folder / "nf4")).fingerprint
    token_losses(lm, BATCH)  # a pass without a gradient leaves the weights as they are
    assert lm.fingerprint == fingerprint
    assert lm.float32_model.model.get_submodule("model.layers.0.mlp.up_proj").weight.dtype == torch.float32
    assert lm.float32_model.fingerprint != load_model(str(folder / "base")).fingerprint, "it is what the 4 bits come to"
    found, expected = captured(lm), captured(lm.float32_model)
    assert distance(found, expected) < 1e-5
    checkpoint_gradients(lm.model)
    assert distance(captured(lm), found) == 0


@pytest.mark.parametrize(("dtype", "tolerance"), [("nf4", 0.03), ("int8", 0.08)])
def test_gradients_flow_through_a_quantised_base(folder: Path, dtype: str, tolerance: float) -> None:
    lm = load_model(str(folder / "lora"), dtype=dtype)
    names = {layer.name for layer in choose_layers(lm.model)}
    assert all(".lora_" in name for name in names)
    assert distance(captured(lm), captured(lm.float32_model)) < tolerance
    own = ("*.base_layer",)
    assert distance(captured(lm, own), captured(lm.float32_model, own)) < tolerance
    whole = captured(load_model(str(folder / "lora")))
    assert distance(captured(lm), whole) > distance(captured(lm.float32_model), whole) / 2 > 0, "rounding is there"


@pytest.mark.parametrize("dtype", ["nf4", "int8"])
def test_a_run_over_a_quantised_base(folder: Path, tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"Lily found {k} keys in the garden."}) for k in range(12)))
    runs = {name: Run.create(tmp_path / name, str(folder / "lora"), path, dtype=name) for name in ("fp32", dtype)}
    for run in runs.values():
        run.fit()
        run.build_index(bytes=256)
    run = Run.open(tmp_path / dtype)
    assert run.manifest.model.dtype == dtype
    columns = []
    for name in runs:
        answer = Run.open(tmp_path / name).ask("Lily found", " 3 keys", k=12)
        influence = {example.id: example.influence for example in answer.proponents + answer.opponents}
        columns.append([influence[id] for id in sorted(influence)])
    assert np.corrcoef(*columns)[0, 1] > 0.9
    verified = run.verify(run.ask("Lily found", " 3 keys", k=2), VerifyOptions(k=2), random=2)
    assert verified.correlation is not None
    assert verified.correlation > 0.9
    assert run.ask("Lily found", " 3 keys", k=2, solver="cg", iterations=2).proponents


def test_transposed_weights_are_quantised_too(tmp_path: Path) -> None:
    plain_model("gpt2", torch.float32).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    lm = load_model(str(tmp_path), dtype="nf4")
    assert distance(captured(lm), captured(lm.float32_model)) < 0.05


@pytest.mark.parametrize(("name", "dtype"), [("lora", "fp32"), ("base", "nf4")])
def test_neither_adapters_nor_few_bits_go_with_weights_on_disk(folder: Path, name: str, dtype: str) -> None:
    parts = ("model.embed_tokens", "model.layers.0", "model.norm", "model.rotary_emb", "lm_head")
    places = dict.fromkeys(parts, "cpu") | {"model.layers.1": "disk"}
    with pytest.raises(ModelError, match=r"offloaded|dispatched on the CPU or the disk"):
        load_model(str(folder / name), dtype=dtype, device_map=places)


def test_what_is_missing_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.lm.quantised.find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"needs bitsandbytes.*pip install 'headwater\[large\]'"):
        load_model(str(folder / "base"), dtype="nf4")
