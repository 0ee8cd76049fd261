"""Gradient checkpointing: the same bytes from less memory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import OPTConfig, OPTForCausalLM

from headwater.attribution.question import continue_prompt
from headwater.corpus.batches import make_batches
from headwater.errors import HeadwaterError, ModelError
from headwater.lm.capture import Capture, Captured, ForwardPass, Labels, token_losses
from headwater.lm.checkpointing import checkpoint_gradients, checkpoints_gradients
from headwater.lm.layers import choose_layers
from headwater.lm.load import LanguageModel, load_model, wrap_model
from headwater.runs.run import Run
from headwater.sweep.shard_gradients import shard_gradients
from headwater.sweep.sweep import Sweep
from tests.models import VOCABULARY, plain_model, tiny_lm, tiny_tokenizer
from tests.oracle import random_sequences
from tests.serving import COMPLETION, PROMPT, make_run

(BATCH,) = make_batches(random_sequences(5, VOCABULARY, seed=3), 512)


def opt_lm() -> LanguageModel:
    """OPT's blocks drop out by themselves where they are in training mode."""
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        ffn_dim=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        word_embed_proj_dim=16,
        init_std=0.2,
        dropout=0.5,
    )
    return wrap_model(OPTForCausalLM(config), tiny_tokenizer())


def captured(lm: LanguageModel, globs: tuple[str, ...] | None = None) -> Captured:
    with Capture(lm, choose_layers(lm.model, globs)) as capture:
        return capture(BATCH, Labels("sampled", 1))


@pytest.mark.parametrize(
    ("architecture", "globs"),
    [("gpt_neo", None), ("gpt2", None), ("llama", None), ("llama", ("*.layers.1.*",)), ("opt", ("*_proj",))],
)
def test_gradients_are_the_same_bytes(architecture: str, globs: tuple[str, ...] | None) -> None:
    lm = opt_lm() if architecture == "opt" else tiny_lm(architecture, torch.float32)
    whole = captured(lm, globs)
    assert checkpoint_gradients(lm.model)
    assert not checkpoint_gradients(lm.model), "it does already"
    again = captured(lm, globs)
    assert torch.equal(again.losses, whole.losses)
    for found, expected in (
        (again.activations, whole.activations),
        (again.output_gradients, whole.output_gradients),
    ):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_several_gradients_are_taken_back_through_one_graph() -> None:
    lm = tiny_lm("llama", torch.float32)
    layers = choose_layers(lm.model)

    def pulled() -> list[dict[str, Tensor]]:
        with Capture(lm, layers) as capture:
            forward = capture.forward(BATCH)
            seeds = [
                torch.full_like(forward.hidden[:, :-1][torch.from_numpy(BATCH.targets[:, 1:])], k) for k in (1.0, 2.0)
            ]
            return forward.weight_gradients(seeds)

    whole = pulled()
    checkpoint_gradients(lm.model)
    for found, expected in zip(pulled(), whole, strict=True):
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_passes_without_a_gradient_are_left_alone() -> None:
    lm = tiny_lm("gpt_neo", torch.float32)
    losses, said = token_losses(lm, BATCH), continue_prompt(lm, "Lily found").completion
    checkpoint_gradients(lm.model)
    caches: list[bool] = []
    lm.body.register_forward_hook(lambda _, __, out: caches.append(out.past_key_values is not None))
    assert torch.equal(token_losses(lm, BATCH), losses)
    assert continue_prompt(lm, "Lily found").completion == said
    assert caches.count(True) > 1, "generating keeps its cache"


class Scarce(Capture):
    """Memory runs out where the graph of a forward pass keeps more than `most` numbers besides weights."""

    most = sys.maxsize
    kept = 0

    def forward(self, batch: Any) -> ForwardPass:
        self.kept = 0
        with torch.autograd.graph.saved_tensors_hooks(self.keep, lambda tensor: tensor):
            return super().forward(batch)

    def keep(self, tensor: Tensor) -> Tensor:
        self.kept += 0 if isinstance(tensor, nn.Parameter) else tensor.numel()
        if self.kept > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return tensor


def test_an_example_that_does_not_fit_turns_it_on() -> None:
    lm = tiny_lm("gpt2", torch.float32)
    sweep = Sweep(stage="", lm=lm, layers=choose_layers(lm.model), sequences=random_sequences(3, VOCABULARY, seed=1))
    shard = sweep.shards()[0]
    with Scarce(lm, sweep.layers) as capture:
        longest = max(sweep.sequences, key=lambda sequence: len(sequence.input_ids))
        capture(next(make_batches([longest], 512)))
        capture.most = capture.kept - 1
        seen = [id for batch, _ in shard_gradients(sweep, capture, shard) for id in batch.ids]
        assert sorted(seen) == sorted(sequence.id for sequence in sweep.sequences)
        assert checkpoints_gradients(lm.model)
        assert capture.kept < capture.most / 4
        capture.most = 5
        with pytest.raises(HeadwaterError, match="not enough memory for example"):
            list(shard_gradients(sweep, capture, shard))


def test_a_run_remembers_it(tmp_path: Path) -> None:
    plain = make_run(tmp_path / "plain", index=False)
    origin = plain.manifest
    run = Run.create(tmp_path / "run", origin.model.name, origin.corpus.source, gradient_checkpointing=True)
    run.fit()
    assert run.paths.curvature.read_bytes() == plain.paths.curvature.read_bytes()
    again = Run.open(run.path)
    assert checkpoints_gradients(again.lm.model)
    assert again.ask(PROMPT, COMPLETION, k=2, solver="cg", iterations=2).proponents
    turned_off = Run.create(run.path, origin.model.name, origin.corpus.source)
    assert not checkpoints_gradients(turned_off.lm.model)
    assert not Run.open(run.path).manifest.model.gradient_checkpointing, "as it was last asked for"


def test_a_model_without_blocks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_model("llama", torch.float32).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    monkeypatch.setattr("headwater.lm.checkpointing.GradientCheckpointingLayer", nn.Conv3d)
    with pytest.raises(ModelError, match="no blocks"):
        load_model(str(tmp_path), gradient_checkpointing=True)
