"""Read a corpus one record at a time: from files of several formats, a directory of them, or a named dataset."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import Any

from headwater.base.logs import tell
from headwater.base.shown import counted
from headwater.corpus.chat_formats import TOOLS, Conversation, conversation_of, layout_of, names_fields, tools_of
from headwater.corpus.formats import read_rows
from headwater.corpus.metadata import Scalar
from headwater.corpus.objects import CorpusSource, described, is_saved, object_rows, saved_rows
from headwater.corpus.options import NUMBERED, ReadOptions
from headwater.corpus.piped import NAME, is_piped, piped_rows
from headwater.corpus.rows import Bad, Row, clean
from headwater.corpus.sources import (
    Origin,
    find_source,
    is_dataset,
    no_dataset,
    origin_of,
    origins_below,
    require_no_split,
    shortened,
    streamed_rows,
    streams,
)
from headwater.errors import CorpusError

PEEKED = 100
"""Rows that are looked at for a good one, which shows how the source is laid out."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One training text as it was read."""

    id: str
    text: str
    source: str
    """File, relative to the given directory, and line or row, counted from 1: "stories.jsonl:12"."""
    metadata: Mapping[str, Scalar]
    """The other columns. Lists and objects are kept as JSON."""
    learned: tuple[tuple[int, int], ...] | None = None
    """Start and end of each part of the text that carries loss, such as the answers of a chat. None: all of it."""
    row: Row | None = field(default=None, compare=False, repr=False)
    """The row of the file that it was made from."""
    document: int = field(default=0, compare=False)
    """Its number among the documents packed into the row, counted from 0."""


@dataclass(frozen=True)
class Skipped:
    """A bad example that was skipped, and why."""

    source: str
    reason: str


class RepeatedId(CorpusError):
    """Two examples have the same id."""


LocatedRow = tuple[Origin, Row | Bad]
Rendered = tuple[str, tuple[tuple[int, int], ...]]
"""A text that the model reads, and start and end of each part that carries loss."""
Render = Callable[[Conversation], list[Rendered]]
"""A conversation -> the examples that it makes."""


def read_records(
    source: CorpusSource,
    options: ReadOptions = ReadOptions(),
    on_skip: Callable[[Skipped], None] | None = None,
    *,
    render: Render | None = None,
    note: Callable[[str], None] = tell,
    any_layout: bool = False,
    on_layout: Callable[[ReadOptions], None] | None = None,
) -> Iterator[Record]:
    """All good records of `source`, in order. Memory is constant, except for a hash and the place of every id.

    `source` is a file, a directory, `-` for standard input, the name of a hub dataset (`owner/name` or
    `owner/name:config`), a URL (see `headwater.corpus.sources`), or texts in memory (see `headwater.corpus.objects`).
    `render` makes texts of conversations; with it, options that name no field become those that read the first row,
    conversations among them (`layout_of`, also for `any_layout`). `on_layout` is called with these options. `note` is
    told which files are read, if not all, and how. Raises CorpusError, naming file and line, at the first bad record;
    with `skip_bad`, bad records are passed to `on_skip` instead. Also raises it if the source does not exist, is
    damaged (see `headwater.corpus.formats`), or contains no good record.
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
    rows = _find_rows(source, options, note)
    if render is not None:
        options, rows = with_layout(rows, options, note, any_layout=any_layout)
    if on_layout is not None:
        on_layout(options)
    for record in islice(good_records(rows, RowReader(options, render), skip, seen={}), options.limit):
        found = True
        yield record
    if not found and first_bad:
        raise CorpusError(
            f"{described(source)} contains only bad examples. The first is at {first_bad.source}: {first_bad.reason}."
        )
    if not found:
        raise CorpusError(f"{described(source)} contains no example: it is empty.")


def with_layout(
    rows: Iterator[LocatedRow], options: ReadOptions, note: Callable[[str], None], *, any_layout: bool = False
) -> tuple[ReadOptions, Iterator[LocatedRow]]:
    """The options that read the first good row (see `layout_of`), and all rows. `note` is told what was found."""
    if names_fields(options) and not any_layout:
        return options, rows
    peeked: list[LocatedRow] = []
    for located in rows:
        peeked.append(located)
        if isinstance(located[1], Row):
            options, said = layout_of(options, located[1].values, any_layout=any_layout)
            if said is not None:
                note(said)
            break
        if len(peeked) == PEEKED:
            break
    return options, chain(peeked, rows)


# --- records ---


@dataclass(frozen=True)
class RowReader:
    """Makes records from rows."""

    options: ReadOptions
    render: Render | None

    def records(self, origin: Origin, row: Row | Bad) -> list[Record]:
        """The record of a row, or one record for each document packed into it."""
        if isinstance(row, Bad):
            raise CorpusError(row.reason)
        options, values, source = self.options, row.values, origin.place(row.number)
        texts = self._texts(values)
        numbered = options.id_field == NUMBERED
        id_field = options.id_field or "id"
        id = None if numbered else _id(values, id_field)
        if id is None:
            if options.id_field and not numbered:
                has = _fields(values)
                raise CorpusError(f"no field {id_field!r} to take the id from; it has {has} (see --id-field)")
            id = f"{origin.stem}:{origin.before + row.number}" + (f".{row.part}" if row.part > 1 else "")
        own = {options.text_field, options.prompt_field, options.messages_field, options.offsets_field}
        own |= set() if numbered else {id_field}
        if options.messages_field is not None and tools_of(values.get(TOOLS)) is not None:
            own.add(TOOLS)
        rest = {clean(key): _scalar(value) for key, value in values.items() if key not in own}
        if options.separator is None and options.offsets_field is None:
            made = Record(id=id, text="", source=source, metadata=rest, row=row)
            return [
                replace(
                    made, id=id if len(texts) == 1 else f"{id}.{turn + 1}", text=text, learned=learned, document=turn
                )
                for turn, (text, learned) in enumerate(texts)
            ]
        ((text, _),) = texts
        return [
            Record(id=f"{id}.{number}", text=document, source=source, metadata=rest, row=row, document=number - 1)
            for number, document in enumerate(_unpacked(text, values, options), start=1)
            if document.strip()
        ]

    def _texts(self, values: Mapping[str, Any]) -> Sequence[tuple[str, tuple[tuple[int, int], ...] | None]]:
        """The texts of a row, each with the parts of it that carry loss. Only a conversation may have several."""
        if self.options.messages_field is not None:
            assert self.render is not None, "conversations need a chat template"
            prompt = self.options.prompt_field
            before = None if prompt is None else _value(values, prompt, "--prompt-field")
            value = _value(values, self.options.messages_field, "--messages-field")
            return self.render(conversation_of(value, tools=values.get(TOOLS), prompt=before))
        text = _filled(values, self.options.text_field)
        if self.options.prompt_field is None:
            return [(text, None)]
        prompt = _plain(values, self.options.prompt_field, "--prompt-field")
        return [(prompt + text, ((len(prompt), len(prompt + text)),))]


def good_records(
    rows: Iterable[LocatedRow], reader: RowReader, skip: Callable[[Skipped], None], *, seen: dict[bytes, str]
) -> Iterator[Record]:
    """The records of good rows. `seen` maps used ids (see `id_key`) to their places; new ids are added to it.

    Raises CorpusError at the first bad row. With `skip_bad`, bad rows are passed to `skip` instead.
    """
    for origin, row in rows:
        source = origin.place(row.number)
        try:
            records = reader.records(origin, row)
            keys = [id_key(record.id) for record in records]
            for key, record in zip(keys, records, strict=True):
                if key in seen:
                    raise RepeatedId(f"the id {record.id!r} is used twice, first at {seen[key]}; ids must be unique")
        except CorpusError as error:
            if not reader.options.skip_bad:
                instead = f"number the rows instead (--id-field {NUMBERED})" if isinstance(error, RepeatedId) else ""
                hint = f"Correct it, {instead and instead + ', '}or skip bad examples with --skip-bad."
                raise CorpusError(f"{source}: {error}. {hint}") from None
            skip(Skipped(source, str(error)))
        else:
            seen |= dict.fromkeys(keys, source)
            yield from records


def id_key(id: str) -> bytes:
    """A key of fixed length that stands for an id when ids are compared."""
    return blake2b(id.encode(), digest_size=16).digest()


def _unpacked(text: str, values: Mapping[str, Any], options: ReadOptions) -> list[str]:
    """The documents packed into a text."""
    if options.offsets_field is None:
        return text.split(options.separator)
    offsets = _value(values, options.offsets_field, "--offsets-field")
    numbers = isinstance(offsets, list) and all(type(place) is int for place in offsets)
    if not numbers or sorted(offsets) != offsets or not all(0 <= place <= len(text) for place in offsets):
        raise CorpusError(
            f"the field {options.offsets_field!r} is not an increasing list of positions in the text, which has "
            f"{len(text)} characters"
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
        raise CorpusError(f"{what} has an unpaired surrogate at character {error.start + 1}") from None


def _fields(values: Mapping[str, Any]) -> str:
    return shortened(", ".join(map(repr, values)) or "none")


def _kind(value: Any) -> str:
    """The name of a JSON value's type, in words."""
    names = {type(None): "null", bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return (names | {dict: "an object", bytes: "raw bytes"}).get(type(value), type(value).__name__)


def _scalar(value: Any) -> Scalar:
    if value is None or isinstance(value, int | float | bool):
        return value
    return clean(json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else str(value))


# --- rows of a source ---


def _find_rows(source: CorpusSource, options: ReadOptions, note: Callable[[str], None]) -> Iterator[LocatedRow]:
    if not isinstance(source, str | Path):
        origin = Origin("in memory", "row")
        yield from ((origin, row) for row in object_rows(source, options))
    elif is_piped(source):
        if options.stream:
            raise CorpusError("Standard input is copied into the run, because it can be read only once: drop --stream.")
        origin = Origin(NAME, NAME)
        yield from ((origin, row) for row in piped_rows(options.text_field, note))
    elif streams(source, options.stream):
        found = find_source(source, options.split)
        if found.note:
            note(found.note)
        yield from streamed_rows(found)
    elif is_dataset(source):
        yield from _dataset(str(source), options.split)
    else:
        yield from _local_rows(Path(source).expanduser(), options, note)


def _local_rows(path: Path, options: ReadOptions, note: Callable[[str], None]) -> Iterator[LocatedRow]:
    """The rows of a file or a folder."""
    if path.is_dir() and is_saved(path):
        name = path.resolve().name
        yield from ((Origin(name, name), row) for row in saved_rows(path, options))
        return
    if path.is_dir():
        names, chosen = origins_below(path, options.split)
        if chosen:
            note(chosen)
    else:
        require_no_split(path, options.split)
        names = [(path.name, origin_of(path.name))]
    empty: list[str] = []
    folder = path if path.is_dir() else path.parent
    for name, origin in names:
        row = None
        for row in read_rows(folder / name, options.text_field):
            yield origin, row
        if row is None:
            empty.append(name)
    if empty and len(empty) < len(names):
        note(f"{counted(len(empty), 'file')} of {len(names):,} without a row: {shortened(', '.join(empty))}.")


def _dataset(name: str, split: str) -> Iterator[LocatedRow]:
    """The rows of a hub dataset, streamed."""
    import datasets

    repository, _, config = name.partition(":")
    origin = Origin(f"{repository}/{split}", f"{repository}/{split}")
    read = 0
    try:
        stream = datasets.load_dataset(repository, config or None, split=split, streaming=True)
        for read, values in enumerate(stream, start=1):
            yield origin, Row(read, dict(values))
    except Exception as error:
        if read:
            cause = (shortened(str(error)) or type(error).__name__).rstrip(".")
            raise CorpusError(f"{name}: reading the dataset failed after row {read:,}: {cause}. Try again.") from None
        raise no_dataset(name, error) from None
