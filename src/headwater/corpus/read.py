"""Reading a corpus: files of several formats, a directory of them, or a dataset's name, one record at a time."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from headwater.corpus.formats import READABLE, Bad, Row, format_of, read_rows, stem_of
from headwater.errors import CorpusError

ASIDE_NAMES = ("readme", "license", "licence", "notice", "changelog", "copying", "citation")
ASIDE_SUFFIXES = (".md", ".rst")
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:.+)?")

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Record:
    """One training text as it was found."""

    id: str
    text: str
    source: str
    """File, relative to the directory given, and line or row, counted from 1: "stories.jsonl:12"."""
    metadata: Mapping[str, Scalar]
    """The other columns; lists and objects are kept as JSON."""


@dataclass(frozen=True)
class Skipped:
    """A bad example that was left out, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class ReadOptions:
    """Which fields and how many examples are read, and what becomes of bad ones."""

    text_field: str = "text"
    id_field: str | None = None
    """None: the field "id" where a record has one, else its file and line."""
    limit: int | None = None
    """Of good records."""
    skip_bad: bool = False
    split: str = "train"
    """Of a dataset read by name."""


@dataclass(frozen=True)
class _Origin:
    """What the rows of one file are called."""

    name: str
    """In sources: the file, relative to the directory given."""
    stem: str
    """In ids that are made up."""


_Place = tuple[_Origin, Row | Bad]


def read_records(
    source: str | Path, options: ReadOptions = ReadOptions(), on_skip: Callable[[Skipped], None] | None = None
) -> Iterator[Record]:
    """All good records of `source`, in order, in constant memory but for a hash and the place of every id.

    `source` is a file, a directory, or the name of a hub dataset: `owner/name` or `owner/name:config`. Raises
    CorpusError, naming file and line, at the first bad record; with `skip_bad` it is given to `on_skip` instead. Also
    where the source does not exist, is damaged (`headwater.corpus.formats`), or holds no good record at all.
    """
    if options.limit is not None and options.limit < 1:
        raise CorpusError(f"--limit {options.limit} leaves no example. Give 1 or more, or leave it out for all.")
    first_bad: Skipped | None = None

    def skip(bad: Skipped) -> None:
        nonlocal first_bad
        first_bad = first_bad or bad
        if on_skip:
            on_skip(bad)

    found = False
    for record in islice(_good(_find_rows(source, options), options, skip), options.limit):
        found = True
        yield record
    if not found and first_bad:
        raise CorpusError(f"{source} holds only bad examples, the first at {first_bad.source}: {first_bad.reason}.")
    if not found:
        raise CorpusError(f"{source} holds no example: it is empty.")


# --- records ---


def _good(rows: Iterable[_Place], options: ReadOptions, skip: Callable[[Skipped], None]) -> Iterator[Record]:
    seen: dict[bytes, str] = {}
    for origin, row in rows:
        source = f"{origin.name}:{row.number}"
        try:
            record = _record(origin, source, row, options)
            key = blake2b(record.id.encode(), digest_size=16).digest()
            if key in seen:
                raise CorpusError(f"the id {record.id!r} was used already, at {seen[key]}; ids must be unique")
        except CorpusError as error:
            if not options.skip_bad:
                hint = "Mend it, or leave bad examples out with --skip-bad."
                raise CorpusError(f"{source}: {error}. {hint}") from None
            skip(Skipped(source, str(error)))
        else:
            seen[key] = source
            yield record


def _record(origin: _Origin, source: str, row: Row | Bad, options: ReadOptions) -> Record:
    if isinstance(row, Bad):
        raise CorpusError(row.reason)
    text = _text(row.values, options.text_field)
    id_field = options.id_field or "id"
    id = _id(row.values, id_field)
    if id is None:
        if options.id_field:
            has = _fields(row.values)
            raise CorpusError(f"no field {id_field!r} to take the id from; it has {has} (see --id-field)")
        id = f"{origin.stem}:{row.number}" + (f".{row.part}" if row.part > 1 else "")
    own = (options.text_field, id_field)
    rest = {_clean(key): _scalar(value) for key, value in row.values.items() if key not in own}
    return Record(id, text, source, rest)


def _text(values: Mapping[str, Any], field: str) -> str:
    if field not in values:
        raise CorpusError(f"no field {field!r}; it has {_fields(values)}. Name the right one with --text-field")
    text = values[field]
    if not isinstance(text, str):
        raise CorpusError(f"the field {field!r} is {_kind(text)}, not text")
    if not text.strip():
        raise CorpusError(f"the text (field {field!r}) is empty")
    _check_unicode(text, f"the field {field!r}")
    return text


def _id(values: Mapping[str, Any], field: str) -> str | None:
    id = values.get(field)
    if id is None or id == "":
        return None
    if isinstance(id, bool | list | dict | bytes):
        raise CorpusError(f"the id (field {field!r}) is {_kind(id)}, not text or a number")
    _check_unicode(str(id), "the id")
    return str(id)


def _check_unicode(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CorpusError(f"{what} has half a surrogate pair at character {error.start + 1}") from None


def _fields(values: Mapping[str, Any]) -> str:
    return _one_line(", ".join(map(repr, values)) or "none")


def _one_line(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 300 else words[:299] + "…"


def _kind(value: Any) -> str:
    """What a JSON value is called, in words."""
    names = {type(None): "null", bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return (names | {dict: "an object", bytes: "raw bytes"}).get(type(value), type(value).__name__)


def _scalar(value: Any) -> Scalar:
    if value is None or isinstance(value, int | float | bool):
        return value
    return _clean(json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else str(value))


def _clean(text: str) -> str:
    """`text` with halves of surrogate pairs, which no file can hold, replaced by U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# --- where the rows are ---


def _find_rows(source: str | Path, options: ReadOptions) -> Iterator[_Place]:
    if not str(source):
        raise CorpusError("No corpus was named. Give a file, a directory, or a dataset as owner/name.")
    path = Path(source).expanduser()
    if path.is_dir():
        files = _files(path)
    elif path.exists():
        files = [(path, _Origin(_clean(path.name), _clean(stem_of(path.name))))]
    elif isinstance(source, Path) or source.startswith((".", "/", "~")) or format_of(path):
        folder = "" if path.parent.is_dir() else f" There is no directory {path.parent} either."
        raise CorpusError(f"There is no file {path}.{folder}{_near(path)}")
    elif not HUB_NAME.fullmatch(source):
        raise CorpusError(f"There is no file or directory {source}, and a dataset is named owner/name.{_near(path)}")
    else:
        yield from _dataset(source, options.split)
        return
    for file, origin in files:
        for row in read_rows(file, options.text_field):
            yield origin, row


def _files(folder: Path) -> list[tuple[Path, _Origin]]:
    """The readable files below `folder`, in order of their names."""
    files: list[tuple[Path, str]] = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_dir() or _is_aside(relative):
            continue
        if not format_of(path):
            raise CorpusError(
                f"{path} is of no format that can be read ({READABLE}). Move it elsewhere, or hide it behind a dot."
            )
        files.append((path, _clean(relative.as_posix())))
    if not files:
        raise CorpusError(f"The directory {folder} holds no file that can be read ({READABLE}).")
    stems = Counter(stem_of(name) for _, name in files)
    return [(path, _Origin(name, stem_of(name) if stems[stem_of(name)] == 1 else name)) for path, name in files]


def _is_aside(relative: Path) -> bool:
    """Whether a file of a data directory is hidden, or says something about the data and is none."""
    name = relative.name.lower()
    if any(part.startswith(".") for part in relative.parts):
        return True
    if format_of(relative):
        return name in ("readme.txt", "license.txt", "licence.txt")
    return name.startswith(("_", *ASIDE_NAMES)) or relative.suffix.lower() in ASIDE_SUFFIXES


def _near(path: Path) -> str:
    """A sentence with the names most like that of `path`, where it should be; empty where there are none."""
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = [str(path.with_name(name)) for name in difflib.get_close_matches(path.name, siblings)]
    return f" Did you mean {' or '.join(near)}?" if near else ""


def _dataset(name: str, split: str) -> Iterator[_Place]:
    """Stream a dataset of the hub."""
    import datasets

    repository, _, config = name.partition(":")
    origin = _Origin(f"{repository}/{split}", f"{repository}/{split}")
    read = 0
    try:
        stream = datasets.load_dataset(repository, config or None, split=split, streaming=True)
        for read, values in enumerate(stream, start=1):
            yield origin, Row(read, dict(values))
    except Exception as error:
        cause = (_one_line(str(error)) or type(error).__name__).rstrip(".")
        if read:
            raise CorpusError(f"{name}: the dataset broke off after row {read:,}: {cause}. Try again.") from None
        raise CorpusError(
            f"{name} is no file here, and cannot be read as a dataset of the hub: {cause}.{_near(Path(name))}"
        ) from None
