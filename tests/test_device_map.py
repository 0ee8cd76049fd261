"""Models that are spread over devices or partly offloaded give the results of whole ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import infer_auto_device_map

from headwater.attribution.options import Sampling
from headwater.attribution.question import continue_prompt
from headwater.corpus.batches import make_batches
from headwater.errors import ModelError
from headwater.lm.capture import Capture, Captured, Labels, token_losses
from headwater.lm.layers import choose_layers
from headwater.lm.load import LanguageModel, load_model
from headwater.lm.placement import is_offloaded
from headwater.runs.run import Run
from tests.models import VOCABULARY, plain_model, tiny_tokenizer
from tests.oracle import random_sequences
from tests.serving import COMPLETION, PROMPT, make_run

(BATCH,) = make_batches(random_sequences(5, VOCABULARY, seed=3), 512)


def saved(folder: Path, architecture: str) -> str:
    plain_model(architecture, torch.float32).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def in_part(name: str) -> dict[str, int | str]:
    """What "auto" makes of a machine whose memory does not hold all of the model."""
    model = load_model(name).model
    room = sum(weight.numel() * 4 for weight in model.parameters()) * 9 // 10
    return infer_auto_device_map(model, {"cpu": room}, model._no_split_modules)  # pyright: ignore[reportReturnType]


def captured(lm: LanguageModel) -> Captured:
    with Capture(lm, choose_layers(lm.model)) as capture:
        return capture(BATCH, Labels("sampled", 1))


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neo"])
def test_weights_on_disk_give_the_same_bytes(architecture: str, tmp_path: Path) -> None:
    name = saved(tmp_path, architecture)
    places = in_part(name)
    assert set(places.values()) == {"cpu", "disk"}
    whole, parted = load_model(name), load_model(name, device_map=places)
    assert is_offloaded(parted.model)
    assert parted.fingerprint == whole.fingerprint
    found, expected = captured(parted), captured(whole)
    assert torch.equal(found.losses, expected.losses)
    for one, other in (
        (found.activations, expected.activations),
        (found.output_gradients, expected.output_gradients),
    ):
        assert all(torch.equal(one[layer], other[layer]) for layer in other)
    assert torch.equal(token_losses(parted, BATCH), token_losses(whole, BATCH))
    said, expected_said = (continue_prompt(lm, PROMPT, Sampling(6)).completion for lm in (parted, whole))
    assert said == expected_said


def test_no_more_of_them_is_held_after_a_pass(tmp_path: Path) -> None:
    name = saved(tmp_path, "llama")
    lm = load_model(name, device_map=in_part(name))

    def held() -> set[str]:
        return {name for name, weight in lm.model.named_parameters() if not weight.is_meta}

    before = held()
    with Capture(lm, choose_layers(lm.model)) as capture:
        forward = capture.forward(BATCH)
        assert held() == before
        forward.pull_back(torch.ones_like(forward.hidden))
        assert held() == before, "loaded again, and offloaded again"
    with pytest.raises(ModelError, match="offloaded to memory or disk"):
        _ = lm.float32_model


def test_a_run_remembers_how_its_model_is_spread(tmp_path: Path) -> None:
    plain = make_run(tmp_path / "plain", index=False)
    origin = plain.manifest
    places = in_part(origin.model.name)
    run = Run.create(tmp_path / "run", origin.model.name, origin.corpus.source, device_map=places)
    run.fit()
    again = Run.open(run.path)
    assert is_offloaded(again.lm.model)
    expected, found = (one.ask(PROMPT, COMPLETION, k=3) for one in (plain, again))
    assert [(e.id, e.influence) for e in found.proponents] == [(e.id, e.influence) for e in expected.proponents]
    auto = Run.create(tmp_path / "run", origin.model.name, origin.corpus.source, device_map="auto")
    assert Run.open(auto.path).lm.loading.device_map == "auto"


def test_a_device_and_a_map_contradict_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = saved(tmp_path, "llama")
    with pytest.raises(ModelError, match="one of the two"):
        load_model(name, device="cpu", device_map="auto")
    monkeypatch.setattr("headwater.lm.load.find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"pip install 'headwater\[large\]'"):
        load_model(name, device_map="auto")


def test_no_operation_is_on_two_devices() -> None:
    done: Any = subprocess.run(
        [sys.executable, "-m", "tests.two_devices"], capture_output=True, text=True, timeout=250, check=False
    )
    assert "every operation was on one device" in done.stdout, done.stderr[-2000:]
