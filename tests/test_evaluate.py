"""The metrics are what they say, the ground truth resumes, and the methods are those that a run answers with."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr
from typer.testing import CliRunner

import headwater.cli.evaluate  # noqa: F401  # pyright: ignore[reportUnusedImport]
from headwater.cli import app
from headwater.demo import build
from headwater.demo.tiny_lm import train
from headwater.errors import HeadwaterError
from headwater.evaluate import retrain
from headwater.evaluate.leaderboard import score
from headwater.evaluate.methods import CgOptions, choose, methods
from headwater.evaluate.metrics import correlations, lds, mean, trace
from headwater.evaluate.retrain import Recipe, ground_truth
from headwater.evaluate.scene import EvalScene, open_scene
from headwater.evaluate.words import bm25, overlap, words
from headwater.influence.question import describe
from headwater.run import Run
from headwater.sweep.progress import Step
from tests.killing import KilledError, kill_at


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as the demo makes it, of the smallest world and a model that has read it once."""
    demo = build.Demo(tmp_path_factory.mktemp("evaluate") / "run", 200, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "train", partial(train, epochs=1))
        build.build_model(demo, build.build_world(demo), lambda _: None)
    Run.create(demo.path, str(demo.model), demo.corpus).fit()
    return demo.path


@pytest.fixture(scope="module")
def scene(place: Path, tmp_path_factory: pytest.TempPathFactory) -> EvalScene:
    return open_scene(place, tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def recipe(scene: EvalScene) -> Recipe:
    return scene.recipe()


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
    found = correlations(scores, members, losses, weights)
    for counts, row in zip(weights, found, strict=True):
        again = np.repeat(np.arange(12), counts)
        np.testing.assert_allclose(row, correlations(scores, members[again], losses[again])[0], atol=1e-12)


def test_a_constant_score_foretells_nothing() -> None:
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
    chance = lds(rng.normal(size=(200, 20)), members, losses)
    assert chance.low < 0 < chance.high
    assert abs(chance.value) < 0.1


def test_the_interval_of_the_lds_covers_what_more_queries_and_subsets_would_give() -> None:
    def measured(rng: np.random.Generator, subsets: int, queries: int) -> Any:
        effects, noise = rng.normal(size=(2, 40, queries))
        members = halves(rng, subsets, 40)
        return effects + noise, members, -(members @ effects)

    truth = float(correlations(*measured(np.random.default_rng(0), 800, 200)).mean())
    drawn = [lds(*measured(np.random.default_rng(k), 40, 25), resamplings=200) for k in range(1, 61)]
    covering = sum(one.low <= truth <= one.high for one in drawn)
    assert covering >= 0.85 * 60
    assert all(one.low < one.value < one.high for one in drawn)
    assert lds(*measured(np.random.default_rng(1), 40, 25)) == lds(*measured(np.random.default_rng(1), 40, 25))


def test_the_interval_of_a_mean_covers_it() -> None:
    draws = np.random.default_rng(0).random((100, 30))
    intervals = [mean(row.tolist()) for row in draws]
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


def test_the_ground_truth_resumes_without_training_a_finished_subset_again(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []

    def counting(*arguments: Any, **options: Any) -> Any:
        trained.append(len(arguments[0]))
        return train(*arguments, **options)

    monkeypatch.setattr(retrain, "train", counting)
    whole = ground_truth(recipe, 3, tmp_path / "whole")
    assert whole.members.shape == (3, 200)
    assert whole.losses.shape == (3, len(recipe.facts))
    assert whole.members.sum(1).tolist() == trained == [100] * 3
    assert len({row.tobytes() for row in whole.members}) == 3
    trained.clear()
    with pytest.raises(KilledError):
        ground_truth(recipe, 3, tmp_path / "broken", kill_at(5))
    assert len(trained) == 2, "killed in the middle of the second"
    assert [path.name for path in sorted((tmp_path / "broken").iterdir())] == ["00000.json", "settings.json"]
    again = ground_truth(recipe, 3, tmp_path / "broken")
    assert len(trained) == 4
    np.testing.assert_array_equal(again.losses, whole.losses)
    np.testing.assert_array_equal(again.members, whole.members)
    steps: list[Step] = []
    fewer = ground_truth(replace(recipe, texts=list(recipe.texts)), 3, tmp_path / "broken", steps.append)
    assert len(trained) == 4
    assert [(step.done, step.total) for step in steps] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    np.testing.assert_array_equal(fewer.losses, whole.losses)


def test_ground_truth_of_something_else_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    retrain._bind(tmp_path, recipe)
    for other in (replace(recipe, seed=1), replace(recipe, epochs=9), replace(recipe, fingerprint="another")):
        with pytest.raises(HeadwaterError, match="Give --work a directory of its own"):
            ground_truth(other, 3, tmp_path)
    with pytest.raises(HeadwaterError, match="needs at least three"):
        ground_truth(recipe, 2, tmp_path)


def test_a_retrained_model_is_measured_as_the_query_is_explained(scene: EvalScene) -> None:
    lm = scene.run.lm
    measured = [fact.loss for fact in retrain.recall(lm.model, lm.tokenizer, scene.facts)]
    assert measured == pytest.approx([describe(lm, question).loss for question in scene.questions], rel=1e-4)


def test_training_on_everything_with_the_runs_tokenizer_gives_the_runs_model(scene: EvalScene, tmp_path: Path) -> None:
    recipe = scene.recipe()
    train(recipe.texts, tmp_path, epochs=recipe.epochs, seed=recipe.seed, tokenizer=recipe.tokenizer)
    original = scene.run.path / "model" / "model.safetensors"
    assert (tmp_path / "model.safetensors").read_bytes() == original.read_bytes()


# -- methods


@pytest.fixture(scope="module")
def scanned(scene: EvalScene, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """[N, Q] by `Run.scan`."""
    path = scene.run.scan(scene.questions, tmp_path_factory.mktemp("scan") / "scores.parquet")
    table = pq.read_table(path)
    return np.stack([table[question.id].to_numpy() for question in scene.questions], axis=1)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_ekfac_is_an_exact_scan(scene: EvalScene, scanned: Any) -> None:
    close(methods()["ekfac"].score(scene), scanned)


def test_relative_divides_by_the_examples_own_norm(scene: EvalScene, scanned: Any) -> None:
    norms = np.sqrt(scene.run.self_influence(scene.run.curvature()))
    close(methods()["relative"].score(scene), scanned / norms[:, None])


@pytest.mark.parametrize(("name", "kind"), [("kfac", "kfac"), ("diagonal", "diagonal"), ("dot", "identity")])
def test_other_curvatures_are_those_that_a_run_would_fit(
    name: str, kind: str, scene: EvalScene, place: Path, tmp_path: Path
) -> None:
    other = Run.create(tmp_path / "run", scene.run.lm, place / "world.jsonl")
    other.fit(curvature=kind)
    table = pq.read_table(other.scan(scene.questions, tmp_path / "scores.parquet"))
    expected = np.stack([table[question.id].to_numpy() for question in scene.questions], axis=1)
    for _ in range(2):  # fitted, and then read
        close(methods()[name].score(scene), expected)
    assert scene.run.curvature().kind == "ekfac", "the run's own is left as it is"


def test_the_cosine_is_bounded_and_orders_as_the_dot_product_does_among_equals(scene: EvalScene) -> None:
    cosine, dot = methods()["cosine"].score(scene), methods()["dot"].score(scene)
    assert np.abs(cosine).max() <= 1 + 1e-4
    assert np.abs(cosine).max() > 0.05
    np.testing.assert_array_equal(np.sign(cosine), np.sign(dot))
    ratios = dot / cosine  # lengths of examples times lengths of queries
    np.testing.assert_allclose(ratios / ratios[:1], (ratios / ratios[:1])[:, :1] @ np.ones((1, 9)), rtol=1e-2)


def test_conjugate_gradients_score_as_a_question_with_that_solver(scene: EvalScene) -> None:
    one = replace(scene, facts=scene.facts[:1])
    scores = choose(["cg"], CgOptions(2, 20))[0].score(one)[:, 0]
    answer = scene.run.ask(one.questions[0], k=200, fold=False, solver="cg", iterations=2, subset=20)
    for example in answer.proponents + answer.opponents:
        place = scene.run.corpus.position[example.id]
        assert scores[place] == pytest.approx(example.influence, rel=1e-3, abs=1e-3)


def test_overlap_counts_words_pairs_and_triples() -> None:
    scores = overlap(["The cat sat.", "Sat, the cat!", "a dog"], ["the cat sat"])
    assert scores[:, 0].tolist() == [1.0, pytest.approx(4 / 6), 0.0]


def test_bm25_is_okapis() -> None:
    pytest.importorskip("bm25s")
    texts, query = ["the cat sat on the mat", "a dog sat", "the the dog", "birds"], "the dog and a unicorn"
    lengths = [len(words(text)) for text in texts]
    expected: list[float] = []
    for text, length in zip(texts, lengths, strict=True):
        total = 0.0
        for word in words(query):
            having = sum(word in words(other) for other in texts)
            count = words(text).count(word)
            scale = 1.5 * (0.25 + 0.75 * length / (sum(lengths) / 4))
            total += math.log(1 + (4 - having + 0.5) / (having + 0.5)) * count / (count + scale) if having else 0.0
        expected.append(total)
    np.testing.assert_allclose(bm25(texts, [query, "unicorn"])[:, 0], expected, rtol=1e-5)
    assert not bm25(texts, ["unicorn"]).any()


def test_scores_are_kept_and_made_anew_for_other_settings(scene: EvalScene) -> None:
    random = methods()["random"]
    first = score(scene, random)
    unusable = replace(random, score=lambda _: pytest.fail("scored again"))
    np.testing.assert_array_equal(score(scene, unusable).scores, first.scores)
    other = replace(random, settings="other", score=lambda scene: np.zeros((200, len(scene.facts))))
    assert not score(scene, other).scores.any()


def test_knowing_the_facts_traces_them_all(scene: EvalScene) -> None:
    scores, stating = methods()["planted"].score(scene), scene.stating()
    assert stating.sum(0).tolist() == [fact.times for fact in scene.facts]
    assert all(trace(scores[:, q], stating[:, q]).recall == 1 for q in range(len(scene.facts)))


# -- the command line


def evaluate(*arguments: str | Path | int) -> Any:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)], env={"COLUMNS": "200"})


def test_the_command_draws_a_table_and_the_second_time_computes_nothing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (place, "--method", "ekfac", "--method", "random", "--subsets", 3, "--work", tmp_path)
    first = evaluate(*arguments)
    assert first.exit_code == 0, first.output
    assert "recall@10, 10×" in first.stdout
    lines = (tmp_path / "results.md").read_text("utf-8").splitlines()
    assert [line.split(" | ")[0] for line in lines[:2]] == ["| method", "| ---"]
    assert {line.split(" | ")[0] for line in lines[2:]} == {"| ekfac", "| random"}
    table = pq.read_table(tmp_path / "results.parquet").to_pylist()
    assert len(table) == 2 * 9
    for row in table:
        assert -1 <= row["correlation"] <= 1
        assert row["lds"] == pytest.approx(np.mean([r["correlation"] for r in table if r["method"] == row["method"]]))
    monkeypatch.setattr(retrain, "train", None)
    monkeypatch.setattr("headwater.evaluate.methods.fold", None)
    second = evaluate(*arguments)
    assert second.exit_code == 0, second.output
    assert second.stdout == first.stdout


def test_mistakes_end_in_one_clear_message(place: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ((place, "--method", "nearest"), "--method nearest: there is no such method. Choose among ekfac, kfac"),
        ((tmp_path / "nowhere",), "not a Headwater run"),
    ):
        error = evaluate(*arguments).exception
        assert isinstance(error, HeadwaterError)
        assert message in str(error)


def test_a_run_that_cannot_be_retrained_is_refused(place: Path, tmp_path: Path) -> None:
    Run.create(tmp_path / "run", str(place / "model"), place / "world.jsonl")
    with pytest.raises(HeadwaterError, match=r"was not made by `headwater demo`: .*world\.jsonl.* is missing"):
        open_scene(tmp_path / "run", tmp_path)
    for name in ("world.jsonl", "world.facts.jsonl", "model/learned.json"):
        (tmp_path / "run" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "run" / name).write_bytes((place / name).read_bytes())
    Run.open(tmp_path / "run").remove(["story-00007"])
    with pytest.raises(HeadwaterError, match="is no longer its world"):
        open_scene(tmp_path / "run", tmp_path)
