"""Do the checks measure what they say? Against autograd, dense solutions and exact first-order predictions."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import TypeAdapter
from rich.console import Console
from typer.testing import CliRunner

from headwater.attribution.answer import Answer
from headwater.attribution.context import AttributionContext
from headwater.attribution.preconditioned import loss_gradients
from headwater.attribution.question import make_question
from headwater.base.progress import silent
from headwater.cli import app
from headwater.curvature.base import Curvature, identity
from headwater.curvature.fit import fit_curvature
from headwater.curvature.solvers.gauss_newton import gauss_newton_product
from headwater.curvature.solvers.vectors import dot, only, times
from headwater.curvature.workbench import Workbench
from headwater.errors import HeadwaterError
from headwater.gradients.factored import Gradients
from headwater.lm.capture import Labels
from headwater.lm.layers import choose_layers, stepped
from headwater.render.scatter import scatter_svg
from headwater.render.scatter_parts import axis_limit
from headwater.render.summary import signed
from headwater.render.verification import verdict, verification_html
from headwater.runs.run import Run
from headwater.sweep.sweep import Sweep
from headwater.training import retrain
from headwater.training.new_model import Design, make_model
from headwater.training.recipe import Recipe
from headwater.training.retrain import Task, retraining_of
from headwater.verify.agreement import correlation, slope, spearman
from headwater.verify.measured_question import measured_question
from headwater.verify.minimise import LBFGSMemory, minimise
from headwater.verify.options import VerifyOptions
from headwater.verify.response import ProximalBregman, reference_set
from headwater.verify.retrain import _sets
from headwater.verify.verification import Check, Verification
from headwater.verify.verify import verify
from tests.answers import HOSTILE
from tests.killing import KilledError, kill_at
from tests.models import TEXT, VOCABULARY, plain_model, tiny_lm, tiny_tokenizer
from tests.oracle import random_sequences, sequence_loss, weight_gradients

LM = tiny_lm("gpt_neo")
LAYERS = choose_layers(LM.model)[:2]
NAMES = [layer.name for layer in LAYERS]
CORPUS = random_sequences(7, VOCABULARY, seed=51)
REMOVED = CORPUS[2]
STORIES = [f"{TEXT[n % 4][: 20 + n % 30]} And they saw {n} stars." for n in range(30)]
QUESTION = make_question(LM, "Once upon a time, Lily", " found a shiny key.")


@pytest.fixture(scope="module")
def curvature(tmp_path_factory: pytest.TempPathFactory) -> Curvature:
    fit = Sweep(stage="fit", lm=LM, layers=LAYERS, sequences=CORPUS, labels=Labels("sampled"))
    return fit_curvature("ekfac", fit, Workbench(tmp_path_factory.mktemp("fit"), "test"))


def objective(curvature: Curvature, weight: float, moving: list[str] = NAMES) -> ProximalBregman:
    return reference_set(LM, curvature, CORPUS, total=len(CORPUS), moving=moving).without(REMOVED, weight)


def plain_objective(model: Any, curvature: Curvature, weight: float, moved: Gradients) -> torch.Tensor:
    """The objective from its definition, a text at a time."""
    fitted, total = plain_model(), torch.zeros((), dtype=torch.float64)
    for sequence in CORPUS:
        ids = torch.from_numpy(sequence.input_ids)[None]
        with torch.no_grad():
            before = fitted(ids).logits[0, :-1].log_softmax(-1)
        after = model(ids).logits[0, :-1].log_softmax(-1)
        total = total + (before.exp() * (before - after)).sum() / len(CORPUS)
    for name, part in moved.items():
        total = total + 0.5 * curvature.damping_of(name) * part.square().sum()
    return total - weight / len(CORPUS) * (sequence_loss(model, REMOVED) - sequence_loss(fitted, REMOVED).detach())


def test_value_and_gradient_of_the_objective_are_those_of_its_definition(curvature: Curvature) -> None:
    draw = torch.Generator().manual_seed(0)
    moved: Gradients = {
        layer.name: 0.03 * torch.randn(1, layer.outputs, layer.inputs, generator=draw, dtype=torch.float64)
        for layer in LAYERS
    }
    value, gradient = objective(curvature, 0.7)(moved)
    model = plain_model().requires_grad_(True)
    with stepped(model, {name: part[0] for name, part in moved.items()}):
        plain = plain_objective(model, curvature, 0.7, moved)
        expected = weight_gradients(model, NAMES, plain)
    assert value == pytest.approx(float(plain.detach()), rel=1e-5)
    for name in NAMES:  # autograd does not see the damping, which is written in `moved`
        whole = expected[name] + curvature.damping_of(name) * moved[name][0]
        torch.testing.assert_close(gradient[name][0], whole, rtol=0, atol=1e-5 * float(whole.abs().max()))
    only_one = objective(curvature, 0.7, NAMES[:1])(only(moved, NAMES[:1]))[1]
    assert float(only_one[NAMES[1]].abs().max()) == 0 < float(only_one[NAMES[0]].abs().max())


def test_a_small_removal_responds_as_the_damped_gauss_newton_matrix_says(curvature: Curvature) -> None:
    """θ − θ_s → (w/N) (H + λI)⁻¹ ∇L(z): the dense solution, its sign, and what it does to the query."""
    weight = 1e-3
    found = minimise(
        objective(curvature, weight),
        LBFGSMemory(curvature.precondition),
        times(0.0, _gradient()),
        iterations=300,
        tolerance=1e-3,
    )
    assert found.converged
    sizes = [layer.parameters for layer in LAYERS]
    units = torch.eye(sum(sizes), dtype=torch.float64).split(sizes, dim=1)
    eye = {layer.name: unit.reshape(-1, layer.outputs, layer.inputs) for layer, unit in zip(LAYERS, units, strict=True)}
    H = _flat(gauss_newton_product(Sweep(stage="", lm=LM, layers=LAYERS, sequences=CORPUS), eye))
    damping = torch.cat([torch.full((layer.parameters,), curvature.damping_of(layer.name)) for layer in LAYERS])
    expected = weight / len(CORPUS) * torch.linalg.solve(H + torch.diag(damping.double()), _flat(_gradient())[0])
    away = _flat(found.point)[0]
    assert float((away - expected).norm() / expected.norm()) < 0.02
    query = loss_gradients(LM, LAYERS, [QUESTION.sequence])
    predicted = -float(_flat(query)[0] @ expected)
    assert measured_question(LM, QUESTION).change(found.point) == pytest.approx(predicted, rel=0.03)
    own = -float(_flat(_gradient())[0] @ expected)  # without it, it is less likely
    assert own < 0


def _gradient() -> Gradients:
    return loss_gradients(LM, LAYERS, [REMOVED])


def _flat(gradients: Gradients) -> torch.Tensor:
    return torch.cat([part.flatten(1) for part in gradients.values()], dim=1)


def test_minimising_a_quadratic_finds_its_minimum_and_says_when_it_has_not() -> None:
    scales = torch.logspace(0, 2, 20, dtype=torch.float64).reshape(1, 4, 5)
    target = torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(1, 4, 5)

    def bowl(point: Gradients) -> tuple[float, Gradients]:
        away = point["a"] - target
        return float((0.5 * scales * away**2).sum()), {"a": scales * away}

    found = minimise(bowl, LBFGSMemory(dict), {"a": torch.zeros_like(target)}, iterations=100, tolerance=1e-6)
    assert found.converged
    torch.testing.assert_close(found.point["a"], target, rtol=0, atol=1e-4)
    early = minimise(bowl, LBFGSMemory(dict), {"a": torch.zeros_like(target)}, iterations=2, tolerance=1e-6)
    assert not early.converged
    assert early.iterations == 2
    there = minimise(bowl, LBFGSMemory(dict), {"a": target}, iterations=5, tolerance=1e-6)
    assert there.converged
    assert there.iterations == 0


def test_nothing_holds_the_weights_without_damping() -> None:
    with pytest.raises(HeadwaterError, match="a damping above zero"):
        reference_set(LM, identity(LAYERS), CORPUS, total=7, moving=NAMES)


def test_slope_and_correlations_are_those_of_the_textbook() -> None:
    checks = [
        Check(id=str(x), group="random", predicted=x, measured=y)
        for x, y in ((-2.0, -1.0), (0.0, 0.5), (1.0, 0.25), (3.0, 2.0))
    ]
    assert slope(checks) == pytest.approx((2 + 0.25 + 6) / 14)
    assert correlation(checks) == pytest.approx(np.corrcoef([-2, 0, 1, 3], [-1, 0.5, 0.25, 2])[0, 1])
    assert spearman(checks) == pytest.approx(0.8)
    assert slope([]) is correlation(checks[:1]) is None
    assert spearman([replace(check, measured=1.0) for check in checks]) is None


# -- a whole run


def fitted_run(folder: Path, stories: list[str]) -> Run:
    """A run of the stories and of the model in the folder."""
    lines = [json.dumps({"id": f"s{n}", "text": story}) for n, story in enumerate(stories)]
    (folder / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    made = Run.create(folder / "run", str(folder / "model"), folder / "corpus.jsonl")
    made.fit()
    return made


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("place")
    plain_model("gpt_neo", torch.float32).save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    return fitted_run(folder, STORIES)


@pytest.fixture(scope="module")
def answer(run: Run) -> Answer:
    return run.ask("Once upon a time, Lily", " found a shiny key.", span="shiny", k=4)


def check(run: Run, answer: Answer, **changes: Any) -> Verification:
    scene = AttributionContext(lm=run.lm, corpus=run.corpus, curvature=run.curvature(answer.damping))
    return verify(scene, answer, replace(VerifyOptions(k=2, random=3), **changes))


def test_a_step_moves_the_query_as_predicted(run: Run, answer: Answer) -> None:
    found = check(run, answer)
    assert [c.group for c in found.checks] == ["proponent"] * 2 + ["opponent"] * 2 + ["random"] * 3
    assert [c.id for c in found.checks[:2]] == [example.id for example in answer.proponents[:2]]
    assert found.checks[0].predicted == pytest.approx(answer.proponents[0].influence / 30, rel=1e-3)
    assert found.slope == pytest.approx(1, abs=0.03)
    assert found.correlation is not None
    assert found.correlation > 0.999
    shown = {example.id for example in answer.proponents + answer.opponents}
    assert not shown & {c.id for c in found.checks[4:]}


def test_a_contrast_and_some_layers_are_checked_as_they_were_asked(run: Run) -> None:
    asked = run.ask("Tom the otter lost", " his red hat", contrast=" the moon.", layers=("*c_fc",), k=3)
    found = check(run, asked)
    assert found.checks[0].predicted == pytest.approx(asked.proponents[0].influence / 30, rel=1e-3)
    assert found.slope == pytest.approx(1, abs=0.03)
    assert found.contrast is not None
    assert "log odds" in verification_html(found)


def test_responses_follow_the_predictions_and_are_the_same_every_time(run: Run, answer: Answer) -> None:
    settings = {"kind": "pbrf", "weight": 0.05, "subset": None, "iterations": 60}
    found = check(run, answer, **settings)
    assert found.checks[0].predicted == pytest.approx(0.05 * answer.proponents[0].removal_effect, rel=1e-3)
    assert found.checks[0].predicted < 0 < found.checks[2].predicted
    assert found.checks[0].measured < 0 < found.checks[2].measured
    assert found.correlation is not None
    assert found.correlation > 0.8
    assert found.subset == 30
    assert check(run, answer, **settings) == found


def test_an_answer_of_another_model_or_run_is_refused(run: Run, answer: Answer) -> None:
    query, best = answer.query, answer.proponents[0]
    for wrong, message in (
        (replace(answer, query=replace(query, loss=query.loss + 1)), "comes from another model"),
        (replace(answer, query=replace(query, tokens=query.tokens[1:])), "other tokens"),
        (replace(answer, proponents=[replace(best, id="nowhere")]), "shows example 'nowhere'"),
        (replace(answer, proponents=[replace(best, text="Another.")]), "another text"),
        (replace(answer, curvature="kfac"), "made with the curvature kfac"),
        (replace(answer, added=True), "not in the corpus"),
    ):
        with pytest.raises(HeadwaterError, match=message):
            check(run, wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "guess"}, "must be .step. or .pbrf. or .retrain."),
        ({"kind": "retrain", "k": 0}, "leaves out at least one example"),
        ({"kind": "retrain", "seeds": 0}, "seeds must be a whole number of at least 1"),
        ({"k": 0, "random": 0}, "at least one example"),
        ({"weight": 0.0}, "weight=0"),
        ({"subset": 0}, "subset=0"),
        ({"iterations": 0}, "iterations=0"),
    ],
)
def test_numbers_that_ask_for_nothing_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(HeadwaterError, match=message):
        VerifyOptions(**change).check()


def test_the_command_line_verifies_an_answer(run: Run, answer: Answer, tmp_path: Path) -> None:
    (tmp_path / "answer.json").write_text(answer.to_json(), encoding="utf-8")
    arguments = ["verify", str(run.path), str(tmp_path / "answer.json"), "-k", "1", "--random", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.exception
    assert "measured nats per predicted nat" in result.stdout
    files = ["--html", str(tmp_path / "v.html"), "--svg", str(tmp_path / "v.svg")]
    pbrf = ["--kind", "pbrf", "--weight", "0.1", "--subset", "10", "--iterations", "2"]
    result = CliRunner().invoke(app, [*arguments, *pbrf, *files, "--json"])
    assert result.exit_code == 0, result.exception
    assert [c["group"] for c in json.loads(result.stdout)["checks"]] == ["proponent", "opponent", "random"]
    assert ElementTree.parse(tmp_path / "v.svg").getroot().get("aria-label")
    assert "<table>" in (tmp_path / "v.html").read_text(encoding="utf-8")
    result = CliRunner().invoke(app, ["verify", str(run.path), str(tmp_path / "none.json")])
    assert "cannot be read" in str(result.exception)


# -- training again


RECIPE = Recipe(epochs=2, batch=8, seed=3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a model that was trained by a recipe on its corpus, of whose stories every tenth comes twice."""
    folder = tmp_path_factory.mktemp("trained")
    stories = STORIES + [f"{story[:-1]}!" for story in STORIES[::10]]
    plain_model("gpt_neo").config.save_pretrained(folder)
    make_model(stories, folder / "model", RECIPE, design=Design(folder / "config.json", 300))
    return fitted_run(folder, stories)


@pytest.fixture(scope="module")
def told(trained: Run) -> Answer:
    """An answer whose strongest example is one of those that come twice."""
    return trained.ask(STORIES[10][:-9], STORIES[10][-9:], k=4)


@pytest.fixture(scope="module")
def retrained(trained: Run, told: Answer) -> Verification:
    return trained.verify(told, kind="retrain", k=2, random=2, seeds=3)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sequences each retraining from now on sees."""
    seen: list[int] = []
    real = retrain.train

    def counting(model: Any, sequences: Any, *arguments: Any, **options: Any) -> Any:
        seen.append(len(sequences))
        return real(model, sequences, *arguments, **options)

    monkeypatch.setattr(retrain, "train", counting)
    return seen


def test_examples_go_together_with_their_near_duplicates(retrained: Verification, told: Answer) -> None:
    assert {told.proponents[0].id, *told.proponents[0].duplicates} == {"s10", "s31"}
    raised, lowered, *others = retrained.checks
    assert [c.group for c in retrained.checks] == ["proponent", "opponent", "random", "random"]
    assert len({c.id for c in retrained.checks}) == 4
    for c, end in ((raised, told.proponents), (lowered, told.opponents)):
        assert c.taken_out == [id for example in end[:2] for id in (example.id, *example.duplicates)]
    assert all(c.taken_out is not None and len(set(c.taken_out)) == 2 for c in others)
    assert others[0].taken_out != others[1].taken_out


def test_random_sets_hold_nothing_that_the_answer_shows(trained: Run, told: Answer) -> None:
    shown = {id for example in told.proponents + told.opponents for id in (example.id, *example.duplicates)}
    drawn = _sets(trained.corpus, told, VerifyOptions(k=2, random=200, seeds=1))[2:]
    taken = {trained.corpus.ids[position] for one in drawn for position in one.positions}
    assert taken == set(trained.corpus.ids) - shown, "and everything else in time"
    few = _sets(trained.corpus, told, VerifyOptions(k=33, random=1, seeds=1))[-1]
    assert (few.name, len(few.positions)) == (f"{33 - len(shown)} at random, set 1", 33 - len(shown))


def test_the_prediction_of_a_set_is_the_sum_of_its_removal_effects(
    retrained: Verification, told: Answer, trained: Run, tmp_path: Path
) -> None:
    asked = trained.question(told.query.prompt, told.query.completion)
    table = pq.read_table(trained.scan([asked], tmp_path / "scores.parquet"))
    influence = dict(zip(table["id"].to_pylist(), table["query"].to_pylist(), strict=True))
    for c in retrained.checks:
        assert c.taken_out is not None
        assert c.predicted == pytest.approx(-sum(influence[id] for id in c.taken_out) / 33, rel=1e-4)
    assert retrained.checks[0].predicted < 0 < retrained.checks[1].predicted


def test_what_is_measured_is_what_retrained_models_say(
    retrained: Verification, told: Answer, trained: Run, tmp_path: Path
) -> None:
    """By hand: a model of each seed trained on everything, and one of the same seed on what is left."""
    question = trained.question(told.query.prompt, told.query.completion)
    retraining = retraining_of(trained.lm, trained.corpus, [question], recipe=None, folder=tmp_path)

    def log_p(task: Task) -> float:
        with torch.no_grad():
            return -float(sequence_loss(retraining.retrained(task).model, question.sequence))

    whole = [log_p(retraining.all(seed)) for seed in range(3)]
    for c in retrained.checks[:3]:
        assert c.taken_out is not None
        gone = [trained.corpus.position[id] for id in c.taken_out]
        changes = [log_p(retraining.without(gone, seed)) - whole[seed] for seed in range(3)]
        assert c.measured == pytest.approx(np.mean(changes), abs=1e-4)
        assert c.deviation == pytest.approx(np.std(changes, ddof=1), abs=1e-4)
    assert retrained.likelihood == pytest.approx(np.mean(whole), abs=1e-4)
    assert (retrained.seeds, retrained.examples) == (3, 33)
    assert retrained.slope == pytest.approx(slope(retrained.checks))
    assert np.std(whole) > 1e-3, "the seeds do differ"


def test_with_a_contrast_the_log_odds_are_measured(trained: Run, tmp_path: Path) -> None:
    asked = trained.ask(STORIES[10][:-9], STORIES[10][-9:], contrast=" 3 stars.", k=1)
    found = trained.verify(asked, kind="retrain", k=1, random=0, seeds=1)
    question = trained.question(STORIES[10][:-9], STORIES[10][-9:], contrast=" 3 stars.")
    retraining = retraining_of(trained.lm, trained.corpus, [question], recipe=None, folder=tmp_path)
    assert found.checks[0].taken_out is not None
    gone = [trained.corpus.position[id] for id in found.checks[0].taken_out]
    odds = [
        sum(-sign * float(sequence_loss(lm.model, part.sequence)) for part, sign in question.parts)
        for lm in (retraining.retrained(task) for task in (retraining.all(), retraining.without(gone)))
    ]
    assert found.checks[0].measured == pytest.approx(odds[1] - odds[0], abs=1e-4)
    assert found.likelihood == pytest.approx(odds[0], abs=1e-4)
    assert found.checks[0].deviation is None, "one seed does not say how much is chance"


def test_retrainings_are_kept_in_the_run_and_go_on_where_they_stopped(
    trained: Run, told: Answer, counted: list[int]
) -> None:
    asked = trained.ask("Tom the otter lost", " his red hat", k=2)
    trained = trained.using(report=kill_at(8))
    with pytest.raises(KilledError):
        trained.verify(asked, kind="retrain", k=1, random=1, seeds=2)
    trained = trained.using(report=silent)
    before = len(counted)
    found = trained.verify(asked, kind="retrain", k=1, random=1, seeds=2)
    assert 0 < before - 1 < 8, "the last of them was killed"
    assert len(counted) == 8 + 1, "only that one is done twice"
    more = trained.verify(asked, kind="retrain", k=1, random=1, seeds=3)
    assert len(counted) == 9 + 4, "a third seed adds to the first two"
    assert [c.predicted for c in more.checks] == [c.predicted for c in found.checks]
    folders = [path for path in (trained.path / "retrained").iterdir() if len(list(path.glob("*-*.json"))) == 12]
    assert len(folders) == 1, "each question has a folder of its own"
    assert trained.verify(told, kind="retrain", k=2, random=2, seeds=3).checks[0].measured != found.checks[0].measured


def test_what_cannot_be_retrained_is_refused(run: Run, trained: Run, answer: Answer, told: Answer) -> None:
    with pytest.raises(HeadwaterError, match=r"there is no .*train\.json. Name its recipe with --recipe"):
        run.verify(answer, kind="retrain", k=1, random=0, seeds=1)
    best = told.proponents[0]
    for wrong, message in (
        (replace(best, id="nowhere"), "shows example 'nowhere'"),
        (replace(best, duplicates=["nowhere"]), "shows example 'nowhere'"),
        (replace(best, text="Another."), "another text"),
    ):
        with pytest.raises(HeadwaterError, match=message):
            trained.verify(replace(told, proponents=[wrong]), kind="retrain", k=1, random=0, seeds=1)


def test_another_recipe_is_not_mixed_with_the_first(trained: Run, told: Answer, tmp_path: Path) -> None:
    asked = trained.ask("The café was closed.", " The fox went home", k=1)
    longer = RECIPE.model_copy(update={"epochs": 3}).save(tmp_path)
    first = trained.verify(asked, kind="retrain", k=1, random=0, seeds=1, recipe=longer)
    second = trained.verify(asked, kind="retrain", k=1, random=0, seeds=1)
    assert first.likelihood != second.likelihood
    assert trained.verify(asked, kind="retrain", k=1, random=0, seeds=1, recipe=longer) == first


def test_whiskers_are_a_standard_deviation_up_and_down(retrained: Verification) -> None:
    root = ElementTree.fromstring(scatter_svg(retrained))
    marks = [group for group in root if group.tag.endswith("}g")]
    assert len(marks) == len(retrained.checks)
    scale = 230 / axis_limit(retrained.checks)  # pixels a nat
    for group, c in zip(marks, retrained.checks, strict=True):
        whisker = next(part for part in group if part.get("class") == "whisker")
        x, low, high = map(float, re.findall(r"[\d.]+", whisker.get("d", "")))
        assert c.deviation is not None
        middle = 52 + 230 - scale * c.measured
        assert x == pytest.approx(84 + 230 + scale * c.predicted, abs=0.1)
        ends = [min(max(middle + sign * scale * c.deviation, 52), 52 + 460) for sign in (1, -1)]
        assert [low, high] == pytest.approx(ends, abs=0.1)
        assert f"± {c.deviation:.2g}" in (group[0].text or "")
    lone = replace(retrained, checks=[replace(c, deviation=None) for c in retrained.checks])
    assert 'class="whisker"' not in scatter_svg(lone)


def test_a_retraining_survives_json_and_says_what_it_was(retrained: Verification) -> None:
    assert TypeAdapter(Verification).validate_json(retrained.to_json()) == retrained
    page = verification_html(retrained)
    for words in ("without several examples", "means over 3 seeds", "3 trainings a set", "the 2 that raised it most"):
        assert words in page
    assert retrained.likelihood is not None
    assert f"log p of {signed(retrained.likelihood)} on average" in page


def test_the_command_line_retrains(trained: Run, told: Answer, tmp_path: Path, counted: list[int]) -> None:
    (tmp_path / "told.json").write_text(told.to_json(), encoding="utf-8")
    arguments = ["verify", str(trained.path), str(tmp_path / "told.json"), "--kind", "retrain", "--jobs", "1"]
    arguments += ["-k", "2", "--random", "2", "--seeds", "3"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.exception
    assert not counted, "it was done before, for the run's own `verify`"
    checks = json.loads(result.stdout)["checks"]
    assert [c["id"] for c in checks[:2]] == ["the 2 that raised it most", "the 2 that lowered it most"]
    result = CliRunner().invoke(app, [*arguments, "--recipe", str(tmp_path / "none.json")])
    assert "there is no" in str(result.exception)


# -- faces


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_ids_act_on_nobody(text: str, run: Run, answer: Answer) -> None:
    made = check(run, answer, k=1, random=0)
    query = replace(made.query, prompt=text, completion=text, span=text)
    hostile = replace(made, query=query, model=text, checks=[replace(c, id=text, converged=False) for c in made.checks])
    ElementTree.fromstring(scatter_svg(hostile))
    tags = _Tags()
    tags.feed(verification_html(hostile))
    assert not tags.seen & {"script", "img", "a", "iframe", "link"}
    out = io.StringIO()
    Console(file=out, width=100).print(hostile)
    assert not set(out.getvalue()) & set("\x1b\x07\x00\x9b")
    assert "2 of 2 responses did not converge" in verdict(hostile)


def test_the_plot_shows_groups_by_shape_and_stands_alone(run: Run, answer: Answer) -> None:
    svg = scatter_svg(check(run, answer))
    root = ElementTree.fromstring(svg)
    marks = [group[1].tag.rsplit("}")[-1] for group in root if group.tag.endswith("}g")]
    assert marks == ["circle"] * 2 + ["rect"] * 2 + ["path"] * 3
    assert 'class="identity"' in svg
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    empty = replace(check(run, answer), checks=[], slope=None)
    assert "nothing to compare" in verdict(empty)
    ElementTree.fromstring(scatter_svg(empty))
    assert dot({"a": torch.ones(1, 2, 2)}, {"a": torch.ones(1, 2, 2)}) == 4
