"""What `headwater plan` foretells, against what is then there. Time is compared in benchmarks/plan.py, never here."""

from __future__ import annotations

import itertools
import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from headwater.attribution.index.sketch import sketch_of_width
from headwater.base.byte_sizes import size_of
from headwater.cli import app
from headwater.corpus.batches import all_targets, make_batches
from headwater.corpus.options import CorpusOptions, ReadOptions
from headwater.corpus.read import Record
from headwater.curvature import sections as sections_module
from headwater.curvature.covariances import Covariances
from headwater.curvature.options import FitOptions
from headwater.curvature.sections import section_of
from headwater.errors import HeadwaterError
from headwater.lm.layers import choose_layers
from headwater.plan.bases import probe_bases
from headwater.plan.estimates import Plan, sketches_held
from headwater.plan.layout import Layout
from headwater.plan.options import PlanOptions
from headwater.plan.plan import plan_corpus, plan_run
from headwater.plan.subject import spread_records, subject_of_run
from headwater.plan.timing import sweep_cost
from headwater.runs.run import Run
from headwater.sweep.shards import Shard
from headwater.sweep.sweep import Sweep, fold
from tests.models import TEXT, plain_model, tiny_lm, tiny_tokenizer

STORIES = [f"{TEXT[k % 4][: 20 + 3 * (k % 9)]} And they saw {k} stars." for k in range(60)]
SMALL = PlanOptions(bytes=64)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a corpus."""
    folder = tmp_path_factory.mktemp("place")
    plain_model("gpt_neo", torch.float32).save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    lines = [json.dumps({"id": f"s{k}", "text": text, "kind": "story"}) for k, text in enumerate(STORIES)]
    (folder / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def temporary_files(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made, so that one that stays is seen."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(scope="module")
def run(place: Path) -> Run:
    return Run.create(place / "run", str(place / "model"), place / "corpus.jsonl")


@pytest.fixture(scope="module")
def plan(run: Run) -> Plan:
    return plan_run(run.path, SMALL)


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_every_stage_is_estimated(plan: Plan, run: Run) -> None:
    assert [stage.name for stage in plan.stages] == ["corpus", "fit", "index", "scan", "question"]
    for stage in plan.stages[1:]:
        assert 0 < stage.seconds < math.inf
        assert stage.memory > 10_000_000  # Python and torch alone take more
        assert stage.disk > 0 or stage.name == "question"
    assert (plan.examples, plan.tokens) == (60, run.corpus.counts.tokens)
    assert plan.parameters == sum(layer.parameters for layer in choose_layers(run.lm.model))
    assert plan.seconds == pytest.approx(sum(stage.seconds for stage in plan.stages[:4]))
    assert plan.next_command == f"headwater fit {run.path}"


def test_nothing_is_left_behind_and_the_run_is_as_it_was(place: Path, run: Run, temporary_files: Path) -> None:
    before = files(place)
    folders = sorted(place.rglob("*"))
    plan_run(run.path, SMALL)
    plan_corpus(str(place / "model"), place / "corpus.jsonl", options=SMALL)
    assert files(place) == before
    assert sorted(place.rglob("*")) == folders
    assert list(temporary_files.iterdir()) == []


def test_nothing_is_left_behind_where_it_fails(place: Path, temporary_files: Path) -> None:
    with pytest.raises(HeadwaterError, match="--bytes 1"):
        plan_corpus(str(place / "model"), place / "corpus.jsonl", options=PlanOptions(bytes=1))
    assert list(temporary_files.iterdir()) == []


def test_sizes_on_disk_are_those_of_the_real_files(place: Path, tmp_path: Path) -> None:
    planned = plan_corpus(str(place / "model"), place / "corpus.jsonl", options=SMALL)
    made = Run.create(tmp_path / "run", str(place / "model"), place / "corpus.jsonl")
    assert planned.stage("corpus").disk == pytest.approx(size_of(made.path / "corpus"), rel=0.02)
    made.fit()
    assert planned.stage("fit").disk == pytest.approx(made.paths.curvature.stat().st_size, rel=0.02)
    made.build_index(bytes=64)
    assert planned.stage("index").disk == pytest.approx(size_of(made.path / "index"), rel=0.5)  # tiny: mostly headers


@pytest.mark.parametrize(
    "fit",
    [
        FitOptions(layers=("all-linear",), fit_examples=20),
        FitOptions(curvature="kfac"),
        FitOptions(curvature="diagonal", fisher="empirical"),
        FitOptions(curvature="identity", layers=("*.c_fc",)),
        FitOptions(curvature="exact", layers=("*.0.mlp.c_fc",)),
    ],
)
def test_every_kind_of_curvature_can_be_planned(fit: FitOptions, place: Path, tmp_path: Path) -> None:
    made = Run.create(tmp_path / "run", str(place / "model"), place / "corpus.jsonl")
    planned = plan_run(made.path, PlanOptions(fit, bytes=64))
    made.fit(fit)
    assert planned.stage("fit").disk == pytest.approx(made.paths.curvature.stat().st_size, rel=0.02)
    assert planned.curvature == fit.curvature
    assert planned.fit_examples == (fit.fit_examples or 60)


def test_a_run_and_its_model_and_corpus_are_planned_alike(plan: Plan, place: Path) -> None:
    other = plan_corpus(str(place / "model"), place / "corpus.jsonl", options=SMALL)
    assert (other.examples, other.tokens, other.parameters) == (plan.examples, plan.tokens, plan.parameters)
    for name in ("corpus", "fit", "scan"):
        assert other.stage(name).disk == plan.stage(name).disk
    assert other.stage("corpus").seconds > 0
    assert other.records == other.sampled_records == 60
    assert other.next_command == f"headwater fit RUN --model {place / 'model'} --corpus {place / 'corpus.jsonl'}"


def test_the_next_command_has_every_option_that_was_planned_with(place: Path) -> None:
    reading = CorpusOptions(ReadOptions(id_field="id", limit=20, skip_bad=True), max_tokens=12, long_texts="split")
    fit = FitOptions(curvature="kfac", layers=("*.c_fc", "*.c_proj"), seed=3)
    command = plan_corpus(str(place / "model"), place / "corpus.jsonl", reading, options=PlanOptions(fit)).next_command
    flags = "--id-field id --limit 20 --skip-bad --max-tokens 12 --long split"
    assert command.endswith(f"{flags} --curvature kfac --layers '*.c_fc' --layers '*.c_proj' --seed 3")


def test_of_a_large_corpus_a_sample_is_tokenised_and_scaled(
    place: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.plan.subject.SAMPLED_RECORDS", 20)
    planned = plan_corpus(str(place / "model"), place / "corpus.jsonl", options=SMALL)
    assert planned.records == planned.examples == 60
    assert planned.sampled_records is not None
    assert 10 <= planned.sampled_records <= 20
    assert planned.tokens == pytest.approx(run.corpus.counts.tokens, rel=0.1)
    # A file of twenty rows is in large part its frame, which is scaled with them.
    assert planned.stage("corpus").disk == pytest.approx(size_of(run.path / "corpus"), rel=0.3)


def test_reading_options_decide_what_is_planned(place: Path, tmp_path: Path) -> None:
    rows = [json.dumps({"story": f"{text} {text}"}) for text in STORIES]
    (tmp_path / "other.jsonl").write_text("\n".join(rows), encoding="utf-8")
    options = CorpusOptions(ReadOptions(text_field="story", limit=40), 16, "split")
    planned = plan_corpus(str(place / "model"), tmp_path / "other.jsonl", options, options=SMALL)
    made = Run.create(tmp_path / "run", str(place / "model"), tmp_path / "other.jsonl", options=options)
    assert (planned.records, planned.examples, planned.tokens) == (40, len(made.corpus), made.corpus.counts.tokens)


def test_what_is_done_is_said_and_its_settings_are_taken(place: Path, tmp_path: Path) -> None:
    made = Run.create(tmp_path / "run", str(place / "model"), place / "corpus.jsonl")
    made.fit(curvature="kfac", layers=("*.c_fc",), fit_examples=30)
    planned = plan_run(made.path)
    assert (planned.curvature, planned.layers, planned.fit_examples) == ("kfac", 2, 30)
    assert [stage.done for stage in planned.stages] == [True, True, False, False, False]
    assert planned.next_command == f"headwater index {made.path}"
    made.build_index(bytes=64)
    again = plan_run(made.path)
    assert again.stage("index").done
    assert again.sketch_bytes == made.index.settings.sketch.bytes  # pyright: ignore[reportOptionalMemberAccess]
    assert again.next_command.startswith(f"headwater ask {made.path}")


@pytest.mark.parametrize("budget", [16, 64, 100])
def test_the_batches_foreseen_are_those_that_are_made(run: Run, budget: int) -> None:
    subject = subject_of_run(run, "run", FitOptions())
    sequences = run.corpus.sequences()
    shards = Sweep(stage="x", lm=run.lm, layers=subject.layers, sequences=sequences, shard_examples=13).shards()
    layout = Layout(subject.layout.lengths, shards, budget)
    made = [batch for shard in shards for batch in make_batches(sequences[shard.start : shard.stop], budget)]
    assert [len(batch.rows) for batch in layout.batches] == [len(batch.ids) for batch in made]
    assert [batch.width for batch in layout.batches] == [batch.input_ids.shape[1] for batch in made]
    assert layout.padded == sum(batch.input_ids.size for batch in made)
    assert sorted(np.concatenate([batch.rows for batch in layout.batches]).tolist()) == list(range(60))
    assert sum(batch.first for batch in layout.batches) == len(shards)


def test_a_sample_has_the_widest_batch_and_whole_others() -> None:
    lengths = np.random.default_rng(0).integers(5, 60, 500)
    layout = Layout(lengths, [Shard(0, 0, 250), Shard(1, 250, 500)], 100)
    chosen = layout.sample(12)
    assert lengths[chosen].max() == lengths.max()
    whole = {tuple(batch.rows.tolist()) for batch in layout.batches}
    taken = [rows for rows in whole if set(rows) <= set(chosen.tolist())]
    assert sum(map(len, taken)) == len(chosen)
    assert len(taken) == 12
    assert lengths[chosen].mean() == pytest.approx(lengths.mean(), rel=0.25)
    assert len(layout.sample(10_000)) == 500


def test_a_sweep_of_known_costs_is_extrapolated_exactly() -> None:
    def layout(shards: int) -> Layout:
        return Layout(np.full(40 * shards, 10), [Shard(k, 40 * k, 40 * k + 40) for k in range(shards)], 100)

    small, now, stamps = layout(3), 0.0, list[float]()
    for place, batch in enumerate(small.batches):
        now += 0.001 * batch.padded + (40 * 0.01 if batch.first else 0)  # computing; reading the shard
        now += (0.5 if batch.first and place else 0) + (0.0 if place else 7.0)  # finishing the one before; warming up
        stamps.append(now)
    cost = sweep_cost(small, stamps, 0.0, end=now + 0.5, per_example=0.01)
    assert cost.seconds(small) == pytest.approx(now + 0.5)
    assert cost.seconds(layout(30)) == pytest.approx(7 + 30 * (400 * 0.001 + 40 * 0.01 + 0.5))


def test_records_are_spread_evenly_and_counted() -> None:
    def records(count: int) -> list[Record]:
        return [Record(id=str(k), text="text", source="x:1", metadata={}) for k in range(count)]

    assert [r.id for r in spread_records(records(4), 4)[0]] == ["0", "1", "2", "3"]
    for count, most in [(5, 4), (1000, 16), (1024, 16), (77, 7)]:
        kept, total = spread_records(records(count), most)
        assert total == count
        assert most // 2 <= len(kept) <= most
        places = [int(r.id) for r in kept]
        assert len({b - a for a, b in itertools.pairwise(places)}) == 1
        assert places[0] == 0


def test_bases_too_wide_for_the_budget_are_timed_and_stood_in_for() -> None:
    lm = tiny_lm(dtype=torch.float32)
    layers = choose_layers(lm.model)
    run = [all_targets(tiny_tokenizer()(text)["input_ids"], str(k)) for k, text in enumerate(TEXT)]
    covariances = fold(Sweep(stage="x", lm=lm, layers=layers, sequences=run), lambda: Covariances(layers))
    whole, none = probe_bases(covariances), probe_bases(covariances, budget=0.0)
    assert set(whole.bases.tensors) == set(none.bases.tensors)
    assert none.seconds > 0
    for layer in layers:
        (found, _), (stand_in, _) = (probed.bases.pairs(layers)[layer.name] for probed in (whole, none))
        assert found is not None
        assert stand_in is not None
        assert found.shape == stand_in.shape == (layer.inputs, layer.inputs)
        assert torch.equal(stand_in.dense(), torch.eye(layer.inputs))
        assert not torch.equal(found.dense(), torch.eye(layer.inputs))


def test_layers_that_do_not_fit_together_are_listed_in_their_parts(
    plan: Plan, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sections_module, "WORKSPACE", 0)
    monkeypatch.setattr(sections_module, "_held_in_a_batch", lambda _: (0, 0))
    least = max(section_of([layer]).peak for layer in choose_layers(run.lm.model))
    made = plan_run(run.path, replace(SMALL, fit=FitOptions(memory=least), directions=8))
    assert len(plan.parts) == 1
    assert [layer for part in made.parts for layer in part.layers] == list(plan.parts[0].layers)
    assert all(part.peak <= least for part in made.parts)
    assert made.parameters == plan.parameters
    shown = CliRunner().invoke(app, ["plan", str(run.path), "--memory", str(least)])
    assert f"{len(made.parts)}. {made.parts[-1].layers[0].name}" in shown.output


def test_questions_hold_what_memory_has_room_for() -> None:
    sketch = sketch_of_width(10_000_000, 8192)
    assert sketches_held(100, sketch, free=10**9) == 100 * sketch.bytes
    assert sketches_held(100, sketch, free=2 * 100 * 2000) == 100 * 1024
    assert sketches_held(100, sketch, free=1000) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give either a run"),
        (["run", "--model", "m"], "Give either a run"),
        (["--model", "m"], "both --model and --corpus"),
        (["nowhere"], "not a Headwater run"),
    ],
)
def test_mistakes_end_in_one_clear_message(arguments: list[str], message: str) -> None:
    error = CliRunner().invoke(app, ["plan", *arguments]).exception
    assert isinstance(error, HeadwaterError)
    assert message in str(error)


def test_a_run_is_asked_for_what_it_has(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HeadwaterError, match="matches no linear layer"):
        plan_run(run.path, PlanOptions(FitOptions(layers=("nothing",))))
    with pytest.raises(HeadwaterError, match="at least one example"):
        plan_run(run.path, PlanOptions(FitOptions(fit_examples=0)))
    monkeypatch.setattr("headwater.curvature.exact.EXACT_LIMIT", 100)
    with pytest.raises(HeadwaterError, match="limit is"):
        plan_run(run.path, PlanOptions(FitOptions(curvature="exact"), bytes=64))


def test_the_command_line_prints_a_table_and_json(run: Run) -> None:
    shown = CliRunner().invoke(app, ["plan", str(run.path), "--bytes", "64", "--queries", "3"])
    assert shown.exit_code == 0, shown.exception
    for words in ("60 examples", "fit", "index", "scan of 3 queries", "one question", "within"):
        assert words in shown.stdout.replace("\n", " ")
    assert f"headwater fit {run.path}" in shown.stderr
    found = json.loads(CliRunner().invoke(app, ["plan", str(run.path), "--bytes", "64", "--json"]).stdout)
    assert found["examples"] == 60
    assert found["total"]["disk"] == sum(stage["disk"] for stage in found["stages"])
