"""Scores at every checkpoint of a training: against brute force; what Trainer leaves of its optimiser; resuming."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForCausalLM, Trainer
from typer.testing import CliRunner, Result

from headwater.attribution.question import Question
from headwater.base.progress import Step
from headwater.cli import app
from headwater.curvature.damping import Damping
from headwater.curvature.store import load_curvature
from headwater.errors import HeadwaterError, ModelError
from headwater.evaluate.context import EvaluationContext
from headwater.evaluate.methods import parse_methods
from headwater.evaluate.queries import EvalQuery
from headwater.lm.load import load_model, wrap_model
from headwater.runs.run import Run
from headwater.sweep.execution import Execution
from headwater.training.adam import TRAINER_FILE, adam_beside
from headwater.training.checkpoints import read_checkpoints
from headwater.training.options import CheckpointMethod
from tests.checkpoints import STEPS, trained_a_little, write_checkpoint
from tests.killing import KilledError, kill_at
from tests.models import TEXT, plain_model, tiny_lm, tiny_tokenizer
from tests.oracle import example_gradients

STORIES = [f"{TEXT[n % 4][: 22 + 3 * n]} And they saw {n} stars." for n in range(12)]
QUERIES = (EvalQuery("key", TEXT[0][:24], " found a shiny key."), EvalQuery("hat", TEXT[1][:18], " his red hat"))
RATES = {10: 0.5, 30: 0.2375}
"""Mean learning rates of the steps that led to each checkpoint: the second of 0.475, 0.45, …, 0."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("looking")
    plain_model("gpt_neo", torch.float32).save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    lines = [json.dumps({"id": f"s{n}", "text": story}) for n, story in enumerate(STORIES)]
    (folder / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    fours = Execution(shard_examples=4)  # the twelve stories make three shards
    made = Run.create(folder / "run", str(folder / "model"), folder / "corpus.jsonl", execution=fours)
    made.fit(fisher="empirical")
    return made


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in STEPS:
        write_checkpoint(folder, step)
    return folder


def asked(run: Run) -> list[Question]:
    return EvaluationContext(run=run, queries=QUERIES, work=Path()).questions


def written(path: Path) -> tuple[NDArray[np.float64], dict[int, NDArray[np.float64]]]:
    """[N, Q] the sums, and by step what is due to it."""
    table = pq.read_table(path)
    assert table.column("id").to_pylist() == [f"s{n}" for n in range(12)]

    def columns(suffix: str) -> NDArray[np.float64]:
        return np.stack([table.column(query.id + suffix).to_numpy() for query in QUERIES], 1).astype(np.float64)

    return columns(""), {step: columns(f"@{step}") for step in STEPS}


def by_hand(run: Run, checkpoints: Path, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """layer -> [N, P] and [Q, P]: gradients of examples and queries at a checkpoint, by plain autograd."""
    model = load_model(str(checkpoints / f"checkpoint-{step}")).model.double()
    names = [layer.name for layer in run.curvature().layers]
    pairs = (list(run.corpus.sequences()), [question.sequence for question in asked(run)])
    examples, queries = (example_gradients(model, names, sequences) for sequences in pairs)
    return {name: g.flatten(1) for name, g in examples.items()}, {name: g.flatten(1) for name, g in queries.items()}


def near(found: NDArray[np.float64], expected: Tensor) -> None:
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-4 * float(expected.abs().max()), rtol=0)


def plain(run: Run, checkpoints: Path, step: int, layer: str) -> Callable[[Tensor], Tensor]:
    return lambda query: RATES[step] * query


def along_adam(run: Run, checkpoints: Path, step: int, layer: str) -> Callable[[Tensor], Tensor]:
    model = plain_model("gpt_neo", torch.float32).requires_grad_(True)
    state = trained_a_little(model, seed=step).state
    module = model.get_submodule(layer)
    corrected = [state[p]["exp_avg_sq"] / (1 - 0.9**3) for p in (module.weight, module.bias)]
    v = torch.cat([corrected[0], corrected[1][:, None]], 1).double().flatten()
    return lambda query: RATES[step] * query / (v.sqrt() + 1e-3)


def by_ekfac(run: Run, checkpoints: Path, step: int, layer: str) -> Callable[[Tensor], Tensor]:
    path = run.path / "checkpoints" / f"step-{step}" / "curvature.safetensors"
    curvature: Any = load_curvature(path, Damping(factor=0.3))[0]
    basis = curvature.bases[layer]
    both = torch.kron(basis.output_basis.dense().double(), basis.input_basis.dense().double())
    values = basis.eigenvalues.double().flatten() + 0.3 * basis.eigenvalues.double().mean()
    return lambda query: torch.linalg.solve(both @ torch.diag(values) @ both.t(), query.t()).t()


@pytest.mark.parametrize(("method", "preconditioned"), [("tracin", plain), ("adam", along_adam), ("ekfac", by_ekfac)])
def test_every_checkpoint_adds_its_own_products(
    method: CheckpointMethod, preconditioned: Any, run: Run, checkpoints: Path, tmp_path: Path
) -> None:
    damping = "0.3*mean" if method == "ekfac" else None
    run.scan_checkpoints(asked(run), tmp_path / "s.parquet", checkpoints, method=method, damping=damping)
    sums, shares = written(tmp_path / "s.parquet")
    for step in STEPS:
        examples, queries = by_hand(run, checkpoints, step)
        parts = [
            examples[name] @ preconditioned(run, checkpoints, step, name)(query).t() for name, query in queries.items()
        ]
        near(shares[step], torch.stack(parts).sum(0))
    np.testing.assert_allclose(sums, shares[10] + shares[30], rtol=1e-5, atol=1e-6 * np.abs(sums).max())
    assert np.abs(shares[10] - shares[30]).max() > 0.1 * np.abs(sums).max(), "the checkpoints are told apart"


def test_source_adds_up_to_what_is_evaluated(run: Run, checkpoints: Path, tmp_path: Path) -> None:
    run.scan_checkpoints(asked(run), tmp_path / "s.parquet", checkpoints, method="source")
    sums, shares = written(tmp_path / "s.parquet")
    scene = EvaluationContext(run=run, queries=QUERIES, work=tmp_path / "work", checkpoints=checkpoints)
    evaluated = parse_methods(["source"])[0].score(scene)
    np.testing.assert_allclose(sums, evaluated, rtol=1e-4, atol=1e-5 * np.abs(sums).max())
    np.testing.assert_allclose(sums, shares[10] + shares[30], rtol=1e-5, atol=1e-6 * np.abs(sums).max())


def test_a_damaged_checkpoint_of_a_scan_is_done_again(run: Run, checkpoints: Path, tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    run.scan_checkpoints(asked(run), output, checkpoints)
    expected = output.read_bytes()
    output.unlink()
    with pytest.raises(KilledError):
        run.using(report=kill_at(5)).scan_checkpoints(asked(run), output, checkpoints)  # in the second checkpoint
    part = tmp_path / "s.parquet.checkpoints" / "10.parquet"
    data = bytearray(part.read_bytes())
    data[60] ^= 1
    part.write_bytes(data)
    run.scan_checkpoints(asked(run), output, checkpoints)
    assert output.read_bytes() == expected


# -- what a training leaves of its optimiser


@pytest.mark.parametrize("architecture", ["gpt_neo", "gpt2", "llama", "gpt_neox", "qwen2"])
def test_trainers_state_is_read_back_to_the_right_names(architecture: str, tmp_path: Path) -> None:
    model = plain_model(architecture, torch.float32).requires_grad_(True)
    optimizer = trained_a_little(model, seed=0, beta=0.7)
    torch.save(optimizer.state_dict(), tmp_path / TRAINER_FILE)
    found = adam_beside(tmp_path, tiny_lm(architecture, torch.float32))
    assert found is not None
    assert found.epsilon == 1e-3
    names = dict(model.named_parameters())
    assert found.second_moments.keys() == names.keys()
    for name, parameter in names.items():
        expected = optimizer.state[parameter]["exp_avg_sq"] / (1 - 0.7**3)
        torch.testing.assert_close(found.second_moments[name], expected)


def test_one_group_is_the_models_own_order(tmp_path: Path) -> None:
    model = plain_model("gpt2", torch.float32).requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.rand_like(parameter)
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / TRAINER_FILE)
    found = adam_beside(tmp_path, tiny_lm("gpt2", torch.float32))
    assert found is not None
    for name, parameter in model.named_parameters():  # after one step v̂ is the squared gradient
        assert parameter.grad is not None
        torch.testing.assert_close(found.second_moments[name], parameter.grad**2)


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_what_is_no_state_of_this_model_is_refused(tmp_path: Path) -> None:
    lm, path = tiny_lm("gpt_neo", torch.float32), tmp_path / TRAINER_FILE
    whole: Any = trained_a_little(plain_model("gpt_neo", torch.float32).requires_grad_(True), seed=0).state_dict()

    def refused(state: Any, match: str) -> None:
        torch.save(state, path)
        with pytest.raises(HeadwaterError, match=match):
            adam_beside(tmp_path, lm)

    refused(trained_a_little(plain_model("llama", torch.float32).requires_grad_(True), 0).state_dict(), "does not fit")
    groups = whole["param_groups"]
    turned = [groups[0] | {"params": groups[0]["params"][::-1]}, groups[1]]
    refused(whole | {"param_groups": turned}, r"entry \d+ has shape .* but transformer")
    refused({"state": {}}, "not the state_dict of an optimizer")
    sgd = {index: {"momentum_buffer": torch.zeros(1)} for index in whole["state"]}
    refused(whole | {"state": sgd}, "is not the state of Adam")
    refused({"state": Hostile(tmp_path / "made"), "param_groups": []}, "cannot be read")
    assert not (tmp_path / "made").exists(), "nothing in the file was run"
    path.write_bytes(b"no archive")
    with pytest.raises(HeadwaterError, match="cannot be read"):
        adam_beside(tmp_path, lm)


def test_a_real_trainers_checkpoints_are_read(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    from transformers import TrainingArguments

    model = AutoModelForCausalLM.from_config(plain_model("gpt_neo").config, dtype=torch.float32)
    options = TrainingArguments(
        str(tmp_path),
        max_steps=4,
        save_steps=2,
        logging_steps=1,
        learning_rate=0.4,
        weight_decay=0.1,
        report_to=[],
        per_device_train_batch_size=1,
        use_cpu=True,
        disable_tqdm=True,
    )
    rows = [{"input_ids": [5 + n, 6, 7, 8], "labels": [5 + n, 6, 7, 8]} for n in range(4)]
    trainer = Trainer(model, options, train_dataset=rows, processing_class=tiny_tokenizer())  # pyright: ignore[reportArgumentType]
    trainer.train()
    first, last = read_checkpoints(tmp_path)
    assert (first.step, last.step) == (2, 4)
    assert first.rate_sum == pytest.approx(0.4 + 0.3)
    assert last.rate_sum == pytest.approx(0.2 + 0.1)
    found = last.adam(wrap_model(model, tiny_tokenizer()))
    assert found is not None
    optimizer: Any = trainer.optimizer
    for name, parameter in model.named_parameters():
        expected = optimizer.state[parameter]["exp_avg_sq"] / (1 - 0.999**4)
        torch.testing.assert_close(found.second_moments[name], expected)


# -- which checkpoints there are


def test_checkpoints_may_be_listed_and_say_their_steps(checkpoints: Path) -> None:
    def steps(source: str) -> list[int]:
        return [one.step for one in read_checkpoints(source)]

    assert steps("org/model@step2000,org/model@step1000") == [1000, 2000]
    assert steps("org/model@stage1-step150-tokens7B, org/model@step0") == [0, 150]
    folders = ",".join(str(checkpoints / f"checkpoint-{step}") for step in STEPS)
    assert steps(folders) == list(STEPS)
    assert [one.rate for one in read_checkpoints("org/model@step1000,org/model@step2000")] == [None, None]


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("nowhere", "there is no checkpoint in it"),
        ("org/model@step1,nowhere", "'nowhere' is neither a model folder nor a revision"),
        ("org/model@main", "contains no step"),
        ("org/model@step5,org/other@step5", "two checkpoints have the same step"),
    ],
)
def test_what_is_wrong_with_a_list_is_said(source: str, match: str) -> None:
    with pytest.raises(HeadwaterError, match=match):
        read_checkpoints(source)


def test_a_revision_of_a_model_on_the_hub_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hub's cache, as it is laid out on disk."""
    cached = tmp_path / "models--org--model"
    (cached / "refs").mkdir(parents=True)
    for number, revision in enumerate(("main", "step7")):
        (cached / "refs" / revision).write_text(str(number) * 40)
        model = plain_model("gpt_neo", torch.float32)
        torch.nn.init.constant_(model.transformer.wte.weight, number + 1.0)
        model.save_pretrained(cached / "snapshots" / (str(number) * 40))
        tiny_tokenizer().save_pretrained(cached / "snapshots" / (str(number) * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name, weight in (("org/model", 1.0), ("org/model@step7", 2.0)):
        lm = load_model(name)
        assert lm.name == name
        assert float(lm.model.transformer.wte.weight[0, 0]) == weight
    with pytest.raises(ModelError, match="Cannot load the model 'org/model@step8'"):
        load_model("org/model@step8")


# -- what is missing, and the command line


def test_what_a_method_needs_is_said_before_anything_is_done(run: Run, checkpoints: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoints, tmp_path / "c")
    (tmp_path / "c" / "checkpoint-30" / TRAINER_FILE).unlink()
    steps: list[Step] = []
    for method in ("adam", "source"):
        with pytest.raises(HeadwaterError, match="checkpoint-30 has no second moments"):
            run.using(report=steps.append).scan_checkpoints(
                asked(run), tmp_path / "s.parquet", tmp_path / "c", method=method
            )
    assert not steps
    with pytest.raises(HeadwaterError, match="tracin is not damped"):
        run.scan_checkpoints(asked(run), tmp_path / "s.parquet", checkpoints, damping="1*mean")
    first, second = asked(run)
    clash = [replace(first, id="q"), replace(second, id="q@10")]
    with pytest.raises(HeadwaterError, match="'q@10' is used twice"):
        run.scan_checkpoints(clash, tmp_path / "s.parquet", checkpoints)


def test_the_command(run: Run, checkpoints: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"id": q.id, "prompt": q.prompt, "completion": q.completion}) for q in QUERIES]
    (tmp_path / "q.jsonl").write_text("\n".join(lines))

    def scan(*more: str) -> Result:
        output = ["-o", str(tmp_path / "s.parquet")]
        return CliRunner().invoke(app, ["scan", str(run.path), str(tmp_path / "q.jsonl"), *output, *more])

    assert scan("--checkpoints", str(checkpoints), "--method", "adam").exit_code == 0
    run.scan_checkpoints(asked(run), tmp_path / "same.parquet", checkpoints, method="adam")
    assert pq.read_table(tmp_path / "s.parquet").equals(pq.read_table(tmp_path / "same.parquet"))
    names = pq.read_schema(tmp_path / "s.parquet").names
    assert names == ["id", "key", "hat", "key@10", "key@30", "hat@10", "hat@30"]
    assert "with --checkpoints" in str(scan("--method", "adam").exception)
    assert "scores whole examples" in str(scan("--checkpoints", str(checkpoints), "--tokens").exception)
