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
    learned: tuple[tuple[int, int], ...] | None = None
    """Where the parts of the text that carry loss start and stop, such as a chat's answers; None is all of it."""


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
    prompt_field: str | None = None
    """Of what the model was given before the text, which carries no loss."""
    messages_field: str | None = None
    """Of a conversation, [{"role", "content"}]; only what the assistant says carries loss."""
    separator: str | None = None
    """What parts the documents that are packed into one record."""
    offsets_field: str | None = None
    """Of a list of the characters at which each document of a packed record begins."""


@dataclass(frozen=True)
class _Origin:
    """What the rows of one file are called."""

    name: str
    """In sources: the file, relative to the directory given."""
    stem: str
    """In ids that are made up."""


_Place = tuple[_Origin, Row | Bad]
Render = Callable[[Any], tuple[str, tuple[tuple[int, int], ...]]]
"""Messages -> the text that the model reads, and where the parts of it that carry loss start and stop."""


def read_records(
    source: str | Path,
    options: ReadOptions = ReadOptions(),
    on_skip: Callable[[Skipped], None] | None = None,
    render: Render | None = None,
) -> Iterator[Record]:
    """All good records of `source`, in order, in constant memory but for a hash and the place of every id.

    `source` is a file, a directory, or the name of a hub dataset: `owner/name` or `owner/name:config`. `render` makes
    texts of conversations. Raises CorpusError, naming file and line, at the first bad record; with `skip_bad` it is
    given to `on_skip` instead. Also where the source does not exist, is damaged (`headwater.corpus.formats`), or holds
    no good record at all.
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
    for record in islice(_good(_find_rows(source, options), _Reader(options, render), skip), options.limit):
        found = True
        yield record
    if not found and first_bad:
        raise CorpusError(f"{source} holds only bad examples, the first at {first_bad.source}: {first_bad.reason}.")
    if not found:
        raise CorpusError(f"{source} holds no example: it is empty.")


# --- records ---


@dataclass(frozen=True)
class _Reader:
    """How a row becomes records."""

    options: ReadOptions
    render: Render | None

    def records(self, origin: _Origin, source: str, row: Row | Bad) -> list[Record]:
        """The one record of a row, or every document packed into it."""
        if isinstance(row, Bad):
            raise CorpusError(row.reason)
        options, values = self.options, row.values
        text, learned = self._text(values)
        id_field = options.id_field or "id"
        id = _id(values, id_field)
        if id is None:
            if options.id_field:
                has = _fields(values)
                raise CorpusError(f"no field {id_field!r} to take the id from; it has {has} (see --id-field)")
            id = f"{origin.stem}:{row.number}" + (f".{row.part}" if row.part > 1 else "")
        own = {options.text_field, id_field, options.prompt_field, options.messages_field, options.offsets_field}
        rest = {_clean(key): _scalar(value) for key, value in values.items() if key not in own}
        if options.separator is None and options.offsets_field is None:
            return [Record(id, text, source, rest, learned)]
        return [
            Record(f"{id}.{number}", document, source, rest)
            for number, document in enumerate(_unpacked(text, values, options), start=1)
            if document.strip()
        ]

    def _text(self, values: Mapping[str, Any]) -> tuple[str, tuple[tuple[int, int], ...] | None]:
        """The text of a row, and which parts of it carry loss."""
        if self.options.messages_field is not None:
            assert self.render is not None, "conversations need a chat template"
            return self.render(_value(values, self.options.messages_field, "--messages-field"))
        text = _filled(values, self.options.text_field)
        if self.options.prompt_field is None:
            return text, None
        prompt = _plain(values, self.options.prompt_field, "--prompt-field")
        return prompt + text, ((len(prompt), len(prompt + text)),)


def _good(rows: Iterable[_Place], reader: _Reader, skip: Callable[[Skipped], None]) -> Iterator[Record]:
    seen: dict[bytes, str] = {}
    for origin, row in rows:
        source = f"{origin.name}:{row.number}"
        try:
            records = reader.records(origin, source, row)
            keys = [blake2b(record.id.encode(), digest_size=16).digest() for record in records]
            for key, record in zip(keys, records, strict=True):
                if key in seen:
                    raise CorpusError(f"the id {record.id!r} was used already, at {seen[key]}; ids must be unique")
        except CorpusError as error:
            if not reader.options.skip_bad:
                hint = "Mend it, or leave bad examples out with --skip-bad."
                raise CorpusError(f"{source}: {error}. {hint}") from None
            skip(Skipped(source, str(error)))
        else:
            seen |= dict.fromkeys(keys, source)
            yield from records


def _unpacked(text: str, values: Mapping[str, Any], options: ReadOptions) -> list[str]:
    """The documents packed into a text."""
    if options.offsets_field is None:
        return text.split(options.separator)
    offsets = _value(values, options.offsets_field, "--offsets-field")
    numbers = isinstance(offsets, list) and all(type(place) is int for place in offsets)
    if not numbers or sorted(offsets) != offsets or not all(0 <= place <= len(text) for place in offsets):
        raise CorpusError(
            f"the field {options.offsets_field!r} is no rising list of characters of the text, which has {len(text)}"
        )
    return [text[start:stop] for start, stop in zip(offsets, [*offsets[1:], len(text)], strict=True)]


def _filled(values: Mapping[str, Any], field: str) -> str:
    text = _plain(values, field, "--text-field")
    if not text.strip():
        raise CorpusError(f"the text (field {field!r}) is empty")
    return text


def _plain(values: Mapping[str, Any], field: str, option: str) -> str:
    text = _value(values, field, option)
    if not isinstance(text, str):
        raise CorpusError(f"the field {field!r} is {_kind(text)}, not text")
    _check_unicode(text, f"the field {field!r}")
    return text


def _value(values: Mapping[str, Any], field: str, option: str) -> Any:
    if field not in values:
        raise CorpusError(f"no field {field!r}; it has {_fields(values)}. Name the right one with {option}")
    return values[field]


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
