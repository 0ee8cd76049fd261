"""Texts as people have them: files under other names, folders with splits, standard input, and objects in memory."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pytest
from datasets.data_files import DataFilesDict, get_data_patterns
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.attribution.query_file import read_queries
from headwater.corpus.changes import read_ids
from headwater.corpus.objects import CorpusSource
from headwater.corpus.options import CorpusOptions, ReadOptions
from headwater.corpus.read import Record, read_records
from headwater.corpus.splits import choose, splits_of
from headwater.errors import CorpusError, FingerprintMismatch, HeadwaterError
from headwater.evaluate.queries import read_evaluation_queries
from headwater.lm.load import LanguageModel, wrap_model
from headwater.runs import later_texts
from headwater.runs.info import describe_run
from headwater.runs.run import Run
from tests.models import TEXT, plain_model, tiny_tokenizer
from tests.test_read import PACK, ROWS, as_csv, as_json, as_jsonl, as_parquet, write

LINES = as_jsonl(ROWS)
WANTED = [(row["id"], row["text"]) for row in ROWS]


def read(source: CorpusSource, notes: list[str] | None = None, **options: Any) -> list[Record]:
    return list(read_records(source, ReadOptions(**options), note=([] if notes is None else notes).append))


def names_of(folder: Path, **options: Any) -> list[str]:
    """The files that are read, each of which has one row."""
    return [record.source.rpartition(":")[0] for record in read(folder, **options)]


def folder_of(folder: Path, *names: str) -> Path:
    for name in names:
        write(folder / name, name if name.endswith(".txt") else [{"text": name}])
    return folder


# --- what the name of a file does not say ---


@pytest.mark.parametrize("name", ["c4.json", "c4.json.gz", "c4.json.zst", "C4.JSON.XZ"])
@pytest.mark.parametrize("lead", [b"", b"\xef\xbb\xbf", b"\n  \n"])
def test_json_lines_may_be_named_json(name: str, lead: bytes, tmp_path: Path) -> None:
    found = read(write(tmp_path / name, lead + LINES))
    assert [(record.id, record.text) for record in found] == WANTED
    blank = lead.count(b"\n")
    assert [record.source for record in found] == [f"{name}:{line + blank}" for line in (1, 2, 3)]


def test_a_bad_line_of_json_lines_named_json_is_named_by_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", b'{"text": "a"}\n{"text": \n{"text": "z"}\n')
    with pytest.raises(CorpusError, match=r"^x\.json:2: not JSON: .*--skip-bad"):
        read(path)
    assert [record.text for record in read(path, skip_bad=True)] == ["a", "z"]


@given(chunk=st.integers(1, 30), newlines=st.booleans())
@settings(max_examples=30)
def test_json_lines_may_be_cut_anywhere_for_reading(chunk: int, newlines: bool, tmp_path_factory: Any) -> None:
    path = write(tmp_path_factory.mktemp("cut") / "x.json", LINES if newlines else LINES.rstrip(b"\n"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headwater.corpus.json_rows.CHUNK", max(chunk, LINES.index(b"\n") + 1))
        assert [(record.id, record.text) for record in read(path)] == WANTED


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", LINES.decode().encode("utf-16"), r"t\.jsonl is UTF-16, and texts are read as UTF-8\. .*iconv"),
        ("t.csv", as_csv(ROWS).decode().encode("utf-16-le"), "t.csv is UTF-16LE"),
        ("t.json", as_json(ROWS).decode().encode("utf-16-be"), "t.json is UTF-16BE"),
        ("t.txt", "Once upon a time".encode("utf-32"), "t.txt is UTF-32"),
        ("t.jsonl.gz", PACK[".gz"](LINES.decode().encode("utf-16")), "t.jsonl.gz is UTF-16"),
        ("t.jsonl", PACK[".gz"](LINES), r"t\.jsonl is compressed, .*suffix \.gz"),
        ("t.csv", PACK[".zst"](LINES), r"t\.csv is compressed, .*suffix \.zst"),
        ("t.jsonl", as_parquet(ROWS), r"t\.jsonl is a Parquet file: .*\.parquet"),
        ("t.jsonl", b"PK\x03\x04rest", r"t\.jsonl is a zip archive.*unpack it"),
        ("t.jsonl", b"version https://git-lfs.github.com/spec/v1\n", r"t\.jsonl is a Git LFS pointer.*git lfs pull"),
        ("t.parquet", b"version https://git-lfs.github.com/spec/v1\n", r"t\.parquet is a Git LFS pointer"),
        ("t.zip", b"PK", r"t\.zip is an archive\. Unpack it.*unzip t\.zip"),
        ("t.tar.gz", b"x", r"t\.tar\.gz is an archive.*tar xf t\.tar\.gz"),
        ("t.gz", b"x", r"t\.gz does not say what is compressed in it\. .*\.jsonl\.gz"),
        ("t.parquet.gz", b"x", r"t\.parquet\.gz does not say"),
        ("stories", b"x", r"stories has no suffix that says its format\. Add one of \.jsonl"),
    ],
)
def test_a_file_whose_content_is_something_else_is_named_as_that(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    for source in (tmp_path / name, tmp_path):
        with pytest.raises(CorpusError, match=message):
            read(source, skip_bad=True)


def test_rows_are_numbered_if_their_ids_do_not_count(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}])
    twice = r"t\.jsonl:2: the id 'a' is used twice, first at t\.jsonl:1; .* number the rows instead \(--id-field none\)"
    with pytest.raises(CorpusError, match=twice):
        read(path)
    found = read(path, id_field="none")
    assert [(record.id, record.metadata) for record in found] == [("t:1", {"id": "a"}), ("t:2", {"id": "a"})]


# --- folders ---


def test_linked_folders_are_read_and_a_link_back_is_not_followed(tmp_path: Path) -> None:
    folder_of(tmp_path / "elsewhere", "a.jsonl", "deep/b.jsonl")
    corpus = folder_of(tmp_path / "corpus", "c.jsonl")
    (corpus / "linked").symlink_to(tmp_path / "elsewhere")
    (corpus / "file.jsonl").symlink_to(tmp_path / "elsewhere" / "a.jsonl")
    (corpus / "linked" / "back").symlink_to(corpus)
    assert names_of(corpus) == ["c.jsonl", "file.jsonl", "linked/a.jsonl", "linked/deep/b.jsonl"]


def test_files_without_a_row_are_told(tmp_path: Path) -> None:
    folder_of(tmp_path, "a.jsonl", "b.jsonl")
    (tmp_path / "empty.jsonl").touch()
    notes: list[str] = []
    assert len(read(tmp_path, notes)) == 2
    assert notes == ["1 file of 3 without a row: empty.jsonl."]


LAYOUTS: dict[str, list[str]] = {
    "names": ["train-00000.parquet", "train-00001.parquet", "test-00000.parquet"],
    "sharded": ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl", "data/dev-00000-of-00001.jsonl"],
    "any split": ["data/train-00000-of-00001.jsonl", "data/forget-00000-of-00001.jsonl", "all.txt"],
    "folders": ["train/a.jsonl", "validation/test.jsonl", "loose.jsonl"],
    "prefixes": ["stories_train.csv", "stories.valid.csv", "2-test.csv", "more.csv"],
    "deep": ["en/my-training/x.jsonl", "en/eval2/x.jsonl"],
    "none": ["a.jsonl", "retrained.jsonl", "contest.jsonl", "b/latest.jsonl"],
    "two words": ["train_test.jsonl", "train.jsonl", "other.jsonl"],
}


def hub_splits(folder: Path) -> dict[str, set[str]]:
    """What the datasets library makes of a folder."""
    files = DataFilesDict.from_patterns(get_data_patterns(str(folder)), str(folder))
    return {str(split): {os.path.relpath(file, folder) for file in found} for split, found in files.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_splits_of_a_folder_are_those_of_the_datasets_library(layout: str, tmp_path: Path) -> None:
    names = sorted(LAYOUTS[layout])
    folder_of(tmp_path, *names)
    ours = {split: set(files) for split, files in splits_of(names).items()}
    ours = {"validation" if split == "dev" else split: files for split, files in ours.items()}
    hub = {"validation" if split == "dev" else split: files for split, files in hub_splits(tmp_path).items()}
    assert (ours or {"train": set(names)}) == hub
    for split, files in hub.items():
        assert set(names_of(tmp_path, split=split)) == files
    assert names_of(tmp_path, split="all") == names


word = st.sampled_from(["train", "test", "dev", "val", "a", "1", "training", "evaluation", "atest", "xtrain"])
part = st.lists(word, min_size=1, max_size=3).flatmap(
    lambda words: st.sampled_from(["-", "_", " ", "", "."]).map(lambda separator: separator.join(words))
)
paths = st.lists(part, min_size=1, max_size=3).map(lambda parts: "/".join(parts) + ".csv")


@given(names=st.lists(paths, min_size=1, max_size=4, unique=True))
@settings(max_examples=40, deadline=None)
def test_any_folder_has_the_splits_that_the_datasets_library_finds(names: list[str], tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("folder")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    ours = {split: set(files) for split, files in splits_of(sorted(names)).items()}
    assert (ours or {"train": set(names)}) == hub_splits(folder)


def test_it_is_said_which_files_were_chosen_and_which_left_out(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "data", "train-0.jsonl", "test-0.jsonl", "test-1.jsonl", "notes.txt")
    notes: list[str] = []
    assert [record.text for record in read(folder, notes)] == ["train-0.jsonl"]
    assert notes == [
        "Split train of data: 1 of 4 files (train-0.jsonl). Left out: test (2 files), 1 file without a split. "
        "--split all reads every file."
    ]
    assert len(read(folder, split="test+train")) == 3
    assert [record.text for record in read(folder, split="eval")] == ["test-0.jsonl", "test-1.jsonl"]
    assert choose(["train-0.jsonl", "Train-1.jsonl"], "train", "x").note == ""
    write(folder / "raw.tar.gz", b"left out, so its format does not matter")
    assert len(read(folder)) == 1


def test_a_split_that_is_absent_lists_those_that_are_there(tmp_path: Path) -> None:
    folder_of(tmp_path, "test-0.jsonl", "valid.jsonl")
    with pytest.raises(CorpusError, match=r"no files for the split 'train'\. It has validation \(1 file\), test \(1 f"):
        read(tmp_path)
    folder_of(tmp_path / "plain", "a.jsonl")
    assert len(read(tmp_path / "plain")) == 1
    with pytest.raises(CorpusError, match=r"has no split 'test': no name of its 1 file tells of a split"):
        read(tmp_path / "plain", split="test")
    with pytest.raises(CorpusError, match=r"a\.jsonl is one file, and a file has no splits\. Leave out --split test"):
        read(tmp_path / "plain" / "a.jsonl", split="test")


def test_a_streamed_folder_has_the_same_splits(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "data", "train.jsonl", "test.jsonl")
    notes: list[str] = []
    assert [record.text for record in read(folder, notes, stream=True)] == ["train.jsonl"]
    assert notes[0].startswith("Split train of data: 1 of 2 files (train.jsonl).")
    assert len(read(f"{folder}/*.jsonl", stream=True)) == 2
    write(folder / "train.jsonl.zst", ROWS)
    with pytest.raises(CorpusError, match=r"train\.jsonl\.zst cannot be streamed: only Parquet and uncompressed JSONL"):
        read(folder, stream=True)


# --- standard input ---


def pipe(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize("packed", ["", *PACK])
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (LINES, "JSON, one object on each line"),
        (b"\xef\xbb\xbf\n" + LINES, "JSON, one object on each line"),
        (as_json(ROWS), "a JSON list"),
        (as_parquet(ROWS), "Parquet"),
        ("\n<|endoftext|>\n".join(row["text"] for row in ROWS).encode(), "plain text"),
    ],
)
def test_standard_input_is_read_by_what_it_holds(
    content: bytes, kind: str, packed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(PACK[packed](content) if packed else content, monkeypatch)
    notes: list[str] = []
    assert [record.text for record in read("-", notes)] == [row["text"] for row in ROWS]
    assert notes[0].startswith(f"Standard input is read as {kind}")
    assert packed in notes[0]


def test_json_lines_are_read_while_they_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as source, os.fdopen(writing, "wb", buffering=0) as sink:
        monkeypatch.setattr(sys, "stdin", source)
        records = read_records("-", ReadOptions(limit=2), note=lambda _: None)
        for row in ROWS[:2]:  # the third never comes, and the pipe stays open
            sink.write(json.dumps(row).encode() + b"\n")
            assert next(records).text == row["text"]
        assert next(records, None) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "standard input contains no example: it is empty"),
        (LINES.decode().encode("utf-16"), "Standard input is UTF-16"),
        (b'{"text": "a"}\n{"text": 3}\n', "^stdin:2: the field 'text' is a number"),
        (PACK[".gz"](LINES)[:-9], "Standard input cannot be read"),
    ],
)
def test_what_is_wrong_with_standard_input_is_said(
    content: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(content, monkeypatch)
    with pytest.raises(CorpusError, match=message):
        read("-")
    with pytest.raises(CorpusError, match="can be read only once"):
        read("-", stream=True)


# --- objects in memory ---


def rows_one_by_one() -> Iterator[dict[str, Any]]:
    yield from ROWS


OBJECTS: dict[str, Any] = {
    "Dataset": lambda: datasets.Dataset.from_list(ROWS),
    "a Dataset that gives tensors": lambda: datasets.Dataset.from_list(ROWS).with_format("numpy"),
    "IterableDataset": lambda: datasets.Dataset.from_list(ROWS).to_iterable_dataset(),
    "DatasetDict": lambda: datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}),
    "list of records": lambda: list(ROWS),
    "generator": rows_one_by_one,
    "data frame": lambda: pd.DataFrame(ROWS, index=pd.Index([7, 8, 9])),
    "table": lambda: pa.Table.from_pylist(ROWS),
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_objects_in_memory_give_the_records_of_a_file(kind: str, tmp_path: Path) -> None:
    written = read(write(tmp_path / "x.jsonl", ROWS))
    found = read(OBJECTS[kind]())
    assert [(r.id, r.text, r.metadata) for r in found] == [(r.id, r.text, r.metadata) for r in written]
    assert found[2].source == "in memory:3"


def test_a_list_of_texts_is_a_corpus() -> None:
    assert [(record.id, record.text) for record in read(["One.", "Two."])] == [("row:1", "One."), ("row:2", "Two.")]
    assert [record.text for record in read(iter(["One."]), text_field="story")] == ["One."]
    with pytest.raises(CorpusError, match=r"in memory:2: int is neither a text nor a record"):
        read(["One.", 2])


def test_splits_of_a_dataset_in_memory_are_chosen() -> None:
    both = datasets.DatasetDict(
        {name: datasets.Dataset.from_list([{"text": name}]) for name in ("train", "validation")}
    )
    assert [record.text for record in read(both)] == ["train"]
    assert [record.text for record in read(both, split="validation+train")] == ["validation", "train"]
    with pytest.raises(CorpusError, match=r"no split 'test' \(--split\)\. It has train, validation; all reads every"):
        read(both, split="test")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "list in memory .* contains no example"),
        ({"text": ["a"]}, "A dictionary is no corpus"),
        (3, "^int is no corpus"),
        (b"text", "Bytes are no corpus"),
    ],
)
def test_what_is_no_corpus_is_refused(given: Any, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read(given)


def test_an_iterator_that_fails_says_where() -> None:
    def broken() -> Iterator[str]:
        yield "One."
        raise RuntimeError("no network")

    with pytest.raises(CorpusError, match="generator in memory: reading it failed at row 2: RuntimeError: no n"):
        read(broken())


def test_folders_of_save_to_disk_are_read(tmp_path: Path) -> None:
    dataset = datasets.Dataset.from_list(ROWS)
    dataset.select([2, 0]).save_to_disk(tmp_path / "some")  # chosen rows, which only the datasets library knows
    assert [record.id for record in read(tmp_path / "some")] == ["c", "a"]
    datasets.DatasetDict({"train": dataset, "test": dataset.select([1])}).save_to_disk(tmp_path / "both")
    assert [record.id for record in read(tmp_path / "both", split="test")] == ["b"]
    assert len(read(str(tmp_path / "both"))) == 3
    with pytest.raises(CorpusError, match="no split 'dev'"):
        read(tmp_path / "both", split="dev")
    (tmp_path / "some" / "state.json").write_text("{")
    with pytest.raises(CorpusError, match="some looks like a dataset written by save_to_disk, but it cannot be loaded"):
        read(tmp_path / "some")


# --- runs ---


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return wrap_model(plain_model("gpt_neo"), tiny_tokenizer())


LONG = [{"id": f"s{k}", "text": text, "kind": k} for k, text in enumerate(TEXT)]


def test_a_run_of_objects_is_that_of_a_file_and_opens_again(lm: LanguageModel, tmp_path: Path) -> None:
    of_file = Run.create(tmp_path / "file", lm, write(tmp_path / "x.jsonl", LONG))
    dataset = datasets.Dataset.from_list(LONG)
    for made in (Run.create(tmp_path / "run", lm, dataset), Run.create(tmp_path / "run", lm, iter(LONG))):
        assert made.corpus.fingerprint == of_file.corpus.fingerprint
        assert [example.text for example in made.corpus.read(range(4))] == TEXT
        assert made.manifest.corpus.source == "Dataset in memory (4 rows)"
    with pytest.raises(FingerprintMismatch, match="The corpus of the run"):
        Run.create(tmp_path / "run", lm, LONG[:3])
    with pytest.raises(CorpusError, match="copied into the run: leave out stream=True"):
        Run.create(tmp_path / "other", lm, LONG, options=CorpusOptions(ReadOptions(stream=True)))
    assert not (tmp_path / "other").exists()


def test_a_run_of_a_pipe_keeps_its_texts_and_is_asked_about_a_pipe(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(as_jsonl(LONG), monkeypatch)
    run = Run.create(tmp_path / "run", lm, "-")
    assert run.manifest.corpus.source == "standard input"
    assert run.corpus.ids == ["s0", "s1", "s2", "s3"]
    pipe(as_jsonl([{"text": "They sang a song."}]), monkeypatch)
    examples, name = later_texts.examples_of(lm, run.manifest.corpus, "-")
    assert ([example.id for example in examples], name) == (["stdin:1"], "texts of standard input")


def test_a_run_remembers_which_files_of_a_folder_it_read(lm: LanguageModel, tmp_path: Path) -> None:
    write(tmp_path / "data" / "train.jsonl", LONG[:2])
    write(tmp_path / "data" / "test.jsonl", LONG[2:])
    for stream in (False, True):
        options = CorpusOptions(ReadOptions(split="test", stream=stream))
        run = Run.create(tmp_path / f"run{stream}", lm, tmp_path / "data", options=options)
        assert run.corpus.ids == ["s2", "s3"]
        assert "Split test of data: 1 of 2 files (test.jsonl). Left out: train (1 file)." in describe_run(
            run.path
        ).corpus.notes[0].replace(" --split all reads every file.", "")
        more = write(tmp_path / "more.jsonl", [{"text": "More of it."}])
        assert [record.id for record in later_texts.records_of(lm, run.manifest.corpus, more)] == ["more:1"]


# --- small files: queries and ids ---

QUERIES = """{"id": "q1", "prompt": "Once", "completion": " upon\u2028"}\r\n\r
{"id": "q2", "prompt": "A", "completion": "b"}"""


def test_queries_and_ids_may_begin_with_a_byte_order_mark_or_come_from_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"\xef\xbb\xbf" + QUERIES.encode()
    pipe(content, monkeypatch)
    for lines in (read_queries(write(tmp_path / "q.jsonl", content)), read_queries(Path("-"))):
        assert [(line.id, line.completion) for line in lines] == [("q1", " upon\u2028"), ("q2", "b")]
    assert read_ids(write(tmp_path / "ids.txt", b"\xef\xbb\xbfa\r\n\n b\n")) == ["a", " b"]
    told = read_evaluation_queries(tmp_path / "q.jsonl")
    assert [query.id for query in told] == ["q1", "q2"]


@pytest.mark.parametrize("read_file", [read_queries, read_evaluation_queries, read_ids])
def test_what_is_wrong_with_a_small_file_is_said(read_file: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", QUERIES.encode("utf-16"))
    with pytest.raises(HeadwaterError, match=r"q\.jsonl is UTF-16, and texts are read as UTF-8"):
        read_file(path)
    with pytest.raises(HeadwaterError, match=r"q\.jsonl:3: invalid UTF-8 \(0xff\) at byte 2 of the line"):
        read_file(write(path, b"\n\n \xff"))
    with pytest.raises(HeadwaterError, match=r"Cannot read the .*none\.jsonl: No such file"):
        read_file(tmp_path / "none.jsonl")
