"""A recipe gives the same model every time, its steps are AdamW's, and retraining is what training was."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from headwater.base.files import load_tensors, write_text
from headwater.base.progress import Step
from headwater.cli import app
from headwater.corpus.batches import TokenSequence, all_targets
from headwater.corpus.options import CorpusOptions
from headwater.errors import HeadwaterError
from headwater.lm.kernels import use_sdpa
from headwater.lm.load import load_model
from headwater.runs.run import Run
from headwater.training import new_model, retrain
from headwater.training.adam import MOMENTS_FILE, second_moments
from headwater.training.checkpoints import STATE_FILE, read_checkpoints
from headwater.training.new_model import Design, make_model
from headwater.training.recipe import RECIPE_FILE, Recipe, read_recipe
from headwater.training.retrain import Retraining, Task, retraining_of
from headwater.training.train import TrainingStep, fresh_model, gradients_of, train
from tests.killing import KilledError, kill_at
from tests.models import CONFIGS, TEXT, VOCABULARY, plain_model
from tests.oracle import random_sequences, sequence_loss

SEQUENCES = random_sequences(13, VOCABULARY, seed=71)
STORIES = [f"{TEXT[n % 4][: 20 + n % 30]} And they saw {n} stars." for n in range(24)]


def weights(model: Any) -> dict[str, Tensor]:
    return {name: weight.detach().cpu().clone() for name, weight in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def masked(sequences: Sequence[TokenSequence], seed: int) -> list[TokenSequence]:
    """The sequences with a random half of their targets, one of them with none at all."""
    rng = np.random.default_rng(seed)
    drawn = [replace(one, targets=one.targets & (rng.random(len(one.targets)) < 0.5)) for one in sequences]
    return [replace(drawn[0], targets=np.zeros_like(drawn[0].targets)), *drawn[1:]]


def mean_loss(model: Any, sequences: Sequence[TokenSequence]) -> Tensor:
    """In nats a target, from one sequence at a time."""
    total = torch.stack([sequence_loss(model, one) for one in sequences if one.targets.any()]).sum()
    return total / sum(int(one.targets.sum()) for one in sequences)


# -- steps


@pytest.mark.parametrize("architecture", ["gpt_neo", "gpt2", "llama"])
def test_gradients_are_those_of_the_mean_loss_over_the_targets(architecture: str) -> None:
    """Padding and whatever is no target carry no loss."""
    sequences = masked(SEQUENCES, seed=0)
    model = plain_model(architecture)
    loss = mean_loss(model, sequences)
    everything = torch.autograd.grad(loss, list(model.parameters()))
    for found, expected in zip(gradients_of(plain_model(architecture), sequences), everything, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


RECIPES = [
    Recipe(epochs=5, batch=100, learning_rate=0.01, clip=1e9),
    Recipe(epochs=5, batch=100, learning_rate=0.05, clip=0.3, weight_decay=0.5),
    Recipe(epochs=4, batch=100, learning_rate=0.02, warm_up=0.6, last_rate=0.5, betas=(0.5, 0.9)),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_is_a_plain_loop_of_adamw(recipe: Recipe) -> None:
    """With the whole corpus in a batch, so that no order matters; second moments and rates as the watch is told."""
    sequences = masked(SEQUENCES, seed=1)
    model = plain_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), betas=recipe.betas, weight_decay=recipe.weight_decay)
    moments: list[TrainingStep] = []
    kept: list[dict[str, Tensor]] = []

    def watch(moment: TrainingStep) -> None:
        moments.append(moment)
        kept.append(moment.second_moments())

    found = plain_model()
    train(found, sequences, recipe, watch=watch)
    for step in range(recipe.epochs):
        done = step / recipe.epochs
        cosine = recipe.last_rate + (1 - recipe.last_rate) * (1 + math.cos(math.pi * done)) / 2
        rate = recipe.learning_rate * min(1, (done + 1e-4) / recipe.warm_up) * cosine
        optimizer.param_groups[0]["lr"] = rate
        loss = mean_loss(model, sequences)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        assert moments[step].rate == pytest.approx(rate)
        assert moments[step].loss == pytest.approx(float(loss.detach()), rel=1e-5)
        for name, weight in model.named_parameters():
            expected = optimizer.state[weight]["exp_avg_sq"] / (1 - recipe.betas[1] ** (step + 1))
            torch.testing.assert_close(kept[step][name], expected, rtol=1e-3, atol=1e-4 * float(expected.max()))
    assert [(moment.step, moment.steps) for moment in moments] == [(k + 1, recipe.epochs) for k in range(recipe.epochs)]
    for name, weight in model.named_parameters():
        torch.testing.assert_close(found.get_parameter(name), weight, rtol=0, atol=1e-2 * recipe.learning_rate)


def test_a_loss_that_leaves_the_finite_numbers_ends_the_training() -> None:
    with pytest.raises(HeadwaterError, match=r"The loss is nan at step \d+ of 26. Lower learning_rate"):
        train(plain_model("llama", torch.float32), SEQUENCES, Recipe(epochs=2, batch=1, learning_rate=1e36, warm_up=1))
    with pytest.raises(HeadwaterError, match="no sequence to train on"):
        train(plain_model(), [], Recipe())


# -- the same every time


def trained(architecture: str, recipe: Recipe, threads: int, change: Callable[[Any], None] = lambda _: None) -> Any:
    config = CONFIGS[architecture]()
    change(config)
    model = fresh_model(config, recipe)
    train(model, SEQUENCES, recipe, threads=threads)
    return weights(model)


def test_the_same_recipe_gives_the_same_weights_on_one_thread_and_on_two() -> None:
    recipe = Recipe(epochs=2, batch=5)
    one, two = (trained("gpt_neo", recipe, threads) for threads in (1, 2))
    assert same(one, two)
    assert not same(one, trained("gpt_neo", recipe.model_copy(update={"seed": 1}), 1))


@pytest.mark.parametrize(
    ("architecture", "change"),
    [
        ("gpt2", {"resid_pdrop": 0.3, "embd_pdrop": 0.3, "attn_pdrop": 0.3}),
        ("llama", {"attention_dropout": 0.3}),
        ("gpt_neo", {"attention_dropout": 0.3}),
    ],
)
def test_what_is_dropped_out_is_the_same_every_time(architecture: str, change: dict[str, float]) -> None:
    recipe = Recipe(epochs=3, batch=6)

    def with_dropout(rate: float | None) -> Callable[[Any], None]:
        return lambda config: config.update({name: rate if rate is not None else p for name, p in change.items()})

    one, two, again = (trained(architecture, recipe, threads, with_dropout(None)) for threads in (1, 2, 2))
    assert same(one, two)
    assert same(two, again)
    assert not same(one, trained(architecture, recipe, 1, with_dropout(0.0))), "something was dropped"


def test_training_goes_on_from_the_start_that_a_recipe_names(tmp_path: Path) -> None:
    base = plain_model("gpt_neo", torch.float32)
    base.save_pretrained(tmp_path / "base")
    recipe = Recipe(epochs=2, batch=100, learning_rate=0.01, start=str(tmp_path / "base"))
    assert same(weights(fresh_model(CONFIGS["gpt_neo"](), recipe)), weights(base))
    expected = plain_model("gpt_neo", torch.float32)
    use_sdpa(expected)
    train(expected, SEQUENCES, recipe)
    assert same(trained("gpt_neo", recipe, 2), weights(expected))
    assert not same(weights(expected), weights(base))
    with pytest.raises(HeadwaterError, match=r'"start": .*nowhere.* cannot be loaded'):
        fresh_model(CONFIGS["gpt_neo"](), Recipe(start=str(tmp_path / "nowhere")))


# -- retraining


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a model trained as the demo's is, but small; one story is too long for it, and one has one token."""
    folder = tmp_path_factory.mktemp("training")
    stories = [*STORIES, "So they walked on and on. " * 12, "a"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("HIDDEN", 16), ("POSITIONS", 48)):
            patch.setattr(new_model, name, value)
        make_model(stories, folder / "model", Recipe(epochs=2, seed=5), design=Design(vocabulary=300))
    lines = [json.dumps({"id": f"s{n}", "text": story}) for n, story in enumerate(stories)]
    write_text(folder / "corpus.jsonl", "\n".join(lines))
    return Run.create(
        folder / "run", str(folder / "model"), folder / "corpus.jsonl", options=CorpusOptions(long_texts="truncate")
    )


def retraining(run: Run, folder: Path) -> Retraining:
    questions = [run.question("Tom the otter lost", " his red hat"), run.question("They walked", " up the hill")]
    return retraining_of(run.lm, run.corpus, questions, recipe=None, folder=folder)


def test_retraining_on_everything_gives_the_runs_own_model(run: Run, tmp_path: Path) -> None:
    again = retraining(run, tmp_path)
    assert len(again.sequences) == 25
    assert same(weights(again.retrained(again.all()).model), weights(run.lm.model))
    assert not same(weights(again.retrained(again.without([3])).model), weights(run.lm.model))
    assert not same(weights(again.retrained(again.all(seed=1)).model), weights(run.lm.model))


def test_several_at_a_time_come_to_the_same_as_one_after_the_other(run: Run, tmp_path: Path) -> None:
    tasks = [replace(task, seed=seed) for task in half_tasks(2) for seed in (0, 1)]
    alone = retraining(run, tmp_path / "one").outcomes(tasks, jobs=1)
    steps: list[Step] = []
    own_folder = retraining(run, tmp_path / "two")
    own_folder.store(tasks[2])
    assert own_folder.outcomes(tasks, jobs=2, report=steps.append) == alone
    assert len({tuple(outcome.losses) for outcome in alone}) == 4
    assert (steps[0].done, steps[-1].done, steps[-1].total) == (1, 4, 4)


def half_tasks(count: int) -> list[Task]:
    rng = np.random.default_rng(0)
    return [Task(rng.permuted(np.arange(25) < 12), 0) for _ in range(count)]


def test_an_interrupted_retraining_goes_on_without_redoing_what_is_done(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = retrain.train

    def counting(model: Any, sequences: Any, *arguments: Any, **options: Any) -> Any:
        seen.append(len(sequences))
        return real(model, sequences, *arguments, **options)

    monkeypatch.setattr(retrain, "train", counting)
    tasks = half_tasks(4)
    whole = retraining(run, tmp_path / "whole").outcomes(tasks)
    assert seen == [12] * 4
    broken = retraining(run, tmp_path / "broken")
    told: list[Step] = []
    with pytest.raises(KilledError):
        broken.outcomes(tasks, report=after(2, told))
    assert len(seen) == 4 + 2, "killed between the second and the third"
    assert broken.outcomes([tasks[1], *tasks, tasks[1]]) == [whole[1], *whole, whole[1]]
    assert len(seen) == 4 + 4
    left = broken.folder / f"{tasks[2].key}.json"
    write_text(left.with_name(left.name + ".part"), '{"losses": [')
    left.unlink()
    assert broken.outcomes(tasks) == whole, "half a file is not read"
    assert len(seen) == 4 + 5


def after(done: int, told: list[Step]) -> Callable[[Step], None]:
    """A report that stands for a kill as soon as so many are done."""
    kill = kill_at(1)

    def report(step: Step) -> None:
        told.append(step)
        if step.done == done:
            kill(step)

    return report


def test_what_a_training_takes_is_told_from_those_that_were_done(run: Run, tmp_path: Path) -> None:
    again = retraining(run, tmp_path)
    assert again.seconds() is None
    for number, (examples, seconds) in enumerate([(10, 4.0), (20, 8.0), (5, 100.0)]):
        write_text(tmp_path / f"{number}-0.json", json.dumps({"examples": examples, "cpu_seconds": seconds}))
    assert again.seconds() == pytest.approx(0.4 * 25), "the median: one may have been disturbed"


# -- files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"epochs": 0}', "epochs: Input should be greater than or equal to 1"),
        ('{"epochs": "3"}', "epochs: Input should be a valid integer"),
        ('{"speed": 1}', "speed: Extra inputs are not permitted"),
        ('{"betas": [0.9, 1.0]}', "betas.1: Input should be less than 1"),
        ('{"warm_up": 0}', "warm_up: Input should be greater than 0"),
        ("{", "the file: Invalid JSON"),
        ("[]", "the file: Input should be an object"),
    ],
)
def test_a_recipe_that_is_none_is_refused_with_its_field(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(HeadwaterError) as error:
        read_recipe(write_text(tmp_path / "train.json", text))
    assert message in str(error.value)
    assert "learning_rate" in str(error.value), "it says which fields there are"


def test_a_recipe_is_read_as_it_was_written(tmp_path: Path) -> None:
    recipe = Recipe(epochs=3, betas=(0.8, 0.95), start="a/model", end=False, last_rate=0)
    assert read_recipe(recipe.save(tmp_path)) == recipe
    assert read_recipe(write_text(tmp_path / "short.json", '{"epochs": 3}')) == Recipe(epochs=3)
    with pytest.raises(HeadwaterError, match=r"none\.json cannot be read"):
        read_recipe(tmp_path / "none.json")


def test_every_sequence_ends_where_the_recipe_says_so(run: Run) -> None:
    given = [all_targets([5, 6, 7, 8], "a"), all_targets([5, 6], "b")]
    ended = Recipe().sequences(given, run.lm.tokenizer, 4)
    end = run.lm.tokenizer.eos_token_id
    assert [one.input_ids.tolist() for one in ended] == [[5, 6, 7, end], [5, 6, end]]
    assert all(one.targets.tolist() == [False] + [True] * (len(one.targets) - 1) for one in ended)
    cut = Recipe(end=False).sequences(given, run.lm.tokenizer, 3)
    assert [one.input_ids.tolist() for one in cut] == [[5, 6, 7], [5, 6]]


def test_checkpoints_are_equally_spaced_and_the_last_is_the_model(tmp_path: Path) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    rates: dict[int, float] = {}

    def watch(moment: TrainingStep) -> None:
        moments[moment.step], rates[moment.step] = moment.second_moments(), moment.rate

    CONFIGS["gpt_neo"]().save_pretrained(tmp_path)
    design = Design(tmp_path / "config.json", 300, checkpoints=3)
    made = make_model(STORIES, tmp_path / "model", Recipe(epochs=5, batch=6), design=design, watch=watch)
    assert made.trained.steps == 20
    found = read_checkpoints(tmp_path / "model" / "checkpoints")
    assert [one.step for one in found] == [7, 14, 20]
    for one in found:
        assert one.rate == pytest.approx(rates[one.step])
        kept = one.adam(load_model(one.name))
        assert kept is not None
        assert same(dict(kept.second_moments), moments[one.step])
    final = tmp_path / "model"
    states = [load_tensors(path / "model.safetensors") for path in (Path(found[-1].name), final, Path(found[0].name))]
    assert same(states[0], states[1])
    assert not same(states[2], states[1])
    ours = second_moments(final)
    assert ours is not None
    assert same(ours, moments[20])
    assert json.loads((final / STATE_FILE).read_text("utf-8"))["steps"] == 20
    assert read_recipe(final / RECIPE_FILE) == Recipe(epochs=5, batch=6)
    assert not list(final.rglob("*.part"))
    (Path(found[0].name) / MOMENTS_FILE).unlink()
    (Path(found[0].name) / STATE_FILE).unlink()
    (final / "checkpoints" / "notes").mkdir()
    bare = read_checkpoints(final / "checkpoints")[0]
    assert (bare.step, bare.rate, bare.adam(load_model(bare.name))) == (7, None, None)


# -- the command line


def headwater(*arguments: str | Path | int) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "250"})


def test_a_model_is_trained_fitted_and_evaluated_from_the_command_line(tmp_path: Path) -> None:
    corpus = write_text(tmp_path / "stories.jsonl", "\n".join(json.dumps({"story": story}) for story in STORIES))
    recipe = write_text(tmp_path / "recipe.json", '{"epochs": 2, "batch": 6, "end": false}')
    CONFIGS["gpt2"]().save_pretrained(tmp_path)
    model, run = tmp_path / "model", tmp_path / "run"
    asked = ("--recipe", recipe, "--config", tmp_path / "config.json", "--vocabulary", 300, "--checkpoints", 2)
    made = headwater("train", corpus, model, *asked, "--text-field", "story")
    assert made.exit_code == 0, made.output
    assert "8 steps" in made.output
    assert AutoModelForCausalLM.from_pretrained(model).config.model_type == "gpt2"
    assert read_recipe(model / RECIPE_FILE) == Recipe(epochs=2, batch=6, end=False)
    fitted = headwater("fit", run, "--model", model, "--corpus", corpus, "--text-field", "story")
    assert fitted.exit_code == 0, fitted.output
    lines = [{"id": f"q{n}", "prompt": STORIES[n][:-9], "completion": STORIES[n][-9:]} for n in range(3)]
    queries = write_text(tmp_path / "queries.jsonl", "\n".join(map(json.dumps, lines)))
    methods = [("--method", name) for name in ("ekfac", "tracin", "source", "trackstar")]
    found = headwater(
        "evaluate",
        run,
        "--queries",
        queries,
        *(part for pair in methods for part in pair),
        "--subsets",
        3,
        "--metric",
        "lds",
        "--metric",
        "tail-patch",
        "--checkpoints",
        model / "checkpoints",
        "--jobs",
        1,
    )
    assert found.exit_code == 0, found.output
    table = pq.read_table(run / "evaluate" / "results.parquet").to_pylist()
    assert {row["method"] for row in table} == {"ekfac", "tracin", "source", "trackstar"}
    assert {row["query"] for row in table} == {"q0", "q1", "q2"}
    assert all(math.isfinite(row["of_query"]) for row in table)
    patched = [row["of_query"] for row in table if row["metric"] == "tail patch, nats"]
    assert np.mean(patched) > 0, "a step on what was found makes the queries likelier"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{}", "is not the configuration of a causal language model: 'model_type'"),
        ('{"model_type": "abacus"}', "is not the configuration of a causal language model"),
        ("gpt2", "is not the configuration of a causal language model"),
        (None, "cannot be read"),
    ],
)
def test_a_configuration_that_is_none_is_refused(config: str | None, message: str, tmp_path: Path) -> None:
    corpus = write_text(tmp_path / "stories.txt", "\n\n".join(TEXT))
    if config is not None:
        write_text(tmp_path / "config.json", config)
    error = headwater("train", corpus, tmp_path / "model", "--config", tmp_path / "config.json").exception
    assert isinstance(error, HeadwaterError)
    assert message in str(error)
    assert "config.json" in str(error)
    assert not (tmp_path / "model").exists()


def test_a_model_is_not_written_over(run: Run, tmp_path: Path) -> None:
    corpus = write_text(tmp_path / "stories.txt", "\n\n".join(TEXT))
    error = headwater("train", corpus, run.lm.name).exception
    assert isinstance(error, HeadwaterError)
    assert "already contains a model" in str(error)
    assert same(weights(load_model(run.lm.name).model), weights(run.lm.model))
