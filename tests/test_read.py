"""Every format gives the same records, and every bad record is named by its file and line."""

from __future__ import annotations

import bz2
import csv
import datetime
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.corpus import formats, json_rows
from headwater.corpus.options import ReadOptions
from headwater.corpus.read import Record, Skipped, read_records
from headwater.errors import CorpusError

ROWS: list[dict[str, Any]] = [
    {"id": "a", "text": "One story.", "source": "wiki"},
    {"id": "b", "text": 'Two "lines",\nand a comma,\tand a tab.', "source": "web"},
    {"id": "c", "text": "Drei Füchse 🦊\u2028 and a separator.", "source": "web"},
]


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_json(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(rows, ensure_ascii=False, indent=1).encode()


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def as_tsv(rows: list[dict[str, Any]]) -> bytes:
    return as_csv(rows, "\t")


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def as_arrow(rows: list[dict[str, Any]]) -> bytes:
    file, table = io.BytesIO(), pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(file, table.schema) as writer:  # as the datasets library caches it
        writer.write_table(table)
    return file.getvalue()


def as_feather(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    feather.write_feather(pa.Table.from_pylist(rows), file)
    return file.getvalue()


WRITERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    ".jsonl": as_jsonl,
    ".ndjson": as_jsonl,
    ".json": as_json,
    ".csv": as_csv,
    ".tsv": as_tsv,
    ".parquet": as_parquet,
    ".arrow": as_arrow,
    ".feather": as_feather,
}
PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.Codec("zstd").compress(content, asbytes=True),
}
PACKED = [
    f"{suffix}{packed}" for suffix in WRITERS if suffix not in (".parquet", ".arrow", ".feather") for packed in PACK
]


def write(path: Path, content: str | bytes | list[dict[str, Any]]) -> Path:
    """A file of whatever format its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list):
        inner = Path(path.stem).suffix if path.suffix.lower() in PACK else path.suffix
        content = WRITERS[inner.lower()](content)
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(PACK.get(path.suffix.lower(), bytes)(content))
    return path


def read(source: str | Path, **options: Any) -> list[Record]:
    return list(read_records(source, ReadOptions(**options)))


def skip_bad(source: str | Path) -> tuple[list[Record], list[Skipped]]:
    skipped: list[Skipped] = []
    return list(read_records(source, ReadOptions(skip_bad=True), skipped.append)), skipped


# --- formats ---


@pytest.mark.parametrize("suffix", [*WRITERS, *PACKED, ".JSONL", ".CSV.Bz2"])
def test_every_format_gives_the_same_records(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"x{suffix}", ROWS)
    found = read(path)
    assert [(r.id, r.text, dict(r.metadata)) for r in found] == [
        (row["id"], row["text"], {"source": row["source"]}) for row in ROWS
    ]
    assert all(record.source.startswith(f"x{suffix}:") for record in found)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv"])
def test_a_byte_order_mark_is_no_part_of_the_first_field(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"x{suffix}", b"\xef\xbb\xbf" + WRITERS[suffix](ROWS))
    assert read(path) == read(write(path, ROWS))


def test_a_byte_order_mark_is_no_part_of_a_plain_text(tmp_path: Path) -> None:
    assert read(write(tmp_path / "x.txt", b"\xef\xbb\xbfText."))[0].text == "Text."


texts = st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(str.strip), min_size=1)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv"])
@given(texts=texts)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_any_text_survives(suffix: str, texts: list[str], tmp_path: Path) -> None:
    found = read(write(tmp_path / f"t{suffix}", [{"text": text} for text in texts]))
    assert [record.text for record in found] == texts


@pytest.mark.parametrize("text", ["a\u2028b", "a\u2029b\x85c", "a\rb", "\ufeffa", "a\x00b", '"', "a\x1cb\x0bc"])
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv"])
def test_a_text_may_hold_what_others_take_for_the_end_of_a_line(suffix: str, text: str, tmp_path: Path) -> None:
    found = read(write(tmp_path / f"t{suffix}", [{"text": text}, {"text": "next"}]))
    assert [record.text for record in found] == [text, "next"]


@given(texts=texts, chunk=st.integers(1, 40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_it_does_not_matter_where_a_long_file_is_cut_for_reading(texts: list[str], chunk: int, tmp_path: Path) -> None:
    plain = [stripped for text in texts if (stripped := text.strip())]
    write(tmp_path / "t.json", [{"text": text} for text in texts])
    write(tmp_path / "t.txt", "\n<|endoftext|>\n".join([*plain, ""]))
    with pytest.MonkeyPatch.context() as patch:
        for module in (formats, json_rows):
            patch.setattr(module, "CHUNK", chunk)
        assert [record.text for record in read(tmp_path / "t.json")] == texts
        assert [record.text for record in read(tmp_path / "t.txt")] == plain


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("First story,\ntwo lines.\n\n\nSecond.\n", [("t:1", "First story,\ntwo lines."), ("t:5", "Second.")]),
        ("\n\n  Indented.\r\n \r\nSecond.", [("t:3", "  Indented."), ("t:5", "Second.")]),
        ("One.\n\nStill.<|endoftext|>Two.\n<|endoftext|>\n", [("t:1", "One.\n\nStill."), ("t:3", "Two.")]),
        (
            "A<|endoftext|> B <|endoftext|>C\n<|endoftext|>D",
            [("t:1", "A"), ("t:1.2", "B"), ("t:1.3", "C"), ("t:2", "D")],
        ),
    ],
)
@pytest.mark.parametrize("name", ["t.txt", "t.txt.gz"])
def test_plain_text_is_split_at_its_separators(
    name: str, content: str, expected: list[tuple[str, str]], tmp_path: Path
) -> None:
    assert [(record.id, record.text) for record in read(write(tmp_path / name, content))] == expected


def test_plain_text_has_no_fields_and_so_needs_no_text_field(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"story": "One."}])
    write(tmp_path / "b.txt", "Two.")
    assert [record.text for record in read(tmp_path, text_field="story")] == ["One.", "Two."]


def test_a_record_is_placed_where_it_begins(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", 'text,n\n"one\ntwo",1\n\nthree,2\n')
    assert [record.source for record in read(path)] == ["t.csv:2", "t.csv:5"]
    path = write(tmp_path / "t.jsonl", '\n{"text": "one"}\n  \n{"text": "two"}')
    assert [record.source for record in read(path)] == ["t.jsonl:2", "t.jsonl:4"]


def test_metadata_keeps_scalars_and_writes_the_rest_down(tmp_path: Path) -> None:
    row = {"text": "x", "n": 1, "f": 0.5, "b": True, "none": None, "list": [1, "ü"], "object": {"k": None}}
    assert read(write(tmp_path / "t.jsonl", [row]))[0].metadata == {
        "n": 1,
        "f": 0.5,
        "b": True,
        "none": None,
        "list": '[1, "ü"]',
        "object": '{"k": null}',
    }
    assert read(write(tmp_path / "t.parquet", [{"text": "x", "on": datetime.date(2024, 5, 1)}]))[0].metadata == {
        "on": "2024-05-01"
    }
    broken = write(tmp_path / "t.jsonl", r'{"text": "x", "half": "\ud800", "halves": ["\ud800"]}')
    assert read(broken)[0].metadata == {"half": "\ufffd", "halves": '["\ufffd"]'}
    huge = write(tmp_path / "t.jsonl", '{"text": "x", "n": ' + "9" * 5000 + "}")
    assert read(huge)[0].metadata == {"n": "9" * 5000}


# --- ids ---


def test_an_id_is_taken_from_the_field_asked_for_or_from_id_or_from_the_place(tmp_path: Path) -> None:
    rows = [{"id": 7, "key": "k", "text": "a"}, {"id": None, "key": "l", "text": "b"}, {"key": "m", "text": "c"}]
    path = write(tmp_path / "t.jsonl", rows)
    assert [record.id for record in read(path)] == ["7", "t:2", "t:3"]
    by_key = read(path, id_field="key")
    assert [record.id for record in by_key] == ["k", "l", "m"]
    assert by_key[0].metadata == {"id": 7}


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["v1.0/a.jsonl", "v1.1/a.jsonl"], ["v1.0/a:1", "v1.1/a:1"]),
        (["c4.00-of-02.jsonl.gz", "c4.01-of-02.jsonl.gz"], ["c4.00-of-02:1", "c4.01-of-02:1"]),
        (["a.json", "a.jsonl"], ["a.json:1", "a.jsonl:1"]),
    ],
)
def test_ids_made_of_places_differ_between_files(names: list[str], ids: list[str], tmp_path: Path) -> None:
    for name in names:
        write(tmp_path / name, [{"text": "x"}])
    assert [record.id for record in read(tmp_path)] == ids


# --- bad records ---

OK, LAST = b'{"text": "ok"}\n', b'{"text": "last"}\n'
BAD = {
    "not JSON": (b'{"text": \n', "bad.jsonl:2: not JSON: Expecting value at column"),
    "no object": (b"[1]\n", "bad.jsonl:2: not a JSON object"),
    "no text": (b'{"body": "x", "n": 1}\n', r"bad.jsonl:2: no field 'text'; it has 'body', 'n'\..*--text-field"),
    "no string": (b'{"text": 3}\n', "bad.jsonl:2: the field 'text' is a number, not text"),
    "null": (b'{"text": null}\n', "bad.jsonl:2: the field 'text' is null, not text"),
    "empty": (b'\n{"text": " \\n "}\n', r"bad.jsonl:3: the text \(field 'text'\) is empty"),
    "twice": (
        b'{"id": 1, "text": "ok"}\n{"id": "1", "text": "b"}\n',
        "bad.jsonl:3: the id '1' is used twice, first at bad.jsonl:2",
    ),
    "odd id": (b'{"id": [1], "text": "b"}\n', "bad.jsonl:2: the id .* is a list"),
    "UTF-8": (b'{"text": "\xff"}\n', r"bad.jsonl:2: invalid UTF-8 \(0xff\) at byte 11 of the line"),
    "surrogate": (b'{"text": "a\\ud83d"}\n', "bad.jsonl:2: the field 'text' has an unpaired surrogate at character 2"),
    "surrogate id": (b'{"id": "\\ud83d", "text": "a"}\n', "bad.jsonl:2: the id has an unpaired surrogate"),
    "deep": (b'{"text": ' + b"[" * 100_000 + b"\n", "bad.jsonl:2: the JSON is nested too deeply"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_record_is_named_or_skipped_and_counted(case: str, tmp_path: Path) -> None:
    content, message = BAD[case]
    path = write(tmp_path / "bad.jsonl", OK + content + LAST)
    with pytest.raises(CorpusError, match=f"^{message}.*--skip-bad"):
        read(path)
    found, skipped = skip_bad(path)
    assert [record.text for record in found if record.id != "1"] == ["ok", "last"]
    assert len(skipped) == 1
    assert f"{skipped[0].source}: {skipped[0].reason}".startswith(message.split(":")[0])


def parquet_of(texts: list[bytes]) -> bytes:
    """Parquet whose strings are any bytes at all."""
    raw = pa.array(texts, pa.binary())
    file = io.BytesIO()
    pq.write_table(pa.table({"text": pa.StringArray.from_buffers(len(texts), *raw.buffers()[1:])}), file)
    return file.getvalue()


BAD_BY_FORMAT = {
    "wide.csv": (b"id,text\n1,a\n2,b,c\n3,z\n", "wide.csv:3: columns in the row: 3, in the header: 2"),
    "narrow.tsv": (b"id\ttext\n1\ta\n2\n3\tz\n", "narrow.tsv:3: columns in the row: 1, in the header: 2"),
    "bytes.csv": (
        b'id,text\n1,a\n2,"one\ntw\xffo\nthree"\n3,z\n',
        r"bytes.csv:4: invalid UTF-8 \(0xff\) at byte 3 of the line",
    ),
    "empty.csv": (b"id,text\n1,a\n2,\n3,z\n", "empty.csv:3: the text .* is empty"),
    "object.json": (b'[{"text": "a"}, 12, {"text": "z"}]', "object.json:2: not a JSON object"),
    "bytes.json": (
        b'[{"text": "a"},\n{"text": "\xe9\xff"},\n{"text": "z"}]',
        r"bytes.json:2: invalid UTF-8 \(0xe9\) at byte 11 of the item, which begins on line 2",
    ),
    "bytes.txt": (b"a\n\nb\nb\xff\n\nz", r"bytes.txt:4: invalid UTF-8 \(0xff\) at byte 2 of the line"),
    "separated.txt": (
        b"a<|endoftext|>b\xff<|endoftext|>z",
        r"separated.txt:1: invalid UTF-8 \(0xff\) at byte 16 of the line",
    ),
    "bytes.parquet": (parquet_of([b"a", b"n\xff", b"z"]), r"bytes.parquet:2: invalid UTF-8 \(0xff\) at byte 2 of 'n"),
    "null.parquet": (as_parquet([{"text": "a"}, {"text": None}, {"text": "z"}]), "null.parquet:2: the field .* null"),
}


@pytest.mark.parametrize("name", BAD_BY_FORMAT)
def test_a_bad_record_of_any_format_is_named_or_skipped_whole(name: str, tmp_path: Path) -> None:
    content, message = BAD_BY_FORMAT[name]
    path = write(tmp_path / name, content)
    with pytest.raises(CorpusError, match=f"^{message}.*--skip-bad"):
        read(path)
    found, skipped = skip_bad(path)
    assert [record.text for record in found] == ["a", "z"]
    assert len(skipped) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b'text\na\n"b\nc\n', "t.csv:3: the row that begins here is not CSV"),
        ("t.tsv", b'text\na\n"b" c\n', "t.tsv:3: the row that begins here is not CSV"),
        ("t.csv", b"text\rone\rtwo\r", "t.csv:1: a carriage return is outside quotes"),
        ("t.csv", b"text,text\na,b\n", "t.csv:1: two columns are called 'text'"),
        ("t.csv", b"te\xffxt\na\n", "t.csv:1: invalid UTF-8"),
        (
            "t.json",
            b'\n{"a":\n {"text": "b"}}\n',
            "t.json:2: a .json file must hold a list of objects, or one object on",
        ),
        ("t.json", b'"a"\n', "t.json:1: a .json file must hold a list"),
        ("t.json", b'[{"text": "a"},\n{"text": }]', "t.json:2: not JSON: Expecting value, in item 2"),
        ("t.json", b'[{"text": "a"}\n\n{"text": "b"}]', "t.json:3: not JSON: a comma or ] is missing after item 1"),
        ("t.json", b'[{"text": "a"},\n', "t.json:2: not JSON: Expecting value, in item 2"),
        ("t.json", b'[{"text": "a"}]\n[]', "t.json:2: not JSON: something follows"),
        ("t.json", b'[{"text": ' + b"[" * 100_000, "t.json:1: not JSON: item 1 is nested too deeply"),
        ("t.jsonl.gz", gzip.compress(as_jsonl(ROWS))[:-20], "t.jsonl.gz cannot be read: .*ended before"),
        ("t.jsonl.gz", as_jsonl(ROWS), "t.jsonl.gz cannot be read: Not a gzipped file"),
        (
            "t.jsonl.gz",
            gzip.compress(OK, mtime=0)[:10] + b"\xff" * 9,
            "t.jsonl.gz cannot be read: .*while decompressing",
        ),
        ("t.parquet", b"PAR1", "t.parquet is not a Parquet file, or it is damaged"),
        ("t.arrow", b"ARROW1", "t.arrow is not an Arrow file, or it is damaged"),
        ("t.jsonl.zst", PACK[".zst"](as_jsonl(ROWS))[:-5], "t.jsonl.zst cannot be read: Truncated compressed stream"),
        ("t.jsonl.bz2", PACK[".bz2"](as_jsonl(ROWS))[:-5], "t.jsonl.bz2 cannot be read: .*ended before"),
        ("t.jsonl.xz", PACK[".xz"](as_jsonl(ROWS))[:-5], "t.jsonl.xz cannot be read: .*ended before"),
        ("t.jsonl.xz", as_jsonl(ROWS), "t.jsonl.xz cannot be read: Input format not supported"),
        ("t.jsonl.bz2", as_jsonl(ROWS), "t.jsonl.bz2 cannot be read: Invalid data stream"),
        ("t.jsonl.zst", as_jsonl(ROWS), "t.jsonl.zst cannot be read: ZSTD decompress failed"),
        ("t.docx", b"", "t.docx: files with this suffix cannot be read. Give one of .jsonl,"),
    ],
)
def test_damage_behind_which_records_may_be_lost_is_never_skipped(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    for option in (False, True):
        with pytest.raises(CorpusError, match=message):
            read(tmp_path / name, skip_bad=option)


def test_an_id_field_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [{"key": 7, "text": "a"}, {"id": 2, "text": "b"}])
    with pytest.raises(CorpusError, match=r"t\.jsonl:2: no field 'key' to take the id from; it has 'id', 'text'"):
        read(path, id_field="key")


def test_limit_counts_good_records_and_nothing_behind_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [{"text": ""}, *ROWS])
    assert [record.id for record in read(path, limit=2, skip_bad=True)] == ["a", "b"]
    write(path, [*ROWS, {"text": ""}])
    assert len(read(path, limit=3)) == 3
    for limit in (0, -1):
        with pytest.raises(CorpusError, match=f"--limit {limit} leaves no example"):
            read(path, limit=limit)


# --- where records are found ---


def test_a_directory_is_read_in_order_of_its_names(tmp_path: Path) -> None:
    write(tmp_path / "b" / "2.jsonl", ROWS[1:2])
    write(tmp_path / "a.csv", ROWS[:1])
    write(tmp_path / "notice_board.parquet", ROWS[2:])
    found = read(tmp_path)
    assert [record.id for record in found] == ["a", "b", "c"]
    assert [record.source for record in found] == ["a.csv:2", "b/2.jsonl:1", "notice_board.parquet:1"]


def test_a_directory_may_hold_what_is_no_data(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", ROWS)
    for name in ("README.md", "LICENSE", "licence.txt", "card.md", "_SUCCESS", ".hidden", ".cache/old.jsonl"):
        write(tmp_path / name, "no data")
    assert len(read(tmp_path)) == 3
    write(tmp_path / "more.docx", "data that would be left out")
    with pytest.raises(CorpusError, match=r"more.docx: files with this suffix cannot be read. Give one of .*move it"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("storys.jsonl", "There is no file .*storys.jsonl. Did you mean .*/stories.jsonl"),
        ("nowhere/x.jsonl", "There is no file .*x.jsonl. There is no directory .*nowhere either"),
        ("empty", "directory .*empty contains no file that can be read"),
        ("blank.jsonl", "blank.jsonl contains no example: it is empty"),
        ("header.csv", "header.csv contains no example: it is empty"),
        ("list.json", "list.json contains no example: it is empty"),
        (
            "bad.jsonl",
            "bad.jsonl contains only bad examples. The first is at bad.jsonl:2: no field 'text'; it has 'body'",
        ),
    ],
)
def test_a_source_without_examples_is_an_error(name: str, message: str, tmp_path: Path) -> None:
    write(tmp_path / "stories.jsonl", ROWS)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "blank.jsonl", "\n")
    write(tmp_path / "header.csv", "id,text\n")
    write(tmp_path / "list.json", "[]")
    write(tmp_path / "bad.jsonl", '\n{"body": "x"}\n{"body": "y"}\n')
    with pytest.raises(CorpusError, match=message):
        read(tmp_path / name, skip_bad=True)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "No corpus was named"),
        ("./nowhere", "There is no file nowhere"),
        ("nowhere.csv", "There is no file nowhere.csv"),
        (Path("owner/name"), "There is no file owner/name"),
        ("storys", "There is no file or directory storys, and a dataset is named owner/name. Did you mean stories?"),
    ],
)
def test_what_cannot_be_a_dataset_is_never_looked_for_on_the_hub(
    source: str | Path, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stories").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delattr(datasets, "load_dataset")
    with pytest.raises(CorpusError, match=message):
        read(source)


def test_a_name_that_is_no_path_is_streamed_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*names: Any, **options: Any) -> Iterator[dict[str, Any]]:
        asked.append((names, options))
        return iter([*ROWS[:1], {"text": "without an id"}, *ROWS])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = read("roneneldan/TinyStories:clean", limit=2)
    assert [record.source for record in found] == ["roneneldan/TinyStories/train:1", "roneneldan/TinyStories/train:2"]
    assert [record.id for record in found] == ["a", "roneneldan/TinyStories/train:2"]
    read("roneneldan/TinyStories", limit=2, split="validation")
    assert asked == [
        (("roneneldan/TinyStories", "clean"), {"split": "train", "streaming": True}),
        (("roneneldan/TinyStories", None), {"split": "validation", "streaming": True}),
    ]


def test_a_dataset_that_cannot_be_read_says_why_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("Config name is missing.\nPlease pick one of:\n ['a', 'b']" + " blah" * 1000)

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(CorpusError) as caught:
        read("owner/name")
    told = "There is no file owner/name, and it cannot be read as a dataset of the hub: Config name is missing. Please "
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400

    def break_off(*_: Any, **__: Any) -> Iterator[dict[str, Any]]:
        yield from ROWS[:2]
        raise ConnectionError("the line is dead")

    monkeypatch.setattr(datasets, "load_dataset", break_off)
    with pytest.raises(CorpusError, match="owner/name: reading the dataset failed after row 2: the line is dead"):
        read("owner/name")
