"""Every method of attribution against its formula: brute force in float64, or what a run answers with."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from headwater.attribution.index.sketch import sketch_of_width
from headwater.attribution.scores import SelfInfluence
from headwater.base.files import save_tensors
from headwater.curvature.base import Eigenbasis, EigenCurvature
from headwater.curvature.damping import Damping
from headwater.curvature.store import load_curvature
from headwater.errors import HeadwaterError
from headwater.evaluate.context import EvaluationContext
from headwater.evaluate.leaderboard import score
from headwater.evaluate.lexical import bm25, overlap, words
from headwater.evaluate.methods import Method, parse_methods
from headwater.evaluate.queries import EvalQuery
from headwater.evaluate.tail_patch import tail_patch
from headwater.gradients.basis import Basis
from headwater.lm.layers import TrackedLayer
from headwater.lm.load import load_model, wrap_model
from headwater.runs.run import Run
from headwater.sweep.sweep import Sweep, fold
from headwater.training.checkpoint_methods import TrainingSegment
from headwater.training.recipe import RECIPE_FILE, Recipe
from headwater.training.save import MOMENTS_FILE, STATE_FILE
from tests.models import TEXT, plain_model, tiny_tokenizer
from tests.oracle import example_gradients, sequence_loss

STORIES = [f"{TEXT[n % 4][: 22 + 3 * n]} And they saw {n} stars." for n in range(12)]
QUERIES = (
    EvalQuery("key", "Once upon a time, Lily", " found a shiny key.", ("s0", "s4")),
    EvalQuery("hat", "Tom the otter lost", " his red hat", ("s1",)),
    EvalQuery("moon", "They walked up the hill", " to see the moon."),
)
RECIPE = Recipe(learning_rate=0.3)


def make_scene(folder: Path, architecture: str, dtype: torch.dtype = torch.float64) -> EvaluationContext:
    """A run of a tiny model of random weights, with a recipe and second moments beside the model."""
    model = folder / "model"
    tiny_tokenizer().save_pretrained(model)
    plain = plain_model(architecture, dtype)
    plain.save_pretrained(model)
    RECIPE.save(model)
    save_tensors(model / MOMENTS_FILE, random_moments(plain, seed=0), {})
    lm = wrap_model(plain, load_model(str(model)).tokenizer, str(model))
    lines = [json.dumps({"id": f"s{n}", "text": story}) for n, story in enumerate(STORIES)]
    (folder / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    run = Run.create(folder / "run", lm, folder / "corpus.jsonl")
    run.fit(fisher="empirical")
    return EvaluationContext(run=run, queries=QUERIES, work=folder / "work")


def random_moments(model: Any, seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        name: 0.1 + torch.rand(weight.shape, generator=draw, dtype=torch.float64)
        for name, weight in model.named_parameters()
    }


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> EvaluationContext:
    return make_scene(tmp_path_factory.mktemp("neo"), "gpt_neo")


@pytest.fixture(scope="module")
def conv(tmp_path_factory: pytest.TempPathFactory) -> EvaluationContext:
    """As `scene`, of a model whose kernels are transposed."""
    return make_scene(tmp_path_factory.mktemp("conv"), "gpt2")


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> EvaluationContext:
    """As `scene`, in float32: as checkpoints are loaded."""
    return make_scene(tmp_path_factory.mktemp("single"), "gpt_neo", torch.float32)


def method(spec: str) -> Method:
    return parse_methods([spec])[0]


def by_hand(scene: EvaluationContext, model: Any = None) -> tuple[Tensor, Tensor]:
    """[N, P] and [Q, P]: gradients of the examples and the queries over all tracked weights, by plain autograd."""
    plain = copy.deepcopy(scene.run.lm.model if model is None else model).double()
    names = [layer.name for layer in scene.run.curvature().layers]
    asked = [question.sequence for question in scene.questions]
    return tuple(
        torch.cat([part.flatten(1) for part in example_gradients(plain, names, sequences).values()], 1)
        for sequences in (scene.run.corpus.sequences()[:], asked)
    )  # pyright: ignore[reportReturnType]


def by_layer(scene: EvaluationContext, value: Callable[[TrackedLayer], Tensor | float]) -> Tensor:
    """[P] a value for every tracked weight, from one [O, I] or one number a layer."""
    parts = [(layer, torch.as_tensor(value(layer), dtype=torch.float64)) for layer in scene.run.curvature().layers]
    return torch.cat([part.expand(layer.outputs, layer.inputs).flatten() for layer, part in parts])


def kernel(model: Any, layer: str, of_parameters: Mapping[str, Tensor]) -> Tensor:
    """[O, I] one number for every weight of a layer, the bias in the last column."""
    weight = of_parameters[f"{layer}.weight"]
    weight = weight.t() if isinstance(model.get_submodule(layer), Conv1D) else weight
    return torch.cat([weight, of_parameters[f"{layer}.bias"][:, None]], 1)


def near(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Equal to within a part of the largest number."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


# -- by the gradients


def test_dot_cosine_and_relative_are_their_formulas(scene: EvaluationContext) -> None:
    examples, queries = by_hand(scene)
    products = examples @ queries.t()
    near(method("dot").score(scene), products)
    lengths = torch.outer(examples.norm(dim=1), queries.norm(dim=1))
    near(method("cosine").score(scene), products / lengths)
    curvature = scene.run.curvature()
    loudness = np.sqrt(scene.run.self_influence(curvature))
    near(method("relative").score(scene), method("ekfac").score(scene) / loudness[:, None])


@pytest.mark.parametrize("damping", ["", "1*mean", "0.02"])
def test_exact_is_influence_with_the_dense_fisher(scene: EvaluationContext, damping: str) -> None:
    examples, queries = by_hand(scene)
    fisher = examples.t() @ examples / len(examples)
    sizes = [layer.parameters for layer in scene.run.curvature().layers]
    means = [float(part.mean()) for part in fisher.diagonal().split(sizes)]
    each = iter({"": [0.1 * mean for mean in means], "1*mean": means, "0.02": [0.02] * len(means)}[damping])
    damped = fisher + torch.diag(by_layer(scene, lambda _: next(each)))
    found = method(f"exact:damping={damping}").score(scene)
    near(found, examples @ torch.linalg.solve(damped, queries.t()))


@pytest.mark.parametrize("architecture", ["scene", "conv"])
def test_trackstar_is_the_cosine_of_gradients_over_roots_of_second_moments(
    architecture: str, request: pytest.FixtureRequest
) -> None:
    scene: EvaluationContext = request.getfixturevalue(architecture)
    examples, queries = by_hand(scene)
    model = scene.run.lm.model
    moments = random_moments(model, seed=0)
    for damping, factor in (("0.1*mean", 0.1), ("1*mean", 1.0)):
        v = by_layer(scene, lambda layer: kernel(model, layer.name, moments))
        mean = by_layer(scene, lambda layer: kernel(model, layer.name, moments).mean())
        root = (v + factor * mean).sqrt()
        expected = torch.nn.functional.cosine_similarity((examples / root)[:, None], (queries / root)[None], dim=2)
        near(method(f"trackstar:damping={damping}").score(scene), expected)
    near(method("trackstar").score(scene), method("trackstar:damping=0.1*mean").score(scene))


def test_trackstar_of_a_model_without_moments_takes_the_fishers_diagonal(
    scene: EvaluationContext, tmp_path: Path
) -> None:
    lm = replace(scene.run.lm, name=str(tmp_path))
    bare = replace(scene, run=Run.open(scene.run.path, lm), work=tmp_path / "work")
    examples, queries = by_hand(scene)
    diagonal = examples.square().mean(0)
    sizes = [layer.parameters for layer in scene.run.curvature().layers]
    means = iter([float(part.mean()) for part in diagonal.split(sizes)])
    root = (diagonal + 0.1 * by_layer(scene, lambda _: next(means))).sqrt()
    expected = torch.nn.functional.cosine_similarity((examples / root)[:, None], (queries / root)[None], dim=2)
    near(method("trackstar").score(bare), expected)
    save_tensors(tmp_path / MOMENTS_FILE, {"another.weight": torch.ones(2, 2)}, {})
    with pytest.raises(HeadwaterError, match="belong to another model"):
        method("trackstar").score(bare)


@pytest.mark.parametrize(
    ("spec", "kind", "damping"),
    [
        ("ekfac", "ekfac", None),
        ("ekfac:damping=1*mean", "ekfac", "1*mean"),
        ("kfac", "kfac", None),
        ("diagonal", "diagonal", None),
        ("ekfac:layers=*c_fc", "ekfac", None),
    ],
)
def test_other_curvatures_are_those_that_a_run_would_fit(
    spec: str, kind: str, damping: str | None, scene: EvaluationContext, tmp_path: Path
) -> None:
    other = Run.create(tmp_path / "run", scene.run.lm, scene.run.path.parent / "corpus.jsonl")
    layers = ("*c_fc",) if "layers" in spec else None
    other.fit(curvature=kind, layers=layers, fisher="empirical", damping=damping)
    table = pq.read_table(other.scan(scene.questions, tmp_path / "scores.parquet"))
    expected = np.stack([table[question.id].to_numpy() for question in scene.questions], axis=1)
    for _ in range(2):  # fitted, and then read
        near(method(spec).score(scene), expected)
    assert scene.run.curvature().kind == "ekfac", "the run's own is left as it is"
    assert len(scene.run.curvature().layers) == 4


def test_conjugate_gradients_score_as_a_question_with_that_solver(scene: EvaluationContext) -> None:
    scores = method("cg:iterations=2,subset=7").score(scene)
    for q, question in enumerate(scene.questions):
        answer = scene.run.ask(question, k=12, fold=False, solver="cg", iterations=2, subset=7)
        told = {example.id: example.influence for example in answer.proponents + answer.opponents}
        expected = [told[id] for id in scene.run.corpus.ids]
        assert scores[:, q].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_lissa_comes_to_what_conjugate_gradients_come_to(scene: EvaluationContext) -> None:
    """Over all examples and damped well, so that both arrive; by random batches it strays, the same for one seed."""
    solved = method("cg:iterations=40,subset=12,damping=20*mean").score(scene)
    near(method("lissa:iterations=40,batch=12,damping=20*mean").score(scene), solved, 0.01)
    few = method("lissa:iterations=4,batch=3,damping=20*mean")
    once, again, other = few.score(scene), few.score(scene), few.score(replace(scene, seed=1))
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 0.01 * np.abs(solved).max()


def test_sketches_estimate_ekfac_with_the_noise_that_their_size_promises(scene: EvaluationContext) -> None:
    curvature = scene.run.curvature()
    asked = [question.sequence for question in scene.questions]
    own = fold(
        Sweep(stage="", lm=scene.run.lm, layers=curvature.layers, sequences=asked), lambda: SelfInfluence(curvature)
    ).values.numpy()
    scale = np.sqrt(np.outer(scene.run.self_influence(curvature), own))
    exact = method("ekfac").score(scene)
    for size in (64, 200):
        promised = sketch_of_width(sum(layer.parameters for layer in curvature.layers), size).noise
        errors = (method(f"sketch:bytes={size}").score(scene) - exact) / scale
        assert 0.6 * promised < np.sqrt(np.mean(errors**2)) < 1.5 * promised


# -- looking back at the training


@pytest.fixture(scope="module")
def checkpoints(scene: EvaluationContext, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two moments of a training at steps 10 and 30, at learning rates 0.5 and 0.1."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for step, rate in ((30, 0.1), (10, 0.5)):
        write_checkpoint(scene, folder / f"step-{step:05d}", step, rate)
    (folder / "step-00040.part").mkdir()  # of one that was killed
    return folder


def write_checkpoint(scene: EvaluationContext, path: Path, step: int, rate: float) -> None:
    model = copy.deepcopy(scene.run.lm.model)
    draw = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=draw, dtype=torch.float64).to(weight)
    model.save_pretrained(path)
    scene.run.lm.tokenizer.save_pretrained(path)
    save_tensors(path / MOMENTS_FILE, random_moments(model, seed=step), {})
    (path / STATE_FILE).write_text(json.dumps({"step": step, "learning_rate": rate}))


@pytest.mark.parametrize("architecture", ["scene", "conv"])
def test_tracin_adds_up_products_at_checkpoints_by_their_learning_rates(
    architecture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    scene: EvaluationContext = request.getfixturevalue(architecture)
    products: dict[int, Tensor] = {}
    for step, rate in ((10, 0.5), (30, 0.1)):
        write_checkpoint(scene, tmp_path / f"step-{step:05d}", step, rate)
        examples, queries = by_hand(scene, load_model(str(tmp_path / f"step-{step:05d}")).model)
        products[step] = examples @ queries.t()
    looking = replace(scene, checkpoints=tmp_path)
    near(method("tracin").score(looking), 0.5 * products[10] + 0.1 * products[30], 1e-4)
    (tmp_path / "step-00030" / STATE_FILE).unlink()  # as somebody else's training may have left it
    near(method("tracin").score(looking), products[10] + products[30], 1e-4)


def test_source_takes_the_querys_gradient_back_through_both_segments(
    single: EvaluationContext, checkpoints: Path, tmp_path: Path
) -> None:
    """Against dense matrices: EK-FAC's own, as it was fitted at each checkpoint."""
    found = method("source").score(replace(single, checkpoints=checkpoints, work=tmp_path))
    tokens = sum(len(sequence.input_ids) - 1 for sequence in single.run.corpus.sequences()) / 12
    reach = {10: 10 * 0.5, 30: 20 * (0.5 + 0.1) / 2}  # Σ of rates over the steps that led there
    sizes = [layer.parameters for layer in single.run.curvature().layers]
    carried = by_hand(single)[1].split(sizes, dim=1)
    expected, kept = torch.zeros(12, 3, dtype=torch.float64), 1.0
    for step in (30, 10):
        curvature = load_curvature(tmp_path / "curvatures" / f"step-{step:05d}" / "curvature.safetensors", Damping())[0]
        model = load_model(str(checkpoints / f"step-{step:05d}")).model
        moments = random_moments(model, seed=step)
        examples = by_hand(single, model)[0].split(sizes, dim=1)
        further: list[Tensor] = []
        for layer, gradients, before in zip(curvature.layers, examples, carried, strict=True):
            stride = reach[step] / tokens / math.sqrt(float(kernel(model, layer.name, moments).mean()))
            values, vectors = torch.linalg.eigh(dense(curvature, layer.name))
            left = torch.exp(-stride * values)
            moved = torch.where(values > 1e-9, (1 - left) / values, stride)
            expected += gradients @ vectors @ torch.diag(moved) @ vectors.t() @ before.t()
            further.append(before @ vectors @ torch.diag(left) @ vectors.t())
        kept *= float(torch.cat(further, 1).norm() / torch.cat(carried, 1).norm())  # pyright: ignore[reportArgumentType]
        carried = tuple(further)
    near(found, expected, 1e-3)
    assert 0.01 < kept < 0.9, "neither nothing nor everything of it is contracted away"


def dense(curvature: Any, layer: str) -> Tensor:
    """[P, P] the matrix that an eigenbasis stands for."""
    basis = curvature.bases[layer]
    both = torch.kron(basis.output_basis.dense().double(), basis.input_basis.dense().double())
    return both @ torch.diag(basis.eigenvalues.double().flatten()) @ both.t()


def test_source_in_a_short_segment_is_the_gradient_product(single: EvaluationContext, tmp_path: Path) -> None:
    write_checkpoint(single, tmp_path / "c" / "step-1", step=1, rate=1e-7)
    model = load_model(str(tmp_path / "c" / "step-1")).model
    ones = {name: torch.ones_like(weight) for name, weight in model.named_parameters()}
    save_tensors(tmp_path / "c" / "step-1" / MOMENTS_FILE, ones, {})
    found = method("source").score(replace(single, checkpoints=tmp_path / "c", work=tmp_path / "work"))
    tokens = sum(len(sequence.input_ids) - 1 for sequence in single.run.corpus.sequences()) / 12
    near(found, 1e-7 / tokens * (by_hand(single, model)[0] @ by_hand(single)[1].t()), 1e-4)


def random_segment(
    stride: float, seed: int, least: float = 0.1
) -> tuple[TrainingSegment, Tensor, dict[str, Tensor], Tensor]:
    """A segment of one layer of random curvature, that curvature as a matrix [P, P], and vectors, also as [Q, P]."""
    draw = torch.Generator().manual_seed(seed)
    Q_A, Q_S = (torch.linalg.qr(torch.randn(n, n, generator=draw, dtype=torch.float64))[0] for n in (4, 3))
    eigenvalues = least + 3 * torch.rand(3, 4, generator=draw, dtype=torch.float64)
    layer = TrackedLayer(name="up", inputs=4, outputs=3, bias=True, group="up")
    basis = Eigenbasis(Basis((Q_A,)), Basis((Q_S,)), eigenvalues)
    curvature = EigenCurvature("ekfac", (layer,), {"up": basis}, Damping())
    vectors = torch.randn(2, 3, 4, generator=draw, dtype=torch.float64)
    return TrainingSegment(curvature, {"up": stride}), dense(curvature, "up"), {"up": vectors}, vectors.flatten(1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("stride", [1e-3, 0.3, 4.0])
def test_a_segment_contracts_and_moves_by_the_dense_matrix_exponential(stride: float, seed: int) -> None:
    segment, H, vectors, flat = random_segment(stride, seed)
    decay = torch.linalg.matrix_exp(-stride * H)
    torch.testing.assert_close(segment.contracted(vectors)["up"].flatten(1), flat @ decay)
    # ∫₀ˢ e^(−tH) dt is a corner of the exponential of a matrix twice as large (Van Loan 1978).
    zero, unit = torch.zeros_like(H), torch.eye(len(H), dtype=torch.float64)
    corner = torch.linalg.matrix_exp(stride * torch.cat([torch.cat([-H, unit], 1), torch.cat([zero, zero], 1)]))
    torch.testing.assert_close(segment.moved(vectors)["up"].flatten(1), flat @ corner[: len(H), len(H) :])


def test_a_long_segment_moves_by_the_undamped_inverse_and_a_short_one_by_its_length() -> None:
    segment, H, vectors, flat = random_segment(1e4, seed=0)
    torch.testing.assert_close(segment.moved(vectors)["up"].flatten(1), torch.linalg.solve(H, flat.t()).t())
    assert float(segment.contracted(vectors)["up"].abs().max()) < 1e-12
    segment, _, vectors, _ = random_segment(1e-9, seed=0)
    torch.testing.assert_close(segment.moved(vectors)["up"], 1e-9 * vectors["up"], rtol=1e-6, atol=0)
    flat_directions = replace(segment.curvature.bases["up"], eigenvalues=torch.zeros(3, 4, dtype=torch.float64))
    level = TrainingSegment(replace(segment.curvature, bases={"up": flat_directions}), {"up": 7.0})
    torch.testing.assert_close(level.moved(vectors)["up"], 7 * vectors["up"])


def test_what_looking_back_needs_is_said(scene: EvaluationContext, checkpoints: Path, tmp_path: Path) -> None:
    for spec in ("tracin", "source"):
        with pytest.raises(HeadwaterError, match=f"--method {spec} needs checkpoints .* with --checkpoints"):
            method(spec).score(scene)
        with pytest.raises(HeadwaterError, match="there is no checkpoint in it"):
            method(spec).score(replace(scene, checkpoints=tmp_path))
    write_checkpoint(scene, tmp_path / "checkpoint-9", step=9, rate=0.1)
    looking = replace(scene, checkpoints=tmp_path, work=tmp_path / "work")
    (tmp_path / "checkpoint-9" / MOMENTS_FILE).unlink()
    with pytest.raises(HeadwaterError, match="has no second moments"):
        method("source").score(looking)
    (tmp_path / "checkpoint-9" / STATE_FILE).write_text('{"step": 9}')
    with pytest.raises(HeadwaterError, match="needs the learning rate at"):
        method("source").score(looking)
    tokenizer = json.loads((tmp_path / "checkpoint-9" / "tokenizer.json").read_text("utf-8"))
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:-1]
    (tmp_path / "checkpoint-9" / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(HeadwaterError, match="differs from the run's"):
        method("tracin").score(looking)


# -- one more step


def test_a_tail_patch_is_a_step_done_by_hand(scene: EvaluationContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.evaluate.tail_patch.EXAMPLES", 3)
    scores = np.random.default_rng(0).normal(size=(12, 3))
    moments = random_moments(scene.run.lm.model, seed=0)
    end = scene.run.lm.tokenizer.eos_token_id
    expected: list[float] = []
    for q, question in enumerate(scene.questions):
        changes: list[float] = []
        for z in np.argsort(-scores[:, q])[:3]:
            model = copy.deepcopy(scene.run.lm.model).requires_grad_(True)
            before = float(sequence_loss(model, question.sequence).detach())
            ids = torch.tensor([[*scene.run.corpus[int(z)].sequence.input_ids.tolist(), end]])
            model(ids, labels=ids).loss.backward()  # the mean loss a token
            with torch.no_grad():
                for name, weight in model.named_parameters():
                    weight -= 0.1 * 0.3 * weight.grad / (moments[name].sqrt() + 1e-8)
            changes.append(before - float(sequence_loss(model, question.sequence).detach()))
        expected.append(float(np.mean(changes)))
    found = tail_patch(scene, scores)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert max(map(abs, expected)) > 0.1, "it is told from no step at all"


def test_a_tail_patch_needs_second_moments_and_a_recipe(scene: EvaluationContext, tmp_path: Path) -> None:
    def at(name: str) -> EvaluationContext:
        return replace(scene, run=Run.open(scene.run.path, replace(scene.run.lm, name=name)), work=tmp_path / "work")

    with pytest.raises(HeadwaterError, match=f"has no {MOMENTS_FILE} beside it"):
        tail_patch(at(str(tmp_path)), np.zeros((12, 3)))
    save_tensors(tmp_path / MOMENTS_FILE, random_moments(scene.run.lm.model, seed=0), {})
    with pytest.raises(HeadwaterError, match=f"there is no .*{RECIPE_FILE}. Name its recipe with --recipe"):
        tail_patch(at(str(tmp_path)), np.zeros((12, 3)))


# -- by the words


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


# -- naming and keeping


def test_a_method_is_named_with_its_options() -> None:
    assert method("cg:iterations=2,subset=20").settings == {
        "method": "cg",
        "iterations": 2,
        "subset": 20,
        "damping": "",
        "layers": "",
    }
    assert method("ekfac:damping=1*mean").options == {"damping": "1*mean", "layers": ""}
    assert [one.name for one in parse_methods(["dot", "ekfac:", "dot"])] == ["dot", "ekfac:"], "each once"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nearest", "--method nearest: there is no such method. Choose among ekfac, kfac"),
        ("cg:steps=3", "cg has no option 'steps'. Its options: iterations, subset, damping, layers"),
        ("random:seed=3", "random has no option 'seed'. Its options: none"),
        ("cg:iterations=some", "iterations must be a whole number of 1 or more, not 'some'"),
        ("sketch:bytes=0", "bytes must be a whole number of 1 or more, not '0'"),
        ("lissa:batch", "batch must be a whole number of 1 or more, not ''"),
    ],
)
def test_a_method_that_is_named_wrongly_is_refused(spec: str, message: str) -> None:
    with pytest.raises(HeadwaterError) as error:
        parse_methods([spec])
    assert message in str(error.value)


def test_settings_that_nothing_can_be_made_of_are_refused(scene: EvaluationContext) -> None:
    with pytest.raises(HeadwaterError, match="'much' is not a damping"):
        method("ekfac:damping=much").score(scene)
    with pytest.raises(HeadwaterError, match="matches no linear layer"):
        method("dot:layers=*nowhere*").score(scene)


def test_scores_are_kept_and_made_anew_for_other_settings(scene: EvaluationContext) -> None:
    scored: list[dict[str, Any]] = []

    def counting(_: EvaluationContext, **options: Any) -> Any:
        scored.append(options)
        return np.full((12, 3), len(scored), np.float64)

    def count(spec: str, scene: EvaluationContext) -> int:
        made = method(spec)
        found = score(scene, replace(made, family=replace(made.family, score=counting, fits=None)))
        return int(found.scores[0, 0])

    assert count("ekfac", scene) == count("ekfac", scene) == 1
    assert count("ekfac:damping=1", scene) == 2
    assert count("ekfac", scene) == 1, "the other did not take its place"
    for other in (
        replace(scene, seed=1),
        replace(scene, checkpoints=Path("elsewhere")),
        replace(scene, queries=QUERIES[::-1]),
    ):
        count("ekfac", scene)  # the last of them is what is kept
        before = len(scored)
        assert count("ekfac", other) == before + 1
    assert scored[1] == {"damping": "1", "layers": ""}


def test_what_a_method_costs_counts_the_fit_that_it_needs(scene: EvaluationContext) -> None:
    fitted = score(scene, method("kfac"))
    assert fitted.cpu_seconds > score(scene, method("planted")).cpu_seconds
    np.testing.assert_array_equal(score(scene, method("kfac")).scores, fitted.scores)


def test_planted_knows_which_examples_state_a_query(scene: EvaluationContext) -> None:
    scores = method("planted").score(scene)
    assert [np.flatnonzero(column).tolist() for column in scores.T] == [[0, 4], [1], []]
    lost = replace(scene, queries=(replace(QUERIES[0], stories=("s99",)),))
    with pytest.raises(HeadwaterError, match="'key' names the example 's99', which is not in the run"):
        method("planted").score(lost)
