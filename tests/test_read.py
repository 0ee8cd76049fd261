"""Every format gives the same records, and every bad record is named by its file and line."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.corpus.read import ReadOptions, Skipped, read_records
from headwater.errors import CorpusError

ROWS: list[dict[str, Any]] = [
    {"id": "a", "text": "One story.", "source": "wiki"},
    {"id": "b", "text": 'Two "lines",\nand a comma.', "source": "web"},
    {"id": "c", "text": "Drei Füchse 🦊\u2028 and a separator.", "source": "web"},
]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", encoding="utf-8")


def write_json(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows), encoding="utf-8")


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_gzip(path: Path, rows: list[dict[str, Any]]) -> None:
    write_jsonl(path, rows)
    path.write_bytes(gzip.compress(path.read_bytes()))


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    "x.jsonl": write_jsonl, "x.ndjson": write_jsonl, "x.json": write_json, "x.csv": write_csv, "x.tsv": write_csv,
    "x.parquet": write_parquet, "x.jsonl.gz": write_gzip,
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_records(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name, ROWS)
    found = list(read_records(tmp_path / name))
    assert [(r.id, r.text, dict(r.metadata)) for r in found] == [
        (row["id"], row["text"], {"source": row["source"]}) for row in ROWS
    ]
    assert all(record.source.startswith(f"{name}:") for record in found)


@given(texts=st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(str.strip), min_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_any_text_survives_jsonl(texts: list[str], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "t.jsonl", [{"text": text} for text in texts])
    found = list(read_records(tmp_path / "t.jsonl"))
    assert [record.text for record in found] == texts
    assert [record.id for record in found] == [f"t:{k}" for k in range(1, len(texts) + 1)]


@pytest.mark.parametrize(("content", "expected"), [
    ("First story,\ntwo lines.\n\n\nSecond.\n", ["First story,\ntwo lines.", "Second."]),
    ("First.\n\nStill first.<|endoftext|>Second.\n<|endoftext|>\n", ["First.\n\nStill first.", "Second."]),
])  # fmt: skip
def test_plain_text_is_split_at_its_separators(content: str, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(content, encoding="utf-8")
    assert [record.text for record in read_records(tmp_path / "t.txt")] == expected


def test_a_directory_is_read_in_order_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    write_jsonl(tmp_path / "b" / "2.jsonl", ROWS[1:2])
    write_csv(tmp_path / "a.csv", ROWS[:1])
    (tmp_path / "README.md").write_text("about", encoding="utf-8")
    (tmp_path / ".hidden").write_text("x", encoding="utf-8")
    found = list(read_records(tmp_path))
    assert [record.id for record in found] == ["a", "b"]
    assert found[1].source == "b/2.jsonl:1"


BAD = {
    "not JSON": (b'{"text": "ok"}\n{"text": \n', "bad.jsonl:2: not JSON"),
    "no object": (b'{"text": "ok"}\n[1]\n', "bad.jsonl:2: not a JSON object"),
    "no text": (b'{"text": "ok"}\n{"body": "x"}\n', r"bad.jsonl:2: no field 'text'; it has 'body'.*--text-field"),
    "no string": (b'{"text": "ok"}\n{"text": 3}\n', "bad.jsonl:2: the field 'text' is int"),
    "empty": (b'{"text": "ok"}\n\n{"text": "  "}\n', "bad.jsonl:3: the text is empty"),
    "twice": (b'{"id": 1, "text": "ok"}\n{"id": 1, "text": "b"}\n', "bad.jsonl:2: the id '1'.*bad.jsonl:1"),
    "UTF-8": (b'{"text": "ok"}\n{"text": "\xff"}\n', "bad.jsonl:2: invalid UTF-8 at byte 10"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_record_is_named_or_skipped_and_counted(case: str, tmp_path: Path) -> None:
    content, message = BAD[case]
    (tmp_path / "bad.jsonl").write_bytes(content + b'{"text": "last"}\n')
    with pytest.raises(CorpusError, match=message):
        list(read_records(tmp_path / "bad.jsonl"))
    skipped: list[Skipped] = []
    found = list(read_records(tmp_path / "bad.jsonl", ReadOptions(skip_bad=True), skipped.append))
    assert [record.text for record in found] == ["ok", "last"]
    assert len(skipped) == 1
    assert skipped[0].source.startswith("bad.jsonl:")


def test_a_csv_row_of_another_width_is_bad(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,text\n1,a\n2,b,c\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"t\.csv:3: 3 columns where the header has 2"):
        list(read_records(tmp_path / "t.csv"))


def test_an_id_field_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "t.jsonl", [{"key": 7, "text": "a"}, {"text": "b"}])
    with pytest.raises(CorpusError, match=r"t\.jsonl:2: no field 'key'"):
        list(read_records(tmp_path / "t.jsonl", ReadOptions(id_field="key")))


@pytest.mark.parametrize(("make", "message"), [
    (lambda p: p / "storys.jsonl", "no file .*storys.jsonl. Did you mean stories.jsonl"),
    (lambda p: p / "empty", "holds no file that can be read"),
    (lambda p: p / "nothing.jsonl", "holds no example"),
])  # fmt: skip
def test_a_source_without_examples_is_an_error(make: Callable[[Path], Path], message: str, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "stories.jsonl", ROWS)
    (tmp_path / "empty").mkdir()
    (tmp_path / "nothing.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=message):
        list(read_records(make(tmp_path)))


def test_limit_counts_good_records(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "t.jsonl", [{"text": ""}, *ROWS])
    options = ReadOptions(limit=2, skip_bad=True)
    assert [record.id for record in read_records(tmp_path / "t.jsonl", options)] == ["a", "b"]
    with pytest.raises(CorpusError, match="--limit 0"):
        list(read_records(tmp_path / "t.jsonl", ReadOptions(limit=0)))


def test_a_name_that_is_no_path_is_streamed_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*names: Any, **options: Any) -> Iterator[dict[str, Any]]:
        asked.append((names, options))
        return iter(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = list(read_records("roneneldan/TinyStories:clean", ReadOptions(limit=2)))
    assert [record.source for record in found] == ["roneneldan/TinyStories/train:1", "roneneldan/TinyStories/train:2"]
    assert asked == [(("roneneldan/TinyStories", "clean"), {"split": "train", "streaming": True})]

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("no such dataset\nand a long story")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(CorpusError, match="no file here, and cannot be read as a dataset of the hub: no such dataset$"):
        list(read_records("roneneldan/Nothing"))
