"""A corpus whose texts stay where they are: the same examples and scores as of a copy, and what goes wrong said."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from headwater.base.progress import Step, silent
from headwater.cli import app
from headwater.corpus import catalogue, formats, row_access, store
from headwater.corpus.batches import TokenSequence
from headwater.corpus.fingerprint import PlainFingerprint
from headwater.corpus.options import CorpusOptions, ReadOptions
from headwater.errors import CorpusError, FingerprintMismatch, HeadwaterError
from headwater.lm.load import LanguageModel, load_model
from headwater.plan.options import PlanOptions
from headwater.plan.plan import plan_corpus, plan_run
from headwater.plan.subject import CATALOGUE_BYTES
from headwater.runs.card import card_of, manifest_of
from headwater.runs.check import check_run
from headwater.runs.info import describe_run
from headwater.runs.run import Run
from headwater.sweep.execution import Execution
from tests.killing import KilledError
from tests.models import TEXT, plain_model, tiny_tokenizer

NAMES = ("Lily", "Tom", "the fox", "an otter", "Mia", "the moon")
FILES, EACH = 3, 14
SECRET = "xyzzy"
"""Stands in every text, and nowhere in a run that streams them."""
ASKED = ("Once upon a time, Lily", " found a shiny key.")


def story(k: int) -> dict[str, Any]:
    text = f"{TEXT[k % 4][: 20 + k % 30]} And {NAMES[k % 6]} saw {k} stars, {SECRET}."
    return {"id": f"s{k}" if k % 3 else None, "text": text, "kind": "odd" if k % 2 else "even", "year": 2000 + k}


Rows = Sequence[Mapping[str, Any]]


def as_jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_parquet(rows: Rows) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), sink, row_group_size=5, compression="NONE")
    return sink.getvalue().to_pybytes()


WRITERS: dict[str, Callable[[Rows], bytes]] = {"jsonl": as_jsonl, "parquet": as_parquet}


def shards(suffix: str) -> dict[str, bytes]:
    """The files of a corpus, one of them in a folder of its own."""
    parts = [[story(k) for k in range(EACH * n, EACH * (n + 1))] for n in range(FILES)]
    files = {name: WRITERS[suffix](part) for name, part in zip(("a", "b/part", "c"), parts, strict=True)}
    if suffix == "jsonl":  # with a byte order mark, and blank lines
        files["a"] = b"\xef\xbb\xbf" + files["a"].replace(b"\n", b"\n\n", 3)
    return {f"{name}.{suffix}": content for name, content in files.items()}


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = tmp_path_factory.mktemp("model")
    plain_model("gpt_neo", torch.float32).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return load_model(str(folder))


@pytest.fixture(autouse=True)
def many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet decoded three rows at a time, and hardly anything read in passing."""
    monkeypatch.setattr(row_access, "PARQUET_ROWS", 3)
    monkeypatch.setattr(row_access, "GAP", 40)
    monkeypatch.setattr(row_access, "PIECE", 2000)


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's file system in memory, which stands for an object store."""
    system = fsspec.filesystem("memory")
    yield system
    for name in system.ls("/", detail=False):
        system.rm(name, recursive=True)


def streamed(path: Path, lm: LanguageModel, source: str | Path, report: Any = None, **options: Any) -> Run:
    cut = {name: options.pop(name) for name in ("max_tokens", "long_texts") if name in options}
    made = CorpusOptions(ReadOptions(stream=True, **options), **cut)
    return Run.create(path, lm, source, options=made, execution=Execution(report=report or silent, shard_examples=10))


def copied(path: Path, lm: LanguageModel, source: str | Path, **options: Any) -> Run:
    cut = {name: options.pop(name) for name in ("max_tokens", "long_texts") if name in options}
    made = CorpusOptions(ReadOptions(**options), **cut)
    return Run.create(path, lm, source, options=made, execution=Execution(shard_examples=10))


def digests(run: Run) -> dict[str, str]:
    """Fit, index and scan; what came of each bit by bit, but for the texts in the index."""
    run.fit()
    run.build_index(bytes=256)
    run.scan([run.question(*ASKED)], run.path / "scores.parquet", tokens=True)
    table = run.index.table
    assert table is not None
    assert table.damaged() == []
    rows = table.lance.to_arrow().sort_by("key").to_pylist()
    index = [{name: value for name, value in row.items() if name not in ("text", "check")} for row in rows]
    contents = {
        "curvature": run.paths.curvature.read_bytes(),
        "index": json.dumps(index).encode(),
        "scores": (run.path / "scores.parquet").read_bytes(),
    }
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_streamed_corpus_is_that_of_a_copy_and_holds_no_text(
    suffix: str, lm: LanguageModel, memory: Any, tmp_path: Path
) -> None:
    folder = write(tmp_path / "texts", shards(suffix))
    memory.put(str(folder), "/bucket/texts", recursive=True)
    copy = copied(tmp_path / "copy", lm, folder)
    for name, source in (("here", folder), ("there", "memory://bucket/texts")):
        run = streamed(tmp_path / name, lm, source)
        assert len(run.corpus.streamed) == FILES
        assert run.corpus.ids == copy.corpus.ids
        assert run.manifest.binding() == copy.manifest.binding()
        assert list(run.corpus.read(range(len(run.corpus)))) == list(copy.corpus.read(range(len(copy.corpus))))
    assert digests(run) == digests(copy)
    assert run.ask(*ASKED, k=5).to_json() == copy.ask(*ASKED, k=5).to_json()
    written = {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    assert [file for file, content in written.items() if SECRET.encode() in content] == []
    assert any(SECRET.encode() in file.read_bytes() for file in copy.path.rglob("*.arrow"))


PACKED = [{"id": f"p{k}", "docs": f"{TEXT[k % 4]}|{TEXT[(k + 1) % 4] * (1 + k % 3)}|x"} for k in range(9)]
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (PACKED, {"text_field": "docs", "separator": "|", "max_tokens": 20, "long_texts": "split"}),
        ([{"p": TEXT[k % 4][:9], "text": TEXT[k % 4][9:]} for k in range(9)], {"prompt_field": "p", "limit": 7}),
        ([{"text": text} for text in ("a story", "", "x", " ", *TEXT)], {"skip_bad": True}),
        (
            [{"m": [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": t}]} for t in TEXT],
            {"messages_field": "m"},
        ),
    ],
    ids=["packed and split", "prompts, limited", "bad ones left out", "conversations"],
)
def test_whatever_is_made_of_a_row_is_made_of_it_again(
    suffix: str, rows: Rows, options: dict[str, Any], lm: LanguageModel, tmp_path: Path
) -> None:
    half = len(rows) // 2
    files = {f"{name}.{suffix}": WRITERS[suffix](part) for name, part in (("a", rows[:half]), ("b", rows[half:]))}
    folder = write(tmp_path / "texts", files)
    if "messages_field" in options:
        lm = conversing(lm)
    copy, run = copied(tmp_path / "copy", lm, folder, **options), streamed(tmp_path / "run", lm, folder, **options)
    expected, found = ({**run.manifest.corpus.counts.__dict__, "checksum": ""} for run in (copy, run))
    assert found == expected
    assert run.manifest.corpus.skipped == copy.manifest.corpus.skipped
    places = random.Random(0).choices(range(len(copy.corpus)), k=40)
    assert list(run.corpus.read(places)) == list(copy.corpus.read(places))


def conversing(lm: LanguageModel) -> LanguageModel:
    tokenizer = deepcopy(lm.tokenizer)
    tokenizer.chat_template = CHAT
    return replace(lm, tokenizer=tokenizer)


@pytest.mark.parametrize("suffix", WRITERS)
def test_neighbours_are_read_in_one_go_and_others_by_themselves(
    suffix: str, lm: LanguageModel, memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe(f"/bucket/x.{suffix}", WRITERS[suffix]([story(k) for k in range(60)]))
    run = streamed(tmp_path / "run", lm, f"memory://bucket/x.{suffix}")
    asked: list[int] = []
    decoded: list[int] = []
    monkeypatch.setattr(row_access, "PIECE", 1 << 20)
    cat_ranges, iter_batches = type(memory).cat_ranges, pq.ParquetFile.iter_batches

    def counted(self: Any, paths: list[str], *rest: Any, **options: Any) -> Any:
        asked.append(len(paths))
        return cat_ranges(self, paths, *rest, **options)

    def noted(self: Any, *rest: Any, **options: Any) -> Any:
        decoded.extend(options["row_groups"])
        return iter_batches(self, *rest, **options)

    monkeypatch.setattr(type(memory), "cat_ranges", counted)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noted)
    everything: list[TokenSequence] = []
    for start in range(0, 60, 20):  # as a sweep does
        everything += run.corpus.sequences()[start : start + 20]
    assert [one.id for one in everything] == run.corpus.ids
    if suffix == "jsonl":
        assert asked == [1, 1, 1]
    else:
        assert decoded == list(range(12)), "every row group once, in order"
    asked.clear()
    decoded.clear()
    assert [example.id for example in run.corpus.read([41, 3, 59, 4])] == [run.corpus.ids[k] for k in (41, 3, 59, 4)]
    assert (asked or decoded) == ([3] if suffix == "jsonl" else [0, 8, 11])


def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that are read from their beginning, as they are."""
    names: list[str] = []

    def noted(url: str, kind: str) -> Any:
        names.append(Path(url).name)
        return formats.read_open(Path(url).open("rb"), kind, url)

    monkeypatch.setattr(catalogue, "rows_of", noted)
    return names


def test_an_interrupted_catalogue_goes_on_with_the_first_file_that_it_lacks(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "texts", shards("jsonl"))
    names = opened(monkeypatch)
    steps: list[Step] = []

    def kill(step: Step) -> None:
        steps.append(step)
        if step.done == 2:
            raise KilledError

    with pytest.raises(KilledError):
        streamed(tmp_path / "run", lm, folder, kill)
    assert names == ["a.jsonl", "part.jsonl"]
    assert (steps[-1].total, steps[-1].note) == (FILES, f"files; {2 * EACH} examples")
    with pytest.raises(HeadwaterError, match="not a Headwater run"):
        Run.open(tmp_path / "run")
    names.clear()
    run = streamed(tmp_path / "run", lm, folder)
    assert names == ["c.jsonl"]
    assert run.manifest.binding() == copied(tmp_path / "copy", lm, folder).manifest.binding()
    names.clear()
    assert streamed(tmp_path / "run", lm, folder).manifest == run.manifest
    assert names == [], "the same command finds everything there"


def test_files_that_are_gone_behind_an_interruption_are_gone(lm: LanguageModel, tmp_path: Path) -> None:
    folder = write(tmp_path / "texts", shards("jsonl"))

    def kill(step: Step) -> None:
        if step.done == 2:
            raise KilledError

    with pytest.raises(KilledError):
        streamed(tmp_path / "run", lm, folder, kill)
    shutil.rmtree(folder / "b")
    (folder / "c.jsonl").unlink()
    run = streamed(tmp_path / "run", lm, folder)
    assert run.manifest.binding() == copied(tmp_path / "copy", lm, folder).manifest.binding()
    assert len(Run.open(run.path, lm).corpus) == EACH


def test_an_id_is_used_once_in_all_files_also_behind_an_interruption(lm: LanguageModel, tmp_path: Path) -> None:
    files = {f"{name}.jsonl": as_jsonl([{"id": "same", "text": TEXT[0]}]) for name in "ab"}
    folder = write(tmp_path / "texts", files)

    def kill(step: Step) -> None:
        if step.done == 1:
            raise KilledError

    with pytest.raises(KilledError):
        streamed(tmp_path / "run", lm, folder, kill)
    for _ in range(2):
        with pytest.raises(CorpusError, match=r"b.jsonl:1: the id 'same' is used twice, first at a.jsonl:1"):
            streamed(tmp_path / "run", lm, folder)


def test_a_source_that_was_changed_is_known_and_one_that_only_looks_so_is_taken_again(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "texts", shards("jsonl"))
    run = streamed(tmp_path / "run", lm, folder)
    file = folder / "c.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + b"\n")
    with pytest.raises(FingerprintMismatch, match=r"The file .*c\.jsonl does not match.*--corpus SOURCE --stream"):
        Run.open(run.path, lm).corpus[2 * EACH]
    assert Run.open(run.path, lm).corpus[0].text == story(0)["text"], "other files are as they were"
    names = opened(monkeypatch)
    streamed(run.path, lm, folder)  # a line more, and no example
    assert names == ["c.jsonl"]
    assert Run.open(run.path, lm).corpus[2 * EACH].text == story(2 * EACH)["text"]
    file.write_bytes(whole.replace(SECRET.encode(), b"abcde") + b"\n")
    with pytest.raises(FingerprintMismatch, match="The corpus of the run"):
        streamed(run.path, lm, folder)
    assert not (run.path / "corpus" / "streamed.part").exists()


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_text_that_is_another_is_known_even_where_nothing_else_tells(
    suffix: str, lm: LanguageModel, tmp_path: Path
) -> None:
    rows = [story(k) for k in range(EACH)]
    file = write(tmp_path, {f"x.{suffix}": WRITERS[suffix](rows)}) / f"x.{suffix}"
    run, marked = streamed(tmp_path / "run", lm, file), file.stat()
    rows[5]["text"] = rows[5]["text"].replace("stars", "stops")
    file.write_bytes(WRITERS[suffix](rows))
    assert file.stat().st_size == marked.st_size
    os.utime(file, ns=(marked.st_atime_ns, marked.st_mtime_ns))
    run = Run.open(run.path, lm)
    if suffix == "jsonl":
        assert run.corpus[4].text == rows[4]["text"]
    with pytest.raises(CorpusError, match=rf"x\.{suffix}.* row 6 differs from when the run was made"):
        list(run.corpus.read([4, 5]))


def test_texts_that_have_moved_and_taken_another_form_are_the_same(lm: LanguageModel, tmp_path: Path) -> None:
    rows = [story(k) | {"id": f"s{k}"} for k in range(20)]
    write(tmp_path / "old", {"x.parquet": as_parquet(rows)})
    run = streamed(tmp_path / "run", lm, tmp_path / "old")
    run.fit(curvature="identity")
    write(tmp_path / "new", {"y.jsonl": as_jsonl(rows)})
    shutil.rmtree(tmp_path / "old")
    with pytest.raises(CorpusError, match="no such file"):
        Run.open(run.path, lm).corpus[0]
    moved = streamed(run.path, lm, tmp_path / "new")
    assert moved.corpus[7].text == rows[7]["text"]
    assert moved.corpus[7].source == "y.jsonl:8"
    assert moved.curvature().kind == "identity", "what was fitted is kept"


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.csv", "x.json", "x.txt"])
def test_what_cannot_be_streamed_is_said_with_what_to_do(name: str, lm: LanguageModel, tmp_path: Path) -> None:
    write(tmp_path / "texts", {name: b"?"})
    with pytest.raises(CorpusError, match=rf"{name} cannot be streamed.*Convert it to Parquet.*leaving --stream out"):
        streamed(tmp_path / "run", lm, tmp_path / "texts")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("s3://bucket/x.parquet", "pip install s3fs"),
        ("gs://bucket/x.parquet", "pip install gcsfs"),
        ("https://example.org/x.jsonl", "pip install aiohttp"),
        ("nowhere://x.jsonl", "Protocol not known: nowhere"),
        ("memory://empty/*.jsonl", "There is no file at"),
        ("zip://x.jsonl::s3://bucket/x.zip", "chained URLs"),
    ],
)
def test_a_place_that_is_out_of_reach_is_said(source: str, said: str, lm: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=said.replace("?", r"\?")):
        streamed(tmp_path / "run", lm, source)
    assert not (tmp_path / "run").exists()


def test_a_run_streams_or_holds_its_texts(lm: LanguageModel, tmp_path: Path) -> None:
    folder = write(tmp_path / "texts", shards("jsonl"))
    run, copy = streamed(tmp_path / "run", lm, folder), copied(tmp_path / "copy", lm, folder)
    with pytest.raises(HeadwaterError, match="Add --stream"):
        copied(run.path, lm, folder)
    with pytest.raises(HeadwaterError, match="Leave out --stream"):
        streamed(copy.path, lm, folder)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_dataset_of_the_hub_is_its_files_and_numbered_as_when_it_is_copied(
    suffix: str, lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": story(k)["text"]} for k in range(30)]
    parts = {"data/train-0": rows[:14], "data/train-1": rows[14:]}
    files = {f"{name}.{suffix}": WRITERS[suffix](part) for name, part in parts.items()}
    folder = write(tmp_path / "hub", files)
    found = {"train": [str(folder / name) for name in files]}

    def builder(name: str, config: str | None) -> Any:
        assert (name, config) == ("you/stories", "small")
        return SimpleNamespace(config=SimpleNamespace(data_files=found))

    monkeypatch.setattr(datasets, "load_dataset_builder", builder)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: iter(rows))
    run = streamed(tmp_path / "run", lm, "you/stories:small")
    copy = copied(tmp_path / "copy", lm, "you/stories:small")
    assert run.corpus.ids[20] == "you/stories/train:21"
    assert run.manifest.binding() == copy.manifest.binding()
    assert list(run.corpus.read([2, 20])) == list(copy.corpus.read([2, 20]))
    with pytest.raises(CorpusError, match=r"no files for the split 'test' \(--split\). It has train"):
        streamed(tmp_path / "other", lm, "you/stories:small", split="test")


def test_examples_are_added_and_taken_out_as_from_a_copy(lm: LanguageModel, tmp_path: Path) -> None:
    folder = write(tmp_path / "texts", shards("parquet"))
    write(tmp_path, {"more.jsonl": as_jsonl([{"id": f"m{k}", "text": TEXT[k]} for k in range(3)])})
    found: list[Any] = []
    for make in (copied, streamed):
        run = make(tmp_path / make.__name__, lm, folder)
        run.fit(curvature="identity")
        run.build_index(bytes=64)
        assert run.add(tmp_path / "more.jsonl") == 3
        assert run.remove(["s1", "s20", "m1"]) == 3
        assert (run.build_index().added, run.remove(["s2"]), run.add(tmp_path / "more.jsonl")) == (2, 1, 1)
        run.build_index()
        answer = run.ask(*ASKED, k=50, where="year IS NULL OR year > 2003")
        found.append((run.corpus.fingerprint, run.corpus.ids, [e.id for e in answer.proponents + answer.opponents]))
        against = run.ask_against(run.question(*ASKED), tmp_path / "more.jsonl", k=3)
        assert (against.added, against.examples_scored) == (True, 3)
    assert found[0] == found[1]
    with pytest.raises(HeadwaterError, match="index of a streamed corpus has none"):
        run.ask(*ASKED, contains="fox")


def test_check_compares_catalogues_and_sources_and_a_damaged_catalogue_alone_is_made_again(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "texts", shards("jsonl"))
    run = streamed(tmp_path / "run", lm, folder)
    parts = {one.part: one.detail for one in check_run(run.path) if not one.fix}
    assert "3 files have the sizes, and the times or etags, that were catalogued" in parts["corpus/streamed"]
    (folder / "a.jsonl").write_bytes(b"")
    (changed,) = (one for one in check_run(run.path) if one.fix)
    assert changed.part == str(folder / "a.jsonl")
    assert "Restore the file" in str(changed.fix)
    write(folder, shards("jsonl"))
    streamed(run.path, lm, folder)
    damaged = run.path / "corpus" / "streamed" / "000001.arrow"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    (wrong,) = (one for one in check_run(run.path, repair=True) if one.fix)
    assert wrong.part == "corpus/streamed/000001.arrow"
    assert not damaged.exists()
    names = opened(monkeypatch)
    streamed(run.path, lm, folder)
    assert names == ["part.jsonl"]
    assert [one for one in check_run(run.path) if one.fix] == []


def test_the_commands_stream(lm: LanguageModel, tmp_path: Path) -> None:
    write(tmp_path / "texts", shards("parquet"))
    command = ["fit", str(tmp_path / "run"), "--model", lm.name, "--corpus", str(tmp_path / "texts" / "*.parquet")]
    fitted = CliRunner().invoke(app, [*command, "--stream", "--curvature", "identity"])
    assert fitted.exit_code == 0, fitted.output
    info = CliRunner().invoke(app, ["info", str(tmp_path / "run")])
    assert "streamed from 2 files at" in info.output
    found = describe_run(tmp_path / "run").corpus
    assert (found.examples, found.streamed, found.root) == (2 * EACH, 2, str(tmp_path / "texts"))


def test_a_shared_run_names_no_path_and_is_told_where_the_texts_are(lm: LanguageModel, tmp_path: Path) -> None:
    folder = write(tmp_path / "mine" / "texts", shards("parquet"))
    run = streamed(tmp_path / "run", lm, folder)
    run.fit(curvature="identity")
    manifest, card = manifest_of(run.path), card_of(run.path, "you/stories")
    assert "texts are read from 3 files on the machine where it was made" in card
    assert "--corpus path/to/the/texts --stream" in card
    sent = [file.read_bytes() for file in (run.path / "corpus").rglob("*.arrow")]
    for said in (manifest.encode(), card.encode(), *sent):
        assert str(tmp_path).encode() not in said
    there = tmp_path / "there"
    shutil.copytree(run.path, there)
    (there / "manifest.json").write_text(manifest)
    with pytest.raises(CorpusError, match=r"texts/a\.parquet cannot be read: there is no such file"):
        Run.open(there, lm).corpus[0]
    moved = shutil.move(folder, tmp_path / "theirs")
    assert streamed(there, lm, moved).corpus[3].text == story(3)["text"]


def test_a_url_is_shared_without_who_may_read_it(lm: LanguageModel, memory: Any, tmp_path: Path) -> None:
    memory.pipe("/bucket/x.jsonl", as_jsonl([story(k) for k in range(5)]))
    run = streamed(tmp_path / "run", lm, "memory://bucket/x.jsonl")
    secret = "https://me:pass@example.org/x.jsonl?signature=abc"
    replace(run.manifest, corpus=replace(run.manifest.corpus, source=secret, root=secret)).write(run.path)
    shared = json.loads(manifest_of(run.path))["corpus"]
    assert (shared["source"], shared["root"]) == ("https://example.org/x.jsonl",) * 2


def test_a_plan_is_made_for_what_is_streamed(lm: LanguageModel, memory: Any, tmp_path: Path) -> None:
    memory.pipe("/bucket/x.jsonl", as_jsonl([story(k) for k in range(30)]))
    run = streamed(tmp_path / "run", lm, "memory://bucket/x.jsonl")
    assert plan_run(run.path, PlanOptions(queries=1)).examples == 30
    made = plan_corpus(lm.name, "memory://bucket/x.jsonl", options=PlanOptions(queries=1))
    assert (made.examples, made.stages[0].disk) == (30, 30 * CATALOGUE_BYTES)
    size = sum(file.stat().st_size for file in (run.path / "corpus" / "streamed").iterdir())
    assert size < 2 * 30 * CATALOGUE_BYTES + 8000, "some tens of bytes an example, and what is said of the file"


class EarlierFingerprint(PlainFingerprint):
    """A plain hash as earlier versions made it. Their catalogues stored its state."""

    @property
    def state(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return f"{self._hash.hexdigest()} 640 00ff"


@pytest.fixture
def earlier(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[Any]]:
    """Within it, runs are made as earlier versions made them."""

    @contextmanager
    def made() -> Iterator[None]:
        with monkeypatch.context() as patched:
            for module in (store, catalogue):
                patched.setattr(module, "fingerprint_like", lambda _: EarlierFingerprint())
            yield

    return made


def test_a_copied_run_of_an_earlier_version_keeps_its_fingerprint(
    earlier: Callable[[], AbstractContextManager[Any]], lm: LanguageModel, tmp_path: Path
) -> None:
    folder = write(tmp_path / "texts", shards("jsonl"))
    more = (
        write(tmp_path, {"more.jsonl": as_jsonl([{"id": f"m{k}", "text": TEXT[k]} for k in range(3)])}) / "more.jsonl"
    )
    with earlier():
        made = copied(tmp_path / "run", lm, folder)
        made.fit(curvature="identity")
        assert made.add(more) == 3
    run = Run.open(tmp_path / "run", lm)
    fingerprint = run.manifest.corpus.counts.fingerprint
    assert not fingerprint.startswith("chain-")
    assert run.ask(*ASKED, k=2).proponents
    assert run.add(more) == 0, "they were added already"
    assert copied(run.path, lm, folder).manifest == run.manifest
    assert [one for one in check_run(run.path) if one.fix] == []
    (folder / "c.jsonl").unlink()
    with pytest.raises(FingerprintMismatch, match="The corpus of the run"):
        copied(run.path, lm, folder)


def test_a_streamed_run_of_an_earlier_version_keeps_its_fingerprint(
    earlier: Callable[[], AbstractContextManager[Any]],
    lm: LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = write(tmp_path / "texts", shards("jsonl"))
    with earlier():
        made = streamed(tmp_path / "run", lm, folder)
        made.fit(curvature="identity")
    run = Run.open(tmp_path / "run", lm)
    assert not run.manifest.corpus.counts.fingerprint.startswith("chain-")
    assert run.ask(*ASKED, k=2).proponents
    assert [one for one in check_run(run.path) if one.fix] == []
    names = opened(monkeypatch)
    assert streamed(run.path, lm, folder).manifest == run.manifest
    assert names == []
    with (folder / "c.jsonl").open("ab") as file:
        file.write(b"\n")  # a line more, and no example
    again = streamed(run.path, lm, folder)
    assert names == ["a.jsonl", "part.jsonl", "c.jsonl"], "its hash cannot be continued, so all files are read"
    assert again.manifest.binding() == run.manifest.binding()
    assert again.curvature().kind == "identity", "what was fitted is kept"
    write(folder, {"c.jsonl": as_jsonl([story(99)])})
    with pytest.raises(FingerprintMismatch, match="The corpus of the run"):
        streamed(run.path, lm, folder)


def test_cataloguing_that_an_earlier_version_began_starts_again(
    earlier: Callable[[], AbstractContextManager[Any]],
    lm: LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = write(tmp_path / "texts", shards("jsonl"))

    def kill(step: Step) -> None:
        if step.done == 2:
            raise KilledError

    with earlier(), pytest.raises(KilledError):
        streamed(tmp_path / "run", lm, folder, kill)
    names = opened(monkeypatch)
    run = streamed(tmp_path / "run", lm, folder)
    assert names == ["a.jsonl", "part.jsonl", "c.jsonl"]
    assert run.manifest.binding() == copied(tmp_path / "copy", lm, folder).manifest.binding()
