"""Texts in memory: a dataset of the datasets library, a table, or a list; and folders written by `save_to_disk`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa

from headwater.base.shown import counted
from headwater.corpus.formats import PARQUET_ROWS, parquet_rows
from headwater.corpus.options import ReadOptions
from headwater.corpus.rows import Bad, Row
from headwater.corpus.splits import ALL
from headwater.errors import CorpusError, first_line

CorpusSource = str | Path | Iterable[Any]
"""Where the texts of a corpus are: a file, a directory, `-` for standard input, the name of a hub dataset, or a URL. Or
the texts themselves: a Dataset, IterableDataset or DatasetDict, a table of pandas or pyarrow, an iterable of texts or
records."""


def is_objects(source: object) -> bool:
    """Whether a source is texts in memory rather than the name of a place."""
    return not isinstance(source, str | Path)


def described(source: CorpusSource) -> str:
    """A source in words, for a manifest and for errors."""
    if isinstance(source, str | Path):
        return "standard input" if source == "-" else str(source)
    kind = f"{type(source).__name__} in memory"
    if isinstance(source, Mapping):
        return kind
    return kind + (f" ({counted(len(source), 'row')})" if isinstance(source, Sized) else "")


def object_rows(source: Iterable[Any], options: ReadOptions) -> Iterator[Row | Bad]:
    """The rows of texts in memory. A text alone stands for a row with the field `options.text_field`.

    Raises CorpusError for an object of another kind, and if reading it fails.
    """
    if options.stream:
        raise CorpusError("Texts in memory are copied into the run: leave out stream=True.")
    rows = _rows(split_of(source, options.split))
    for number in count(1):
        try:
            item: Any = next(rows)
        except StopIteration:
            return
        except CorpusError:
            raise
        except Exception as error:  # an iterator of the user may raise anything
            cause = f"{type(error).__name__}: {first_line(error)}"
            raise CorpusError(f"{described(source)}: reading it failed at row {number:,}: {cause}.") from error
        if isinstance(item, Row | Bad):
            yield item
        elif isinstance(item, str):
            yield Row(number, {options.text_field: item})
        elif isinstance(item, list) and item and all(isinstance(each, Mapping) for each in item):  # pyright: ignore
            yield Row(number, {"messages": item})  # a conversation
        elif isinstance(item, Mapping):
            yield Row(number, {str(key): value for key, value in item.items()})  # pyright: ignore
        else:
            yield Bad(number, f"{type(item).__name__} is neither a text nor a record such as {{'text': '…'}}")


def split_of(source: Iterable[Any], split: str) -> Iterable[Any]:
    """The dataset of a split, if `source` has splits; else `source`. Raises CorpusError if there is none."""
    if not isinstance(source, Mapping):
        return source
    splits: Mapping[str, Any] = source  # pyright: ignore[reportUnknownVariableType]
    if not splits or not all(hasattr(each, "column_names") for each in splits.values()):
        raise CorpusError(
            "A dictionary is no corpus. Give a list of texts, a list of records [{'text': '…'}, …] or a Dataset: "
            "Dataset.from_dict(…)."
        )
    wanted = list(splits) if split == ALL else split.split("+")
    if lacking := [each for each in wanted if each not in splits]:
        has = ", ".join(map(str, splits))
        raise CorpusError(f"The dataset has no split {lacking[0]!r} (--split). It has {has}; all reads every split.")
    chosen = [splits[each] for each in wanted]
    return chosen[0] if len(chosen) == 1 else (row for each in chosen for row in _plain_values(each))


def _rows(source: Iterable[Any]) -> Iterator[Any]:
    if hasattr(source, "iloc") and hasattr(source, "columns"):  # a data frame of pandas, which need not be installed
        source = pa.Table.from_pandas(source, preserve_index=False)
    if isinstance(source, pa.Table):
        return _table_rows(source)
    if isinstance(source, bytes | bytearray):
        raise CorpusError("Bytes are no corpus. Give a path, or a list of texts.")
    try:
        return iter(_plain_values(source))
    except TypeError:
        raise CorpusError(
            f"{type(source).__name__} is no corpus. Give a path, a list of texts, a list of records or a Dataset."
        ) from None


def _plain_values(source: Any) -> Iterable[Any]:
    """A dataset that gives Python values, whatever format is set on it."""
    return source.with_format(None) if hasattr(source, "column_names") and hasattr(source, "with_format") else source


def _table_rows(table: Any) -> Iterator[Row | Bad]:
    number = 0
    for batch in table.to_batches(max_chunksize=PARQUET_ROWS):
        yield from parquet_rows(batch, range(number + 1, number + 1 + batch.num_rows))
        number += batch.num_rows


def is_saved(path: Path) -> bool:
    """Whether a folder was written by `save_to_disk` of a Dataset or a DatasetDict."""
    return (path / "dataset_dict.json").is_file() or all(
        (path / name).is_file() for name in ("state.json", "dataset_info.json")
    )


def saved_rows(path: Path, options: ReadOptions) -> Iterator[Row | Bad]:
    """The rows of a folder written by `save_to_disk`. Raises CorpusError if it is damaged or lacks the split."""
    import datasets

    try:
        loaded: Any = datasets.load_from_disk(str(path))
    except Exception as error:  # damage of any of its files
        raise CorpusError(
            f"{path} looks like a dataset written by save_to_disk, but it cannot be loaded: {first_line(error)}. Write "
            "it again."
        ) from error
    yield from object_rows(loaded, options)
