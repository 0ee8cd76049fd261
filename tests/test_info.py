"""What `headwater info` says at every point of a run's life."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from headwater.base.progress import Step
from headwater.cli import app
from headwater.errors import HeadwaterError
from headwater.runs import info as info_module
from headwater.runs.info import RunInfo, describe_run
from headwater.runs.run import Run
from headwater.sweep.execution import Execution
from tests.killing import KilledError
from tests.models import TEXT, plain_model, tiny_tokenizer

STORIES = [f"{TEXT[k % 4][: 20 + k % 30]} And they saw {k} stars." for k in range(30)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a corpus."""
    folder = tmp_path_factory.mktemp("place")
    plain_model("gpt_neo", torch.float32).save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    lines = [json.dumps({"id": f"s{k}", "text": text, "kind": "story"}) for k, text in enumerate(STORIES)]
    (folder / "corpus.jsonl").write_text("\n".join([*lines, json.dumps({"id": "short", "text": "a"})]))
    return folder


@pytest.fixture
def run(place: Path, tmp_path: Path) -> Run:
    tens = Execution(shard_examples=10)  # the thirty stories make three shards
    return Run.create(tmp_path / "run", str(place / "model"), place / "corpus.jsonl", execution=tens)


def killed_after(run: Run, stage: str, done: int) -> Run:
    """A view of the run whose work is killed in a stage, after as many examples as are `done`."""

    def report(step: Step) -> None:
        if step.stage == stage and step.done > done:
            raise KilledError

    return run.using(report=report)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_new_run_has_a_corpus_and_nothing_else_and_says_what_to_do(run: Run) -> None:
    before = files(run.path)
    found = describe_run(run.path)
    assert files(run.path) == before
    assert (found.curvature, found.index, found.fit_interrupted, found.self_influence) == (None, None, False, False)
    assert found.corpus.examples == 30
    assert found.corpus.tokens == run.corpus.counts.tokens
    assert (found.corpus.records, found.corpus.too_short, found.corpus.skipped) == (31, 1, 0)
    assert found.model_fingerprint == run.lm.fingerprint
    assert found.corpus.fingerprint == run.corpus.fingerprint
    assert found.advice == (f"headwater fit {run.path}", f"headwater index {run.path}")
    assert found.bytes == sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file())


def test_a_fitted_run_tells_its_settings(run: Run) -> None:
    run.fit(fit_examples=20, fisher="empirical", seed=3, layers=("*.c_fc",), damping="0.5*mean")
    made = describe_run(run.path).curvature
    assert made is not None
    assert (made.kind, made.labels, made.fit_examples, made.seed, made.current) == ("ekfac", "empirical", 20, 3, True)
    assert made.layers == tuple(layer.name for layer in run.curvature().layers)
    assert made.parameters == sum(layer.parameters for layer in run.curvature().layers)
    assert made.damping == run.curvature().damping.describe()
    assert made.bytes == run.paths.curvature.stat().st_size


def test_an_interrupted_fit_is_told_from_none(run: Run) -> None:
    with pytest.raises(KilledError):
        killed_after(run, "eigenvalues", 10).fit()
    found = describe_run(run.path)
    assert found.curvature is None
    assert found.fit_interrupted
    assert found.advice[0] == f"headwater fit {run.path}"
    assert "interrupted" in CliRunner().invoke(app, ["info", str(run.path)]).stdout


def test_an_index_is_described_and_up_to_date(run: Run) -> None:
    run.fit()
    run.build_index(bytes=64, seed=7)
    found = describe_run(run.path)
    assert found.index is not None
    assert found.index.current
    assert (found.index.examples, found.index.sketch["seed"]) == (30, 7)
    assert found.index.bytes_each == run.index.settings.sketch.bytes  # pyright: ignore[reportOptionalMemberAccess]
    assert "kind" in found.index.columns
    assert found.index.bytes is not None
    assert 30 * found.index.bytes_each < found.index.bytes < found.bytes
    assert found.advice == ()


def test_an_interrupted_index_says_how_much_is_missing(run: Run) -> None:
    run.fit()
    with pytest.raises(KilledError):
        killed_after(run, "index", 15).build_index(bytes=64)
    index = describe_run(run.path).index
    assert index is not None
    assert not index.current
    assert (index.examples, index.missing) == (10, 20)
    assert describe_run(run.path).advice == (f"headwater index {run.path}",)
    assert "20 examples are missing" in CliRunner().invoke(app, ["info", str(run.path)]).stdout


def test_changes_of_the_corpus_leave_the_index_behind(run: Run, tmp_path: Path) -> None:
    run.fit()
    run.build_index(bytes=64)
    (tmp_path / "more.jsonl").write_text(json.dumps({"id": "new", "text": "A new story of the moon."}))
    run.add(tmp_path / "more.jsonl")
    run.remove(["s1", "s2"])
    found = describe_run(run.path)
    assert (found.corpus.examples, found.corpus.added, found.corpus.removed) == (29, 1, 2)
    assert found.index is not None
    assert (found.index.missing, found.index.surplus) == (1, 2)
    run.build_index()
    assert describe_run(run.path).advice == ()


def test_an_index_of_another_damping_is_stale(run: Run) -> None:
    run.fit()
    run.build_index(bytes=64)
    run.fit(damping="1e-3")
    index = describe_run(run.path).index
    assert index is not None
    assert index.stale == "damping"
    assert not index.current


def test_self_influence_is_seen_once_it_is_kept(run: Run) -> None:
    run.fit()
    run.self_influence(run.curvature())
    assert describe_run(run.path).self_influence


def test_the_model_is_not_needed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.fit()
    assert not hasattr(info_module, "load_model")
    monkeypatch.setattr("headwater.lm.pretrained.AutoModelForCausalLM", None)
    assert describe_run(run.path).curvature is not None


def test_json_holds_all_that_is_shown(run: Run) -> None:
    run.fit()
    result = CliRunner().invoke(app, ["info", str(run.path), "--json"])
    found: RunInfo = describe_run(run.path)
    assert json.loads(result.stdout) == json.loads(found.to_json())
    shown = CliRunner().invoke(app, ["info", str(run.path)]).stdout.replace("\n", " ")
    assert found.model_fingerprint in shown
    assert "30 examples" in shown


def test_no_run_and_damaged_files_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(HeadwaterError, match="not a Headwater run"):
        describe_run(tmp_path / "nowhere")
    run.fit()
    run.paths.curvature.write_bytes(run.paths.curvature.read_bytes()[:100])
    with pytest.raises(HeadwaterError, match=r"cannot be read .* Delete it"):
        describe_run(run.path)
