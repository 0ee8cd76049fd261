"""Reading a corpus: files of several formats, a directory of them, or a dataset's name, one record at a time."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import Any

from headwater.corpus.formats import SUFFIXES, Bad, Row, format_of, read_rows
from headwater.errors import CorpusError

IGNORED_NAMES = ("readme", "license", "licence", "notice", "changelog")


@dataclass(frozen=True)
class Record:
    """One training text as it was found."""

    id: str
    text: str
    source: str
    """File, relative to the directory given, and line or row, counted from 1: "stories.jsonl:12"."""
    metadata: Mapping[str, str | int | float | bool | None]
    """The other columns; nested values are kept as JSON."""


@dataclass(frozen=True)
class Skipped:
    """A bad example that was left out, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class ReadOptions:
    text_field: str = "text"
    id_field: str | None = None
    """None: the field "id" where a record has one, else its file and line."""
    limit: int | None = None
    skip_bad: bool = False
    split: str = "train"
    """Of a dataset read by name."""


def read_records(
    source: str | Path, options: ReadOptions = ReadOptions(), on_skip: Callable[[Skipped], None] | None = None
) -> Iterator[Record]:
    """All good records of `source`, in order, in constant memory but for a hash of every id.

    Raises CorpusError, naming file and line, at the first bad record; with `skip_bad` it is given to `on_skip`
    instead. Also where the source does not exist, or holds no good record at all.
    """
    if options.limit is not None and options.limit < 1:
        raise CorpusError(f"--limit {options.limit} leaves no example.")
    found = 0
    for record in islice(_good(_rows(source, options), options, on_skip), options.limit):
        found += 1
        yield record
    if not found:
        raise CorpusError(f"{source} holds no example{' but bad ones' if options.skip_bad else ''}.")


def _rows(source: str | Path, options: ReadOptions) -> Iterator[Row | Bad]:
    path = Path(source).expanduser()
    if path.is_dir():
        return chain.from_iterable(read_rows(file, str(file.relative_to(path))) for file in _files(path))
    if path.exists():
        return read_rows(path, path.name)
    if str(source).startswith((".", "/", "~")) or format_of(path):
        raise CorpusError(_no_file(path))
    return _dataset(str(source), options.split)


def _good(
    rows: Iterable[Row | Bad], options: ReadOptions, on_skip: Callable[[Skipped], None] | None
) -> Iterator[Record]:
    seen: dict[bytes, str] = {}
    for row in rows:
        try:
            if isinstance(row, Bad):
                raise CorpusError(row.reason)
            record = _record(row, options)
            key = blake2b(record.id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            if key in seen:
                raise CorpusError(f"the id {record.id!r} was used already, at {seen[key]}. Ids must be unique")
            seen[key] = record.source
        except CorpusError as error:
            if not options.skip_bad:
                hint = "Mend it, or leave bad examples out with --skip-bad."
                raise CorpusError(f"{row.source}: {error}. {hint}") from error
            if on_skip:
                on_skip(Skipped(row.source, str(error)))
        else:
            yield record


def _record(row: Row, options: ReadOptions) -> Record:
    values = row.values
    if options.text_field not in values:
        fields = ", ".join(map(repr, values)) or "none"
        raise CorpusError(f"no field {options.text_field!r}; it has {fields}. Name the right one with --text-field")
    text = values[options.text_field]
    if not isinstance(text, str):
        raise CorpusError(f"the field {options.text_field!r} is {type(text).__name__}, not text")
    if not text.strip():
        raise CorpusError("the text is empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CorpusError(f"the text has half a surrogate pair at character {error.start}") from error
    id_field = options.id_field or "id"
    id = values.get(id_field)
    if id is None or id == "":
        if options.id_field:
            raise CorpusError(f"no field {id_field!r} to take the id from")
        name, _, line = row.source.rpartition(":")
        id = f"{name.split('.')[0]}:{line}"
    rest = {key: _scalar(value) for key, value in values.items() if key not in (options.text_field, id_field)}
    return Record(str(id), text, row.source, rest)


def _scalar(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _files(folder: Path) -> list[Path]:
    """The readable files below `folder`, in order of their names; hidden files and read-mes are passed over."""
    files: list[Path] = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_dir() or hidden or path.name.lower().startswith(IGNORED_NAMES):
            continue
        if not format_of(path):
            raise CorpusError(f"{path} is of no format that can be read ({', '.join(SUFFIXES)}). Move it elsewhere.")
        files.append(path)
    if not files:
        raise CorpusError(f"The directory {folder} holds no file that can be read ({', '.join(SUFFIXES)}).")
    return files


def _no_file(path: Path) -> str:
    near = (
        difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")], n=3)
        if path.parent.exists()
        else []
    )
    return f"There is no file {path}." + (f" Did you mean {' or '.join(near)}?" if near else "")


def _dataset(name: str, split: str) -> Iterator[Row | Bad]:
    """Stream a dataset of the hub: `owner/name`, or `owner/name:config`."""
    import datasets

    repository, _, config = name.partition(":")
    try:
        stream = datasets.load_dataset(repository, config or None, split=split, streaming=True)
        for number, values in enumerate(stream, start=1):
            yield Row(f"{repository}/{split}:{number}", dict(values))
    except Exception as error:
        cause = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise CorpusError(f"{name} is no file here, and cannot be read as a dataset of the hub: {cause}") from error
