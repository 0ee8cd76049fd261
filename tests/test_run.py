"""The main job end to end, on a tiny model: create, fit, ask, scan, kill, resume, refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from headwater.base.progress import Step
from headwater.cli import app
from headwater.corpus.options import CorpusOptions
from headwater.curvature.options import FitOptions
from headwater.errors import FingerprintMismatch, HeadwaterError
from headwater.runs.run import Run
from headwater.sweep.execution import Execution
from tests.models import TEXT, plain_model, tiny_tokenizer

NAMES = ("Lily", "Tom", "the fox", "an otter", "Mia", "the moon")
STORIES = [f"{TEXT[k % 4][: 20 + k % 30]} And {NAMES[k % 6]} saw {k} stars." for k in range(60)]
QUERIES = [
    {"id": "q1", "prompt": "Once upon a time, Lily", "completion": " found a shiny key."},
    {"id": "q2", "prompt": "Tom the otter lost", "completion": " his red hat", "span": "red hat"},
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a corpus and queries."""
    folder = tmp_path_factory.mktemp("place")
    plain_model("gpt_neo", torch.float32).save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    lines = [json.dumps({"id": f"s{k}", "text": text, "kind": "story"}) for k, text in enumerate(STORIES)]
    (folder / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, QUERIES)), encoding="utf-8")
    return folder


TENS = Execution(shard_examples=10)
"""Shards of ten examples, so that the sixty stories make six."""


def create(place: Path, name: str) -> Run:
    return Run.create(place / name, str(place / "model"), place / "corpus.jsonl", execution=TENS)


@pytest.fixture(scope="module")
def run(place: Path) -> Run:
    made = create(place, "run")
    made.fit()
    return made


def test_an_answer_ranks_every_example_and_shows_its_tokens(run: Run) -> None:
    answer = run.ask("Once upon a time, Lily", " found a shiny key.", k=100)
    assert answer.examples_scored == 60
    assert len(answer.proponents) + len(answer.opponents) == 60
    for side, sign in ((answer.proponents, 1), (answer.opponents, -1)):
        values = [example.influence * sign for example in side]
        assert values == sorted(values, reverse=True)
        assert all(value > 0 for value in values)
    for example in answer.proponents + answer.opponents:
        assert "".join(token.token for token in example.tokens) == example.text
        assert sum(token.influence for token in example.tokens) == pytest.approx(example.influence, rel=1e-4)
        assert sum(example.layers.values()) == pytest.approx(example.influence, rel=1e-3, abs=1e-4)
        assert example.removal_effect == pytest.approx(-example.influence / 60)
        assert example.source.startswith("corpus.jsonl:")
        assert example.metadata == {"kind": "story"}
    assert sum(t.loss or 0 for t in answer.query.tokens if t.selected) == pytest.approx(answer.query.loss)


def test_a_text_is_its_own_strongest_supporter_when_ranked_relatively(run: Run) -> None:
    example = run.corpus[7]
    first = example.pieces[0]
    answer = run.ask(first, example.text[len(first) :], rank_by="relative", k=3)
    assert answer.proponents[0].id == example.id
    relatives = [e.relative or 0.0 for e in answer.proponents]
    assert relatives == sorted(relatives, reverse=True)
    norms = np.sqrt(run.self_influence(run.curvature()))
    assert relatives[0] == pytest.approx(answer.proponents[0].influence / norms[7], rel=1e-4)


def test_without_a_completion_the_model_continues_the_prompt(run: Run) -> None:
    question = run.question("Once upon a time")
    assert question.generated
    assert question.completion
    assert run.question("Once upon a time").completion == question.completion
    assert run.ask(question, k=1).query.generated


def test_a_token_map_sums_to_the_examples_influence(run: Run) -> None:
    question = run.question("Once upon a time, Lily", " found a shiny key.")
    example = run.ask(question, k=1).proponents[0]
    token_map = run.token_map(question, example.id)
    values = np.array(token_map.values)
    assert values.shape == (len(token_map.query_tokens), len(example.tokens))
    assert values.sum(0) == pytest.approx([t.influence for t in example.tokens], rel=1e-3, abs=1e-3)
    assert values.sum() == pytest.approx(example.influence, rel=1e-3)


def test_a_contrast_is_the_difference_of_two_questions(run: Run) -> None:
    question = run.question("Tom the otter lost", " his red hat", contrast=" the moon.")
    both = run.ask(question, k=100, fold=False)
    one, other = (
        {e.id: e for end in (found.proponents, found.opponents) for e in end}
        for found in (
            run.ask("Tom the otter lost", words, k=100, fold=False) for words in (" his red hat", " the moon.")
        )
    )
    assert len(both.proponents) + len(both.opponents) == 60
    for example in both.proponents + both.opponents:
        parts = zip(one[example.id].tokens, other[example.id].tokens, strict=True)
        assert [t.influence for t in example.tokens] == pytest.approx(
            [a.influence - b.influence for a, b in parts], rel=1e-3, abs=1e-2
        )
    assert both.contrast is not None
    assert both.contrast.completion == " the moon."
    assert "favoured the completion over “the moon.”" in (both._repr_html_() or "")
    token_map = run.token_map(question, both.proponents[0].id)
    assert token_map.query_tokens == question.selected_pieces + question.parts[1][0].selected_pieces
    assert token_map.contrast_tokens == len(question.parts[1][0].selected_pieces)
    assert np.sum(token_map.values) == pytest.approx(both.proponents[0].influence, rel=1e-3)


def test_only_the_layers_chosen_count(run: Run) -> None:
    asked = ("Tom the otter lost", " his red hat")
    whole = run.ask(*asked, k=100, fold=False)
    names = list(whole.proponents[0].layers)
    some = run.ask(*asked, k=100, fold=False, layers=(names[1], "*.1.*fc"))
    assert some.layers == [name for name in names if name == names[1] or (".1." in name and name.endswith("fc"))]
    assert some.layers is not None
    every = {e.id: e for e in whole.proponents + whole.opponents}
    for example in some.proponents + some.opponents:
        kept = {name: part if name in some.layers else 0 for name, part in every[example.id].layers.items()}
        assert example.layers == pytest.approx(kept, rel=1e-3, abs=1e-3)
        assert example.influence == pytest.approx(sum(kept.values()), rel=1e-3, abs=1e-3)
    token_map = run.token_map(run.question(*asked), some.proponents[0].id, layers=tuple(some.layers))
    assert np.sum(token_map.values) == pytest.approx(some.proponents[0].influence, rel=1e-3)
    with pytest.raises(HeadwaterError, match=r"matches no tracked layer. Nearest: "):
        run.ask(*asked, layers=("attention",))


def test_a_span_may_be_given_by_its_place(run: Run) -> None:
    prompt, completion = "Tom and", " Tom saw Tom."
    by_place = run.question(prompt, completion, (9, 12))
    assert by_place.span == "Tom"
    assert by_place.selected.index(True) > run.question(prompt, completion, "Tom").selected.index(True)
    for place in ((3, 3), (-1, 2), (0, 99)):
        with pytest.raises(HeadwaterError, match="which has 13 characters"):
            run.question(prompt, completion, place)


def test_the_distribution_counts_every_example(run: Run) -> None:
    answer = run.ask("Tom the otter lost", " his red hat", k=60, fold=False)
    spread = answer.distribution
    assert spread is not None
    assert sum(spread.scored) == 60
    assert sum(spread.estimated) == 0
    shown = [e.influence for e in answer.proponents + answer.opponents]
    assert spread.edges[-1] == -spread.edges[0] == pytest.approx(max(map(abs, shown)), rel=1e-3)
    assert spread.scored[-1] + spread.scored[0] >= 1


def test_damping_is_chosen_when_asking(run: Run) -> None:
    strong = run.ask("Once upon", " a time", damping="1e9", k=1).proponents[0].influence
    assert strong == pytest.approx(0, abs=1e-3)
    assert run.ask("Once upon", " a time", damping="1e9", k=1).damping == "1e+09"


def test_damping_given_to_fit_holds_for_every_later_question_and_refits_nothing(run: Run) -> None:
    before = run.paths.curvature.stat().st_mtime_ns
    run.fit(damping="1e9")
    assert Run.open(run.path).ask("Once upon", " a time", k=1).damping == "1e+09"
    assert run.ask("Once upon", " a time", damping="0.1*mean", k=1).damping == "0.1 × mean(Λ)"
    with pytest.raises(HeadwaterError, match="is not a damping"):
        run.fit(damping="much")
    with pytest.raises(HeadwaterError, match="fit_examples must be a whole number of at least 1"):
        run.fit(damping="1", fit_examples=0)
    assert Run.open(run.path).ask("Once upon", " a time", k=1).damping == "1e+09"
    run.fit()
    assert run.ask("Once upon", " a time", k=1).damping == "0.1 × mean(Λ)"
    assert run.paths.curvature.stat().st_mtime_ns == before


def test_scan_scores_what_ask_scores(run: Run, place: Path) -> None:
    questions = [run.question(q["prompt"], q["completion"], q.get("span")) for q in QUERIES]
    named = [replace(q, id=str(name["id"])) for q, name in zip(questions, QUERIES, strict=True)]
    run.scan(named, place / "scores.parquet", tokens=True)
    table = pq.read_table(place / "scores.parquet")
    assert table.column_names == ["id", "q1", "q1.tokens", "q2", "q2.tokens"]
    assert str(table.schema.field("q1").type) == "float"
    assert table.column("id").to_pylist() == [f"s{k}" for k in range(60)]
    for question in named:
        scores = dict(zip(table["id"].to_pylist(), table[question.id].to_pylist(), strict=True))
        tokens = dict(zip(table["id"].to_pylist(), table[f"{question.id}.tokens"].to_pylist(), strict=True))
        for example in run.ask(question, k=5).proponents:
            assert scores[example.id] == pytest.approx(example.influence, rel=1e-3)
            assert tokens[example.id] == pytest.approx([t.influence for t in example.tokens], rel=1e-2, abs=1e-3)


def test_a_run_refuses_another_model_and_another_corpus(run: Run, place: Path, tmp_path: Path) -> None:
    other = plain_model("gpt_neo", torch.float32)
    other.transformer.h[0].mlp.c_fc.weight.data[0, 0] += 1
    other.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    with pytest.raises(FingerprintMismatch, match=r"model of the run .* expected \w{16}, found \w{16}"):
        Run.create(place / "run", str(tmp_path / "model"), place / "corpus.jsonl")
    (tmp_path / "other.jsonl").write_text(json.dumps({"text": "Another story altogether."}), encoding="utf-8")
    with pytest.raises(FingerprintMismatch, match="corpus of the run"):
        Run.create(place / "run", str(place / "model"), tmp_path / "other.jsonl")
    assert Run.open(place / "run").corpus.fingerprint == run.corpus.fingerprint


def test_a_curvature_of_another_run_is_refused(run: Run, place: Path, tmp_path: Path) -> None:
    limited = Run.create(tmp_path / "run", run.lm, place / "corpus.jsonl", options=CorpusOptions(max_tokens=10))
    limited.paths.curvature.parent.mkdir()
    limited.paths.curvature.write_bytes(run.paths.curvature.read_bytes())
    with pytest.raises(FingerprintMismatch, match=r"corpus that .* was fitted on"):
        limited.ask("Once upon", " a time")


def test_a_damaged_curvature_says_how_to_mend_it(run: Run, place: Path, tmp_path: Path) -> None:
    copied = Run.create(tmp_path / "run", run.lm, place / "corpus.jsonl")
    copied.paths.curvature.parent.mkdir()
    copied.paths.curvature.write_bytes(run.paths.curvature.read_bytes()[:1000])
    with pytest.raises(HeadwaterError, match=r"cannot be read .* Delete it"):
        copied.ask("Once upon", " a time")


def test_other_settings_fit_again_and_the_same_ones_do_not(run: Run, place: Path, tmp_path: Path) -> None:
    fresh = Run.create(tmp_path / "run", run.lm, place / "corpus.jsonl")
    fresh.fit(FitOptions(curvature="kfac", fit_examples=20, fisher="empirical"))
    assert fresh.curvature().kind == "kfac"
    before = fresh.paths.curvature.read_bytes()
    steps: list[Step] = []
    fresh = fresh.using(report=steps.append)
    fresh.fit(FitOptions(curvature="kfac", fit_examples=20, fisher="empirical"))
    assert not steps
    fresh.fit(FitOptions(curvature="kfac", fit_examples=21, fisher="empirical"))
    assert steps
    assert fresh.paths.curvature.read_bytes() != before


# -- the command line


def headwater(*arguments: str | Path | int) -> tuple[int, str, str, BaseException | None]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr, result.exception


def test_the_command_line_does_the_main_job(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code, _, said, error = headwater(
        "fit",
        folder,
        "--model",
        place / "model",
        "--corpus",
        place / "corpus.jsonl",
        "--fit-examples",
        30,
        "--layers",
        "*.c_fc",
        "--seed",
        1,
    )
    assert code == 0, error
    assert "60 examples" in said
    code, out, _, error = headwater(
        "ask",
        folder,
        QUERIES[0]["prompt"],
        QUERIES[0]["completion"],
        "-k",
        2,
        "--json",
        "--html",
        tmp_path / "a.html",
    )
    assert code == 0, error
    answer = json.loads(out)
    assert set(answer) >= {"query", "proponents", "opponents"}
    assert set(answer["proponents"][0]) >= {"id", "influence", "text", "tokens", "layers"}
    assert len(answer["proponents"]) == 2
    assert all(name.endswith("c_fc") for name in answer["proponents"][0]["layers"])
    assert "<!doctype html>" in (tmp_path / "a.html").read_text(encoding="utf-8").lower()
    question = (QUERIES[0]["prompt"], QUERIES[0]["completion"])
    best = answer["proponents"][0]
    code, out, _, error = headwater("map", folder, best["id"], *question, "--html", tmp_path / "m.html")
    assert code == 0, error
    assert best["id"] in out
    assert "<table>" in (tmp_path / "m.html").read_text(encoding="utf-8")
    code, _, _, error = headwater("scan", folder, place / "queries.jsonl", "-o", tmp_path / "s.parquet")
    assert code == 0, error
    assert pq.read_table(tmp_path / "s.parquet").column_names == ["id", "q1", "q2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask", "nowhere", "a", "b"], "not a Headwater run"),
        (["fit", "new"], "needs both --model and --corpus"),
        (["fit", "new", "--model", "./nope", "--corpus", "x.jsonl"], "No model at"),
    ],
)
def test_mistakes_end_in_one_clear_message(arguments: list[str], message: str) -> None:
    code, _, _, error = headwater(*arguments)
    assert code != 0
    assert isinstance(error, HeadwaterError)
    assert message in str(error)


def test_a_corpus_that_cannot_be_read_leaves_no_run_behind(place: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": "one two three"}\n{"text": \n', encoding="utf-8")
    with pytest.raises(HeadwaterError, match=r"bad\.jsonl:2"):
        Run.create(tmp_path / "run", str(place / "model"), tmp_path / "bad.jsonl")
    assert not (tmp_path / "run").exists()


def test_an_unknown_choice_is_refused_with_those_there_are() -> None:
    code, _, said, _ = headwater("ask", "run", "a", "b", "--rank-by", "size")
    assert code == 2
    assert "relative" in said


def test_a_bad_queries_file_names_its_line(place: Path, run: Run, tmp_path: Path) -> None:
    bad = tmp_path / "q.jsonl"
    bad.write_text('{"id": "a", "prompt": "x", "completion": "y"}\n{"id": "b", "prompt": "x"}\n', encoding="utf-8")
    _, _, _, error = headwater("scan", place / "run", bad)
    assert isinstance(error, HeadwaterError)
    assert "q.jsonl:2: the line" in str(error)
