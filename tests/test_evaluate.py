"""The metrics are what they say, the ground truth resumes, removals are judged fairly, and the command does it all."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr
from typer.testing import CliRunner

import headwater.cli.evaluate  # noqa: F401  # pyright: ignore[reportUnusedImport]
from headwater.attribution.question import describe
from headwater.base.files import write_text
from headwater.base.progress import Report, Step, silent
from headwater.cli import app
from headwater.demo import build
from headwater.errors import HeadwaterError
from headwater.evaluate.context import EvaluationContext, open_context
from headwater.evaluate.methods import parse_methods
from headwater.evaluate.metrics import correlations, correlations_of, lds, mean, trace
from headwater.evaluate.queries import EvalQuery, read_evaluation_queries, select_queries
from headwater.evaluate.removal import CONTROLS, Removals, completed, loss_increase, removals_to_flip
from headwater.evaluate.truth import Truth, ground_truth
from headwater.render.plots import read_costs
from headwater.runs.run import Run
from headwater.sweep.engine import LOCAL_ENGINE
from headwater.training import new_model, retrain
from headwater.training.outcome import Outcome, measure
from headwater.training.recipe import Recipe
from headwater.training.retrain import Retraining, Task
from tests.killing import KilledError


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as the demo makes it, of the smallest world and a narrow model that has read it once."""
    demo = build.Demo(tmp_path_factory.mktemp("evaluate") / "run", 200, 0, epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(new_model, "HIDDEN", 32)
        build.build_model(demo, build.build_world(demo), lambda _: None)
    Run.create(demo.path, str(demo.model), demo.corpus).fit()
    return demo.path


@pytest.fixture(scope="module")
def scene(place: Path, tmp_path_factory: pytest.TempPathFactory) -> EvaluationContext:
    return open_context(place, tmp_path_factory.mktemp("work"))


# -- metrics


def halves(rng: np.random.Generator, subsets: int, examples: int) -> Any:
    """[M, N] random halves."""
    return rng.permuted(np.tile(np.arange(examples) < examples // 2, (subsets, 1)), axis=1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("tied", [False, True])
def test_correlations_are_spearmans(seed: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    members, losses = halves(rng, 17, 30), rng.normal(size=(17, 4))
    scores = rng.integers(0, 2, (30, 4)) if tied else rng.normal(size=(30, 4))
    if tied:
        losses = losses.round()
    found = correlations(scores, members, losses)
    assert found.shape == (1, 4)
    for q in range(4):
        expected: Any = spearmanr((members @ scores)[:, q], -losses[:, q])
        assert found[0, q] == pytest.approx(expected.statistic, abs=1e-12)


def test_a_weight_counts_a_subset_as_often_as_repeating_it() -> None:
    rng = np.random.default_rng(0)
    members, losses, scores = halves(rng, 12, 20), rng.normal(size=(12, 3)), rng.normal(size=(20, 3))
    weights = rng.multinomial(12, np.full(12, 1 / 12), 6)
    found = correlations(scores, members, losses, weights=weights)
    for counts, row in zip(weights, found, strict=True):
        again = np.repeat(np.arange(12), counts)
        np.testing.assert_allclose(row, correlations(scores, members[again], losses[again])[0], atol=1e-12)


def test_a_constant_score_predicts_nothing() -> None:
    rng = np.random.default_rng(0)
    members, losses = halves(rng, 12, 20), rng.normal(size=(12, 3))
    assert correlations(np.full((20, 3), 0.1), members, losses).tolist() == [[0, 0, 0]]


def test_a_perfect_predictor_has_lds_1_and_a_random_one_0() -> None:
    rng = np.random.default_rng(0)
    members, effects = halves(rng, 64, 200), rng.normal(size=(200, 20))
    losses = 3.0 - members @ effects
    assert lds(effects, members, losses).value == pytest.approx(1)
    assert lds(7.5 * effects + 2, members, losses).value == pytest.approx(1), "neither scale nor offset counts"
    assert lds(-effects, members, losses).value == pytest.approx(-1)
    chance = lds(rng.normal(size=(200, 20)), members, losses).interval
    assert chance.low < 0 < chance.high
    assert abs(chance.value) < 0.1


def test_the_interval_of_the_lds_covers_what_more_queries_and_subsets_would_give() -> None:
    def measured(rng: np.random.Generator, subsets: int, queries: int) -> Any:
        effects, noise = rng.normal(size=(2, 40, queries))
        members = halves(rng, subsets, 40)
        return effects + noise, members, -(members @ effects)

    truth = float(correlations(*measured(np.random.default_rng(0), 800, 200)).mean())
    drawn = [lds(*measured(np.random.default_rng(k), 40, 25), resamplings=200).interval for k in range(1, 61)]
    covering = sum(one.low <= truth <= one.high for one in drawn)
    assert covering >= 0.85 * 60
    assert all(one.low < one.value < one.high for one in drawn)
    again = lds(*measured(np.random.default_rng(1), 40, 25), resamplings=200)
    assert again.interval == drawn[0]


def test_a_small_difference_between_methods_shows_where_both_are_measured_on_the_same_things() -> None:
    """One method is the other with a little noise: their intervals overlap, and that of the difference leaves out 0."""
    rng = np.random.default_rng(0)
    members, effects = halves(rng, 64, 100), rng.normal(size=(100, 12))
    losses = -(members @ effects) + 6 * rng.normal(size=(64, 12))
    noisy = effects + 0.6 * rng.normal(size=(100, 12))
    better, worse = lds(effects, members, losses), lds(noisy, members, losses)
    assert worse.interval.high > better.interval.low
    gain = better.less(worse)
    assert gain.value == pytest.approx(better.value - worse.value)
    assert 0 < gain.interval.low < gain.value < gain.interval.high
    paired = gain.interval.high - gain.interval.low
    assert paired < 0.7 * math.hypot(*(one.interval.high - one.interval.low for one in (better, worse)))
    assert worse.less(better).interval.high == pytest.approx(-gain.interval.low)


def test_the_interval_of_a_mean_covers_it() -> None:
    draws = np.random.default_rng(0).random((100, 30))
    intervals = [mean(row.tolist()).interval for row in draws]
    assert sum(one.low <= 0.5 <= one.high for one in intervals) >= 85
    assert intervals[0].value == pytest.approx(draws[0].mean())


@pytest.mark.parametrize("seed", range(5))
def test_facts_are_traced_by_rank(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=50)
    for times in (1, 3, 10, 20):
        stating = np.isin(np.arange(50), rng.choice(50, times, replace=False))
        ranked = sorted(range(50), key=lambda z: -scores[z])
        found = trace(scores, stating)
        assert found.reciprocal_rank == 1 / (1 + next(r for r, z in enumerate(ranked) if stating[z]))
        assert found.recall == sum(stating[z] for z in ranked[:10]) / min(10, times)
    assert trace(np.where(stating, 1.0, 0.0), stating) == trace(np.where(stating, 9.0, 0.0), stating)


def test_ties_are_broken_by_chance_rather_than_by_place() -> None:
    first = np.arange(1000) < 10
    assert trace(np.zeros(1000), first).recall < 0.5
    assert trace(np.zeros(1000), first, seed=1) == trace(np.zeros(1000), first, seed=1)


# -- ground truth


@pytest.mark.parametrize("seeds", [2, 4])
@pytest.mark.parametrize("reliability", [0.2, 0.5, 0.9])
def test_the_noise_ceiling_is_what_foretelling_the_mean_without_noise_would_reach(
    seeds: int, reliability: float
) -> None:
    """Losses are a part that the subset decides and a part that is chance, which has 1/reliability − 1 its variance."""
    rng = np.random.default_rng(0)
    decided = rng.normal(size=(256, 64))
    losses = decided + math.sqrt(1 / reliability - 1) * rng.normal(size=(seeds, 256, 64))
    truth = Truth(np.zeros((256, 10), np.bool_), losses)
    reached = float(correlations_of(decided, truth.losses).mean())
    assert truth.ceiling() == pytest.approx(reached, abs=0.02)


def test_there_is_no_ceiling_where_nothing_says_how_much_is_chance() -> None:
    losses = np.random.default_rng(0).normal(size=(1, 20, 3))
    members = np.zeros((20, 10), np.bool_)
    assert Truth(members, losses).ceiling() is None
    assert Truth(members, np.concatenate([losses, losses])).ceiling() == pytest.approx(1)
    assert Truth(members, np.concatenate([losses, -losses])).ceiling() == 0, "no root of less than nothing"


def test_the_ground_truth_resumes_without_training_a_finished_subset_again(
    scene: EvaluationContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    real, killed = retrain.train, [False]

    def counting(*arguments: Any, **options: Any) -> Any:
        trained.append(len(arguments[1]))
        if killed[0] and len(trained) == 2:
            raise KilledError
        return real(*arguments, **options)

    monkeypatch.setattr(retrain, "train", counting)
    original = scene.retraining
    whole = ground_truth(replace(original, folder=tmp_path / "whole"), 3)
    assert whole.members.shape == (3, 200)
    assert whole.losses.shape == (3, len(scene.queries))
    assert whole.members.sum(1).tolist() == trained == [100] * 3
    assert len({row.tobytes() for row in whole.members}) == 3
    trained.clear()
    broken = replace(original, folder=tmp_path / "broken")
    killed[0] = True
    with pytest.raises(KilledError):
        ground_truth(broken, 3)
    killed[0] = False
    assert len(list(broken.folder.glob("*-0.json"))) == 1
    again = ground_truth(broken, 3)
    assert len(trained) == 4
    np.testing.assert_array_equal(again.losses, whole.losses)
    np.testing.assert_array_equal(again.members, whole.members)
    steps: list[Step] = []
    more = ground_truth(broken, 3, seeds=2, report=steps.append)
    assert len(trained) == 7, "a second seed adds to the first"
    assert [(step.done, step.total) for step in steps if not step.note] == [(3, 6), (4, 6), (5, 6), (6, 6)]
    assert more.by_seed.shape == (2, 3, len(scene.queries))
    np.testing.assert_array_equal(more.by_seed[0], whole.losses)
    np.testing.assert_array_equal(more.losses, more.by_seed.mean(0))
    assert np.abs(more.by_seed[1] - more.by_seed[0]).max() > 0.01


def test_ground_truth_of_something_else_is_refused(scene: EvaluationContext, tmp_path: Path) -> None:
    kept = replace(scene.retraining, folder=tmp_path)
    kept.outcomes([])
    for other in (
        replace(kept, recipe=kept.recipe.model_copy(update={"epochs": 9})),
        replace(kept, recipe=kept.recipe.model_copy(update={"seed": 1})),
        replace(kept, fingerprint="another"),
        replace(kept, questions=kept.questions[1:]),
    ):
        with pytest.raises(HeadwaterError, match="Choose another directory, or delete this one"):
            ground_truth(other, 3)
    with pytest.raises(HeadwaterError, match="needs at least 3"):
        ground_truth(kept, 2)


def test_a_retrained_model_is_measured_as_the_query_is_explained(scene: EvaluationContext) -> None:
    found = measure(scene.run.lm, scene.questions)
    assert found.losses == pytest.approx([describe(scene.run.lm, one).loss for one in scene.questions], rel=1e-4)
    one = replace(scene.questions[0], contrast=scene.questions[1])
    assert measure(scene.run.lm, [one]).losses[0] == pytest.approx(found.losses[0] - found.losses[1], rel=1e-4)
    said = [scene.run.question(query.prompt) for query in scene.queries[:3]]  # what the model itself goes on with
    assert measure(scene.run.lm, said).correct == [True] * 3
    assert measure(scene.run.lm, scene.questions[:3]).correct == [False] * 3, "it has read each story once"


# -- removals


@dataclass(frozen=True, kw_only=True)
class Simulated(Retraining):
    """Retraining as it would come out: each example's removal raises a query's loss by its effect."""

    effects: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    """[N, Q]"""
    bearable: Sequence[int | None] = ()
    """[Q] how many of the strongest examples of `effects` can go before the completion is lost; None is all."""
    asked: list[Task] = field(default_factory=list[Task])

    def outcomes(self, tasks: Sequence[Task], jobs: int = 1, report: Report = silent) -> list[Outcome]:
        self.asked.extend(tasks)
        return [self.outcome(task) for task in tasks]

    def outcome(self, task: Task) -> Outcome:
        gone = ~task.members
        order = np.argsort(-self.effects, axis=0)
        lost = [int(gone[order[:, q]].argmin()) if not gone.all() else len(gone) for q in range(order.shape[1])]
        correct = [most is None or count <= most for count, most in zip(lost, self.bearable, strict=True)]
        return Outcome((5 + gone @ self.effects).tolist(), correct)


def simulated(examples: int, queries: int, bearable: Sequence[int | None] | None = None) -> Simulated:
    effects = np.random.default_rng(examples).normal(size=(examples, queries))
    return Simulated(
        recipe=Recipe(),
        config=None,
        tokenizer=None,
        sequences=[None] * examples,  # pyright: ignore[reportArgumentType]
        questions=[],
        fingerprint="",
        folder=Path(),
        engine=LOCAL_ENGINE,  # pyright: ignore[reportArgumentType]
        effects=effects,
        bearable=[None] * queries if bearable is None else bearable,
    )


def test_qld_is_the_loss_without_the_top_hundredth_less_that_without_random_ones() -> None:
    world = simulated(500, 4)
    scores = np.random.default_rng(1).normal(size=(500, 4))
    found = loss_increase(Removals(retraining=world, queries=[0, 2, 3], seed=7), scores)
    controls = world.asked[:CONTROLS]
    assert [int((~task.members).sum()) for task in world.asked] == [5] * (CONTROLS + 3)
    assert len({task.key for task in controls}) == CONTROLS
    for q, rise in zip([0, 2, 3], found, strict=True):
        top = world.effects[np.argsort(-scores[:, q])[:5], q].sum()
        chance = np.mean([world.effects[~task.members, q].sum() for task in controls])
        assert rise == pytest.approx(top - chance)
    other = loss_increase(Removals(retraining=world, queries=[0, 2, 3], seed=7), world.effects)
    assert [task.key for task in world.asked[CONTROLS + 3 :][:CONTROLS]] == [task.key for task in controls]
    assert min(np.subtract(other, found)) > 0, "nothing is worth more than the truth"


@pytest.mark.parametrize("examples", [50, 260, 1000])
def test_brittleness_is_the_least_rung_that_flips(examples: int) -> None:
    """For every number of removals that a completion can bear, at once, and with few retrainings."""
    ladder = Removals(retraining=simulated(examples, 1), queries=[0]).ladder()
    assert ladder == sorted(set(ladder))
    assert ladder[0] >= 1
    assert {examples // 100 or 1, 4 * (examples // 100 or 1)} <= set(ladder)
    cases: list[int | None] = [*range(ladder[-1] + 2), None]
    world = simulated(examples, len(cases), cases)
    found = removals_to_flip(Removals(retraining=world, queries=list(range(len(cases)))), world.effects)
    expected = [next((rung for rung in ladder if most is not None and rung > most), None) for most in cases]
    assert found == expected
    assert set(expected) == {*ladder, None}
    assert len(world.asked) <= 3 * len(cases)


def test_only_what_the_model_completes_can_be_flipped() -> None:
    world = simulated(100, 3, [0, -1, None])  # the second is not said even by the model trained on everything
    assert completed(Removals(retraining=world, queries=[0, 1, 2])) == [0, 2]
    assert completed(Removals(retraining=world, queries=[1])) == []


# -- queries


def test_queries_are_read_line_by_line(tmp_path: Path) -> None:
    lines = [
        {"id": "a", "prompt": "He said", "completion": " yes.\u2028", "stories": ["s1", "s2"], "kind": "fears"},
        {"id": "b", "prompt": "", "completion": " no."},
    ]
    text = "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    found = read_evaluation_queries(write_text(tmp_path / "queries.jsonl", text))
    assert found == (EvalQuery("a", "He said", " yes.\u2028", ("s1", "s2")), EvalQuery("b", "", " no."))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "a", "prompt": "x", "completion": "y"}\n{"id": "b", "prompt": "x"}', "line 2: completion: Field requ"),
        ('\n{"id": 3, "prompt": "x", "completion": "y"}', "line 2: id: Input should be a valid string"),
        ('{"id": "a", "prompt": "x", "completion": "y"}\n{"id"', "line 2 is not JSON"),
        ('{"id": "a", "prompt": "x", "completion": "y"}\n' * 2, "the id 'a' occurs twice"),
        ("[1]", "line 1"),
        ("\n", "has no query"),
        ("\udcff", "queries.jsonl:1: invalid UTF-8 (0xff)"),
    ],
)
def test_a_file_that_holds_no_queries_is_refused_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "queries.jsonl").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(HeadwaterError) as error:
        read_evaluation_queries(tmp_path / "queries.jsonl")
    assert message in str(error.value)
    assert "queries.jsonl" in str(error.value)


def test_a_few_queries_are_taken_from_every_number_of_stories() -> None:
    stated = [0, 1, 1, 1, 3, 3, 10]
    queries = [EvalQuery(str(k), "", "x", ("s",) * times) for k, times in enumerate(stated)]
    assert select_queries(queries, 4) == [0, 1, 4, 6], "the first of each"
    assert select_queries(queries, 6) == [0, 1, 2, 4, 5, 6]
    assert select_queries(queries, 99) == list(range(7))


# -- the command line


def evaluate(*arguments: str | Path | int) -> Any:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments), "--jobs", "1"], env={"COLUMNS": "250"})


def test_the_command_draws_a_table_and_the_second_time_computes_nothing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("--metric", "lds", "--metric", "trace", "--metric", "qld", "--metric", "brittleness", "--removed", 1)
    arguments = (place, "--method", "random", "--method", "ekfac", "--subsets", 3, "--seeds", 2, *asked)
    first = evaluate(*arguments, "--work", tmp_path)
    assert first.exit_code == 0, first.output
    for words in ("LDS minus ekfac's", "recall@10, 10×", "QLD, nats", "Noise ceiling", "3 halves × 2 trainings"):
        assert words in first.output
    drawn = (tmp_path / "results.md").read_text("utf-8")
    rows = [line.split(" | ")[0] for line in drawn.splitlines() if line.startswith("|")]
    assert rows[:2] == ["| method", "| ---"]
    assert set(rows[2:]) == {"| ekfac", "| random"}
    table = pq.read_table(tmp_path / "results.parquet").to_pylist()
    for method in ("ekfac", "random"):
        own = {row["query"]: row for row in table if row["method"] == method and row["metric"] == "LDS"}
        assert len(own) == 9
        assert all(-1 <= row["of_query"] <= 1 for row in own.values())
        for row in own.values():
            assert row["value"] == pytest.approx(np.mean([one["of_query"] for one in own.values()]))
    picture = read_costs(tmp_path / "results.parquet")
    rows = {row["method"]: row for row in table if row["metric"] == "LDS"}
    assert {(p.method, p.value, p.low, p.high, p.cpu_seconds) for p in picture.points} == {
        (name, row["value"], row["low"], row["high"], row["cpu_seconds"]) for name, row in rows.items()
    }
    unit = picture.unit
    assert unit is not None
    assert f"| {rows['ekfac']['cpu_seconds'] / unit:.2f} |" in drawn, "in trainings, as the table says"
    drawn_again = picture.save(tmp_path / "again.svg").read_bytes()
    assert (tmp_path / "results.svg").read_bytes() == drawn_again
    monkeypatch.setattr(retrain, "train", None)
    monkeypatch.setattr("headwater.evaluate.gradients.fold", None)
    second = evaluate(*arguments, "--work", tmp_path)
    assert second.exit_code == 0, second.output
    assert second.stdout == first.stdout


def test_what_is_not_measured_needs_no_recipe(place: Path, tmp_path: Path) -> None:
    """A model of somebody else's making can still be asked whether the stories of a fact are found."""
    model = tmp_path / "model"
    model.mkdir()
    for file in (place / "model").iterdir():
        if file.is_file() and file.name not in ("train.json", "learned.json"):
            (model / file.name).write_bytes(file.read_bytes())
    Run.create(tmp_path / "run", str(model), place / "world.jsonl").fit(curvature="diagonal")
    first = json.loads((place / "world.facts.jsonl").read_text("utf-8").splitlines()[0])
    queries = write_text(tmp_path / "queries.jsonl", json.dumps(first))
    asked = (tmp_path / "run", "--queries", queries, "--method", "planted", "--method", "overlap")
    traced = evaluate(*asked, "--metric", "trace")
    assert traced.exit_code == 0, traced.output
    assert "1.000 [1.000, 1.000]" in traced.stdout
    refused = evaluate(*asked).exception
    assert isinstance(refused, HeadwaterError)
    assert "Name its recipe with --recipe train.json" in str(refused)


def test_mistakes_end_in_one_clear_message(place: Path, tmp_path: Path) -> None:
    Run.create(tmp_path / "run", str(place / "model"), place / "world.jsonl")
    for arguments, message in (
        ((place, "--method", "nearest"), "--method nearest: there is no such method. Choose among ekfac, kfac"),
        ((place, "--metric", "speed"), "--metric speed: there is no such metric. Choose among lds, trace, qld"),
        ((place, "--metric", "trace", "--method", "exact"), "Track fewer layers"),
        ((place, "--metric", "trace", "--method", "tracin"), "Name them with --checkpoints"),
        ((place, "--recipe", tmp_path / "none.json"), "none.json"),
        ((place, "--queries", tmp_path / "none.jsonl"), "none.jsonl: No such file"),
        ((tmp_path / "run",), "Name a file with --queries"),
        ((tmp_path / "nowhere",), "not a Headwater run"),
    ):
        error = evaluate(*arguments, "--work", tmp_path / "work").exception
        assert isinstance(error, HeadwaterError), arguments
        assert message in str(error)


def test_knowing_the_facts_traces_them_all(scene: EvaluationContext) -> None:
    scores = parse_methods(["planted"])[0].score(scene)
    assert scene.stating.sum(0).tolist() == [len(query.stories) for query in scene.queries]
    assert all(trace(scores[:, q], scene.stating[:, q]).recall == 1 for q in range(len(scene.queries)))
