"""What is counted for models that are not at hand, against what the same work takes on models that are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from typer.testing import CliRunner

from headwater.cli import app
from headwater.corpus.batches import all_targets, pad
from headwater.curvature.base import EigenCurvature
from headwater.curvature.covariances import Covariances
from headwater.curvature.eigen import Eigenvalues
from headwater.curvature.fit import fit_curvature
from headwater.curvature.truncated import truncated
from headwater.curvature.workbench import Workbench
from headwater.errors import HeadwaterError, ModelError
from headwater.lm.capture import Capture
from headwater.lm.layers import choose_layers
from headwater.plan.options import PaperOptions
from headwater.plan.paper import Shapes, plan_on_paper, shapes_of
from headwater.sweep.shard_gradients import factored
from headwater.sweep.sweep import Sweep
from tests.models import VOCABULARY, plain_model, tiny_lm

EXAMPLES, TOKENS = 4, 24


@pytest.fixture(params=["gpt_neo", "llama", "gpt2"])
def architecture(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    plain_model(request.param).config.save_pretrained(tmp_path)
    return request.param


def test_the_shapes_are_those_of_the_model_itself(architecture: str, tmp_path: Path) -> None:
    model = plain_model(architecture)
    found = shapes_of(str(tmp_path))
    assert found.layers == tuple(choose_layers(model))
    assert found.weights == sum(weight.numel() for weight in model.parameters())


class Multiplications(TorchDispatchMode):
    """Counts those of all products of matrices, and of attention, while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.addmm_.default:
            self.count += args[1].numel() * args[2].shape[1]
        elif func.overloadpacket in flop_registry:
            self.count += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=made) / 2
        return made


class Work:
    """A batch of texts of one length on a model, and the multiplications that things done with it take, a token."""

    def __init__(self, architecture: str, folder: Path) -> None:
        self.lm = tiny_lm(architecture)
        self.layers = choose_layers(self.lm.model)
        draw = np.random.default_rng(0)
        self.sequences = [all_targets(draw.integers(0, VOCABULARY, TOKENS), str(k)) for k in range(EXAMPLES)]
        self.batch = pad(self.sequences, range(EXAMPLES))
        sweep = Sweep(stage="", lm=self.lm, layers=self.layers, sequences=self.sequences)
        self.curvature = fit_curvature("ekfac", sweep, Workbench(folder / "fit", ""))

    def counted(self, work: Any) -> float:
        with Multiplications() as counter:
            work()
        return counter.count / (EXAMPLES * TOKENS)


def test_multiplications_are_those_that_are_done(architecture: str, tmp_path: Path) -> None:
    work, shapes = Work(architecture, tmp_path), shapes_of(str(tmp_path))
    with Capture(work.lm, work.layers) as capture:
        assert work.counted(lambda: capture(work.batch)) == pytest.approx(shapes.model(TOKENS), rel=0.25)
        gradients = factored(work.layers, capture(work.batch))
    assert isinstance(work.curvature, EigenCurvature)
    sums, squares = Covariances(work.layers), Eigenvalues(work.layers, work.curvature.pairs)
    found = work.counted(lambda: sums.update(work.batch, gradients))
    assert found == pytest.approx(shapes.covariances(None), rel=0.01)
    found = work.counted(lambda: squares.update(work.batch, gradients))
    assert found == pytest.approx(shapes.rotation(TOKENS), rel=0.01)
    for directions in (3, 20):
        narrow = truncated(work.curvature, directions)
        found = work.counted(lambda narrow=narrow: narrow.whiten(gradients))
        assert found == pytest.approx(shapes.rotation(TOKENS, directions=directions), rel=0.01)


def test_blocks_take_their_share(tmp_path: Path) -> None:
    plain_model("llama").config.save_pretrained(tmp_path)
    work, shapes = Work("llama", tmp_path), shapes_of(str(tmp_path))
    with Capture(work.lm, work.layers) as capture:
        gradients = factored(work.layers, capture(work.batch))
    sums = Covariances(work.layers, block_width=16)
    assert work.counted(lambda: sums.update(work.batch, gradients)) == pytest.approx(shapes.covariances(16), rel=0.01)


def test_the_plan_adds_up(tmp_path: Path) -> None:
    plain_model("llama").config.save_pretrained(tmp_path)
    options = PaperOptions(examples=1000, tokens=50, workers=2, rate=1e9)
    one = plan_on_paper(str(tmp_path), options)
    twice = plan_on_paper(str(tmp_path), replace(options, examples=2000, workers=4))
    for less, more in zip(one.stages, twice.stages, strict=True):
        assert more.seconds == pytest.approx(less.seconds, rel=0.02), "weak scaling"
    assert len(one.parts) == 1
    tight = replace(options, memory=one.stages[0].memory - 1)
    parts = plan_on_paper(str(tmp_path), tight)
    assert len(parts.parts) > 1
    assert parts.stages[0].seconds > one.stages[0].seconds, "the model runs for every part"
    assert parts.stages[0].memory <= one.stages[0].memory - 1
    with pytest.raises(HeadwaterError, match="alone needs"):
        plan_on_paper(str(tmp_path), replace(options, memory=1))
    with pytest.raises(ModelError, match="Cannot read the configuration"):
        plan_on_paper(str(tmp_path / "nothing"), options)


def test_the_command_shows_stages_and_parts(tmp_path: Path) -> None:
    plain_model("llama").config.save_pretrained(tmp_path)
    arguments = ["estimate", str(tmp_path), "--examples", "1000", "--tokens", "50", "--memory", "4GB", "--workers", "2"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0
    assert "1. model.layers.0.mlp.gate_proj" in shown.output
    made = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert [stage["name"] for stage in made["stages"]] == ["fit", "index"]


def test_half_of_what_a_token_sees_is_masked() -> None:
    shapes = Shapes((), 0, products=100, attention=2)
    assert shapes.model(10) == 2 * (100 + 2 * 5)
    assert torch.isfinite(torch.tensor(shapes.model(1)))
