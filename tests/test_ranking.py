"""Curating a corpus: scores against those of a scan, what is kept, and that it is a corpus again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from headwater.attribution import aggregate as aggregate_module
from headwater.attribution.options import Aggregate
from headwater.attribution.question import Question
from headwater.attribution.ranking import Ranking, count_of, parse_keep
from headwater.attribution.scores import SelfInfluence
from headwater.base.progress import Step
from headwater.cli import app
from headwater.corpus.options import CorpusOptions, ReadOptions
from headwater.errors import HeadwaterError
from headwater.runs.run import Run
from headwater.sweep.execution import Execution
from headwater.sweep.sweep import Sweep, fold
from tests.models import TEXT, plain_model, tiny_tokenizer

NAMES = ("Lily", "Tom", "the fox", "an otter", "Mia", "the moon")
STORIES = [f"{TEXT[k % 4][: 20 + k % 30]} And {NAMES[k % 6]} saw {k} stars." for k in range(60)]
ASKED = [
    ("Once upon a time, Lily", " found a shiny key."),
    ("Tom the otter lost", " his red hat"),
    ("They walked up the hill to see the moon. Then they slept. The fox", " went home with a smile, and so did Tom."),
]


@pytest.fixture(autouse=True, scope="module")
def two_together() -> Iterator[None]:
    """Queries are normalised two at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregate_module, "TOGETHER", 2)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and queries."""
    folder = tmp_path_factory.mktemp("curate")
    plain_model("gpt_neo").float().save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    queries = [{"id": f"q{k}", "prompt": p, "completion": c} for k, (p, c) in enumerate(ASKED)]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)), encoding="utf-8")
    return folder


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def fitted(folder: Path, place: Path, records: list[dict[str, Any]], **options: Any) -> Run:
    corpus = write(folder.with_suffix(".jsonl"), records)
    tens = Execution(shard_examples=10)  # the sixty stories make six shards
    made = CorpusOptions(ReadOptions(**options))
    run = Run.create(folder, str(place / "model"), corpus, options=made, execution=tens)
    run.fit(curvature="diagonal")
    return run


@pytest.fixture(scope="module")
def run(place: Path) -> Run:
    records = [{"id": f"s{k}", "text": text, "kind": "story", "score": "old"} for k, text in enumerate(STORIES)]
    return fitted(place / "run", place, records)


@pytest.fixture(scope="module")
def questions(run: Run, place: Path) -> list[Question]:
    return run.questions(place / "queries.jsonl")


@pytest.fixture(scope="module")
def scanned(run: Run, questions: list[Question], place: Path) -> np.ndarray:
    """[N, Q] influences."""
    run.scan(questions, place / "scores.parquet")
    table = pq.read_table(place / "scores.parquet")
    return np.stack([table[q.id].to_numpy() for q in questions], axis=1)


def own_norms(run: Run, questions: list[Question], place: Path) -> np.ndarray:
    """[Q] √I(q, q): every query made the one training example of a corpus, with the loss where the query's is."""
    found = []
    for k, question in enumerate(questions):
        record = {"id": "it", "prompt": question.prompt, "text": question.completion}
        corpus = write(place / f"own-{k}.jsonl", [record])
        alone = Run.create(
            place / f"own-{k}", run.lm, corpus, options=CorpusOptions(ReadOptions(prompt_field="prompt"))
        )
        assert alone.corpus[0].targets == list(question.selected)
        curvature = run.curvature()
        sweep = Sweep(stage="own", lm=run.lm, layers=curvature.layers, sequences=alone.corpus.sequences())
        found.append(float(fold(sweep, lambda curvature=curvature: SelfInfluence(curvature)).values[0]) ** 0.5)
    return np.array(found)


@pytest.mark.parametrize("aggregate", ["mean", "max"])
def test_scores_are_those_of_a_scan_with_no_query_louder_than_another(
    aggregate: Aggregate, run: Run, questions: list[Question], scanned: np.ndarray, tmp_path: Path
) -> None:
    units = scanned / own_norms(run, questions, tmp_path)
    expected = units.mean(1) if aggregate == "mean" else units.max(1)
    ranking = run.rank(questions, aggregate=aggregate)
    np.testing.assert_allclose(ranking.scores, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    relative = run.rank(questions, aggregate=aggregate, rank_by="relative")
    loudness = np.sqrt(run.self_influence(run.curvature()))
    np.testing.assert_allclose(relative.scores, ranking.scores / loudness, rtol=1e-5)
    assert np.abs(relative.scores).max() <= 1  # mean or maximum of cosines


def test_self_influence_is_counted_by_the_token_that_is_learned(place: Path, tmp_path: Path) -> None:
    records = [{"id": f"p{k}", "prompt": text, "text": f" {NAMES[k]} ran home."} for k, text in enumerate(STORIES[:6])]
    run = fitted(tmp_path / "run", place, records, prompt_field="prompt")
    learned = [sum(example.targets or []) for example in run.corpus.read(range(6))]
    assert all(0 < count < 20 for count in learned)
    expected = run.self_influence(run.curvature()) / np.array(learned)
    np.testing.assert_allclose(run.rank().scores, expected)


def test_the_best_come_first_and_ties_in_corpus_order(run: Run) -> None:
    scores = np.array([0.5, 2.0, 0.5, -1.0, 2.0] + [0.0] * 55)
    assert Ranking(run.corpus, ReadOptions(), scores).order[:5].tolist() == [1, 4, 0, 2, 5]
    assert Ranking(run.corpus, ReadOptions(), scores, lowest=True).order[:3].tolist() == [3, 5, 6]
    with pytest.raises(HeadwaterError, match="raise --damping"):
        Ranking(run.corpus, ReadOptions(), scores * np.nan)


@pytest.mark.parametrize(
    ("keep", "count"), [("0.5", 30), ("0.29", 17), ("0.001", 1), ("1", 1), ("1.0", 60), ("99", 60)]
)
def test_keep_is_a_number_or_with_a_point_a_share(keep: str, count: int) -> None:
    assert count_of(parse_keep(keep), 60) == count


@pytest.mark.parametrize("keep", ["0", "0.0", "1.5", "-1", "half", ".", "50%"])
def test_a_keep_that_means_nothing_is_refused(keep: str) -> None:
    with pytest.raises(HeadwaterError, match="--keep"):
        count_of(parse_keep(keep), 60)


def test_asked_again_it_computes_nothing(run: Run, questions: list[Question]) -> None:
    whole = run.rank(questions, damping="1e-3").scores
    seen: list[Step] = []
    again = run.using(report=seen.append).rank(questions, damping="1e-3", lowest=True)
    np.testing.assert_array_equal(again.scores, whole)
    assert not seen


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_kept_is_a_corpus_of_the_same_examples(stream: bool, place: Path, tmp_path: Path) -> None:
    """Through the command line, with fields of other names, prompts that carry no loss, and a streamed corpus."""
    records = [
        {"key": f"s{k}", "question": text, "story": f" {NAMES[k % 6]} ran.", "kind": k % 3, "rank": "old", "id": k}
        for k, text in enumerate(STORIES)
    ]
    fields = {"text_field": "story", "id_field": "key", "prompt_field": "question"}
    run = fitted(tmp_path / "run", place, records, **fields, stream=stream)
    kept = tmp_path / "kept.jsonl"
    arguments = ["rank", run.path, "--queries", place / "queries.jsonl", "--keep", "0.25", "-o", kept]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.exception
    assert "15 of 60 examples" in result.stderr
    lines = read(kept)
    ranking = run.rank(run.questions(place / "queries.jsonl"))
    best = ranking.order[:15].tolist()
    assert [line["key"] for line in lines] == [f"s{position}" for position in sorted(best)]
    assert [line["rank"] for line in lines] == [best.index(position) + 1 for position in sorted(best)]
    assert [line["score"] for line in lines] == [float(ranking.scores[position]) for position in sorted(best)]
    arguments = [
        "fit",
        tmp_path / "again",
        "--model",
        place / "model",
        "--corpus",
        kept,
        "--text-field",
        "story",
        "--id-field",
        "key",
        "--prompt-field",
        "question",
        "--curvature",
        "diagonal",
    ]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.exception
    again = Run.open(tmp_path / "again", run.lm).corpus
    for mine, theirs in zip(again.read(range(15)), run.corpus.read(sorted(best)), strict=True):
        assert (mine.id, mine.text, mine.targets) == (theirs.id, theirs.text, theirs.targets)
        assert mine.tokenized == theirs.tokenized
        assert {k: v for k, v in mine.metadata.items() if k in ("kind", "id")} == {
            k: v for k, v in theirs.metadata.items() if k in ("kind", "id")
        }


def test_old_scores_give_way_to_new_ones_and_a_failure_leaves_the_old_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranking = Ranking(run.corpus, ReadOptions(), np.arange(60.0))
    path = tmp_path / "kept.jsonl"
    assert ranking.write(path, 2) == 2
    assert read(path)[1] == {"id": "s59", "text": run.corpus[59].text, "kind": "story", "score": 59.0, "rank": 1}
    before = path.read_bytes()
    monkeypatch.setattr("headwater.attribution.ranking.record_of", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ranking.write(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["kept.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either --queries"),
        (["--by", "self-influence", "--queries", "q.jsonl"], "either --queries"),
        (["--by", "self-influence", "--aggregate", "max"], "leave them out with --by"),
        (["--by", "self-influence", "--keep", "5"], "-o kept.jsonl"),
        (["--by", "self-influence", "--keep", "1.5", "-o", "kept.jsonl"], "is not a share"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_model_is_loaded(arguments: list[str], message: str) -> None:
    error = CliRunner().invoke(app, ["rank", "nowhere", *arguments]).exception
    assert isinstance(error, HeadwaterError)
    assert message in str(error)


def test_the_table_shows_the_oddest_and_says_what_the_number_means(run: Run) -> None:
    result = CliRunner().invoke(app, ["rank", str(run.path), "--by", "self-influence", "-k", "3"])
    assert result.exit_code == 0, result.exception
    shown = [line.split()[2] for line in result.stdout.splitlines()[1:4]]
    assert shown == [example.id for _, example in run.rank().top(3)]
    assert "Inspect them before you drop them" in result.stderr
