"""The package in examples/plugin, installed: everything of it can be used by its name; and what goes wrong is said."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from headwater.attribution.index.sketch import sketch_of_width
from headwater.attribution.preconditioned import loss_gradients
from headwater.base.plugins import CURVATURES, GROUPS, METRICS, SKETCHES, SOLVERS, plugins
from headwater.cli import app
from headwater.corpus.batches import pad
from headwater.curvature.base import Curvature, EigenCurvature
from headwater.curvature.damping import Damping
from headwater.curvature.fit import fit_curvature
from headwater.curvature.solvers.solver import LinearProblem, solver_of
from headwater.curvature.workbench import Workbench
from headwater.errors import HeadwaterError
from headwater.gradients.factored import per_example
from headwater.lm.capture import Capture
from headwater.lm.layers import choose_layers
from headwater.runs.run import Run
from headwater.sweep.shard_gradients import factored
from headwater.sweep.sweep import Sweep
from tests.models import TEXT, VOCABULARY, plain_model, tiny_lm, tiny_tokenizer
from tests.oracle import assert_near, random_sequences

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"
PROMPT, COMPLETION = "Once upon a time, Lily", " found a shiny key."


def install(folder: Path, name: str, version: str, entry_points: dict[str, dict[str, str]], **modules: str) -> None:
    """What an installer leaves of a package: its modules, and metadata with its entry points."""
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text, encoding="utf-8")
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    lines = [
        line
        for group, entries in entry_points.items()
        for line in (f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()))
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example as its pyproject.toml would have it installed."""
    folder = tmp_path_factory.mktemp("packages")
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    source = (EXAMPLE / "headwater_example.py").read_text(encoding="utf-8")
    install(folder, project["name"], project["version"], project["entry-points"], headwater_example=source)
    return folder


@pytest.fixture
def example(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(packages)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its corpus and queries, as files."""
    folder = tmp_path_factory.mktemp("files")
    plain_model("gpt_neo", torch.float32).save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    lines = [json.dumps({"id": f"s{n}", "text": f"{TEXT[n % 4]} And {n} stars."}) for n in range(20)]
    (folder / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    query = {"id": "key", "prompt": PROMPT, "completion": COMPLETION, "stories": ["s0"]}
    (folder / "queries.jsonl").write_text(json.dumps(query) + "\n", encoding="utf-8")
    return folder


def headwater(*arguments: str | Path) -> str:
    found = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


def told(run: Path, *options: str) -> Any:
    return json.loads(headwater("ask", run, PROMPT, COMPLETION, "-k", "3", "--json", *options))


@pytest.mark.usefixtures("example")
def test_everything_the_example_brings_works_from_the_command_line(
    files: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = files / "run"
    made = ("--model", files / "model", "--corpus", files / "corpus.jsonl")
    headwater("fit", run, *made, "--curvature", "shampoo", "--fisher", "empirical")
    exact = told(run, "--exact")
    assert exact["curvature"] == "shampoo"
    headwater("index", run, "--sketch", "signs")
    assert "sketch signs: dimensions" in headwater("info", run)
    answer = told(run)
    assert answer["examples_searched"] == 20
    for one, other in zip(answer["proponents"], exact["proponents"], strict=True):
        assert (one["id"], one["influence"]) == (other["id"], pytest.approx(other["influence"], rel=1e-4))
    assert told(run, "--solver", "steepest", "--iterations", "2")["curvature"] == "shampoo + steepest"

    methods = ("--method", "shampoo", "--method", "steepest:iterations=2,subset=8", "--method", "sketch:kind=signs")
    measured = ("--metric", "concentration", "--metric", "trace", "--work", files / "work")
    headwater("evaluate", run, "--queries", files / "queries.jsonl", *methods, *measured)
    rows = pq.read_table(files / "work" / "results.parquet").to_pylist()
    shares = {row["method"]: row["value"] for row in rows if row["metric"] == "by the top 1 %"}
    assert set(shares) == {"shampoo", "steepest:iterations=2,subset=8", "sketch:kind=signs"}
    assert all(1 / 20 < share <= 1 for share in shares.values())

    monkeypatch.setattr("sys.path", [path for path in sys.path if path != str(packages)])
    for opened in (lambda: Run.open(run).curvature(), lambda: Run.open(run).index.settings):
        with pytest.raises(HeadwaterError, match="of the package headwater-example, which is not installed here"):
            opened()


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize("kind", [*CURVATURES.builtin, "shampoo"])
def test_every_curvature_keeps_the_laws_that_the_docs_ask_of_it(kind: str, tmp_path: Path) -> None:
    """In float64, on layers that share their input: symmetric, positive, of one piece with its own whitening."""
    lm = tiny_lm("llama")
    layers = choose_layers(lm.model, ["*.0.mlp.*"])
    corpus = random_sequences(9, VOCABULARY, seed=3)
    curvature: Curvature = fit_curvature(
        kind, Sweep(stage="fit", lm=lm, layers=layers, sequences=corpus), Workbench(tmp_path, "laws")
    )
    with Capture(lm, layers) as capture:
        gradients = factored(
            layers, capture(pad(corpus, range(4)), Sweep(stage="", lm=lm, layers=layers, sequences=corpus).labels)
        )
    whole = {name: per_example(gradient) for name, gradient in gradients.items()}
    solved = curvature.precondition(whole)
    inner = _flat(whole) @ _flat(solved).mT
    assert curvature.kind == kind
    assert_near(inner, inner.mT, 1e-8)
    assert bool((torch.linalg.eigvalsh(inner) > 0).all())
    whitened = curvature.whiten(gradients)
    assert whitened.shape == (4, curvature.dimensions)
    assert_near(whitened @ whitened.mT, inner, 1e-8)
    assert_near(curvature.whitened_from(solved), whitened, 1e-8)
    assert_near(_flat(curvature.precondition_factored(gradients)), _flat(solved), 1e-8)
    assert_near(curvature.self_influence(gradients), inner.diagonal(), 1e-8)


@pytest.mark.usefixtures("example")
def test_shampoo_has_the_trace_of_the_fisher_and_is_undone_where_nothing_curves(tmp_path: Path) -> None:
    lm = tiny_lm("gpt_neo")
    layers = choose_layers(lm.model)[:2]
    sweep = Sweep(stage="fit", lm=lm, layers=layers, sequences=random_sequences(9, VOCABULARY, seed=3))
    made, fisher = (fit_curvature(kind, sweep, Workbench(tmp_path / kind, "")) for kind in ("shampoo", "diagonal"))
    assert isinstance(made, EigenCurvature)
    assert isinstance(fisher, EigenCurvature)
    for layer in layers:
        assert_near(made.bases[layer.name].eigenvalues.sum(), fisher.bases[layer.name].eigenvalues.sum(), 1e-8)
    ones = {name: replace(basis, eigenvalues=torch.ones_like(basis.eigenvalues)) for name, basis in made.bases.items()}
    flat = EigenCurvature("shampoo", made.layers, ones, Damping(factor=None, absolute=0.0))
    gradients = loss_gradients(lm, layers, sweep.sequences[:2])
    assert_near(_flat(flat.precondition(gradients)), _flat(gradients), 1e-8)


@pytest.mark.usefixtures("example")
def test_steepest_descent_comes_closer_with_every_step(tmp_path: Path) -> None:
    lm = tiny_lm("gpt_neo")
    layers = choose_layers(lm.model)[:2]
    corpus = random_sequences(7, VOCABULARY, seed=41)
    curvature = fit_curvature(
        "ekfac", Sweep(stage="fit", lm=lm, layers=layers, sequences=corpus), Workbench(tmp_path, "")
    )
    assert isinstance(curvature, EigenCurvature)
    curvature = replace(curvature, damping=Damping(factor=20.0))  # well damped, so that it arrives
    problem = LinearProblem(
        curvature=curvature,
        sweep=Sweep(stage="", lm=lm, layers=layers, sequences=corpus),
        gradients=loss_gradients(lm, layers, corpus[:2]),
    )

    def objective(iterations: int) -> float:
        """½ xᵀ(H + λI)x − xᵀ∇L, which the solution makes least."""
        found = solver_of("steepest").solve(problem, iterations=iterations)
        x, moved = _flat(found), _flat(problem.product(found))
        return float((x * (moved / 2 - _flat(problem.gradients))).sum())

    values = [objective(count) for count in (0, 1, 2, 6)]
    assert values == sorted(values, reverse=True)
    best = solver_of("cg").solve(problem, iterations=30)
    least = -float((_flat(best) * _flat(problem.gradients)).sum()) / 2
    assert values[-1] == pytest.approx(least, rel=0.01)


@pytest.mark.usefixtures("example")
def test_signs_estimate_dot_products_with_the_noise_they_promise() -> None:
    """Without bias, of few bytes and of more than there are coordinates for."""
    rng = np.random.default_rng(0)
    for dimensions, width in ((4000, 100), (1000, 4096)):
        sketch = sketch_of_width(dimensions, width, seed=1, kind="signs")
        rows = rng.standard_normal((400, dimensions))
        query = rows[0] + rng.standard_normal(dimensions)
        coded, table = sketch.encode(rows), sketch.table(query)
        estimates = table[np.arange(sketch.bytes), coded.codes].sum(1) * coded.scales
        errors = (estimates - rows @ query) / np.sqrt(coded.energies * (query @ query))
        assert abs(errors[1:].mean()) < 4 * sketch.noise / np.sqrt(399)
        assert errors[1:].std() == pytest.approx(sketch.noise, rel=0.15)
        assert not sketch.encode(np.zeros((1, dimensions))).scales.any()


def test_names_are_known_without_loading_anything_and_trouble_is_said_only_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Path
) -> None:
    install(
        tmp_path,
        "headwater-trouble",
        "2.0",
        {
            "headwater.curvatures": {"ekfac": "trouble_a:KIND", "worn": "trouble_b:KIND", "lost": "nowhere:KIND"},
            "headwater.solvers": {"odd": "trouble_a:KIND", "dot": "trouble_a:KIND"},
        },
        trouble_a="KIND = 3\n",
        trouble_b="raise RuntimeError('needs a newer torch')\n",
    )
    install(tmp_path, "headwater-twin", "1.0", {"headwater.solvers": {"odd": "trouble_a:KIND"}})
    monkeypatch.syspath_prepend(tmp_path)
    assert [name for name in CURVATURES.names() if name not in CURVATURES.builtin] == ["worn", "lost"]
    assert "trouble_b" not in sys.modules
    said = {
        ("headwater.curvatures", "ekfac"): "more than one curvature named 'ekfac': of Headwater itself and of "
        "headwater-trouble",
        ("headwater.curvatures", "worn"): "'worn' of the package headwater-trouble cannot be loaded: RuntimeError: "
        "needs a newer torch",
        ("headwater.curvatures", "lost"): "cannot be loaded: ModuleNotFoundError: No module named 'nowhere'",
        ("headwater.solvers", "odd"): "more than one solver named 'odd'",
        ("headwater.solvers", "dot"): "trouble_a:KIND, which is not a headwater.curvature.solvers.solver.Solver",
    }
    found = {(one.group, one.name): one.trouble or "" for one in plugins()}
    assert found.keys() == said.keys()
    for which, words in said.items():
        assert words in found[which]
    for arguments, words in (
        (("fit", files / "new", "--model", "m", "--corpus", "c", "--curvature", "worn"), "needs a newer torch"),
        (("evaluate", files / "new", "--method", "dot"), "more than one curvature, solver or method"),
    ):
        result = CliRunner().invoke(app, [*map(str, arguments)])
        assert words in str(result.exception)
    assert not (files / "new").exists()


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (CURVATURES, "--curvature fisher: there is no such curvature. Choose among ekfac, kfac, diagonal"),
        (SOLVERS, "--solver fisher: there is no such solver. Choose among curvature, cg, lissa"),
        (SKETCHES, "--sketch fisher: there is no such sketch. Choose among planes"),
        (METRICS, "--metric fisher: there is no such metric. Choose among lds, trace"),
    ],
)
def test_a_name_that_nobody_has_is_refused_with_those_there_are(group: Any, message: str) -> None:
    with pytest.raises(HeadwaterError) as error:
        group.load("fisher")
    assert message in str(error.value)


def test_all_of_ours_can_be_loaded() -> None:
    for group in GROUPS:
        for name in group.builtin:
            assert group.load(name) is not None
            assert group.package(name) == ""


def test_the_page_shows_every_part_of_the_example() -> None:
    page = (EXAMPLE.parents[1] / "docs" / "plugins.md").read_text(encoding="utf-8")
    file = (EXAMPLE / "headwater_example.py").read_text(encoding="utf-8")
    parts = re.findall(r"\[start:(\w+)\]", file)
    assert len(parts) == len(GROUPS)
    for part in parts:
        assert f'\n--8<-- "examples/plugin/headwater_example.py:{part}"\n' in page


def _flat(gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([part.flatten(1) for part in gradients.values()], dim=1)
