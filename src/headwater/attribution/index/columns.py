"""The corpus's own fields as columns of an index's table: each field has a column, and a column knows its field.

A column has the name of its field, with `_` for other characters than letters, digits and `_`. If two fields would get
the same name, the later one gets a number: `a b` and `a_b` become `a_b_2` and `a_b`. The field is kept in the metadata
of the column. Tables of earlier versions lack it. There, fields with the same name in the table share a column, as they
did.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from headwater.corpus.corpus import Corpus
from headwater.errors import HeadwaterError

OWN_COLUMNS = (
    *("key", "id", "text", "location", "tokens", "loss", "self_influence", "scale", "coarse", "fine", "check"),
    *("_rowid", "_score", "_distance"),
)
"""Names that the table itself uses."""
FIELD = b"headwater.field"
"""Key of the field in a column's metadata."""


def column_name(field: str) -> str:
    """The column name of a field that no other field claims: only letters, digits and _, and none of OWN_COLUMNS."""
    plain = re.sub(r"\W", "_", field) or "_"
    return f"{plain}_" if plain.lower() in OWN_COLUMNS else plain


def field_types(corpus: Corpus, positions: Iterable[int]) -> dict[str, Any]:
    """The fields of the examples at `positions` with their Arrow types; that of values of several types is text."""
    return {field: _arrow_type(found - {"NoneType"}) for field, found in corpus.kinds_of(positions).items()}


def columns_for(types: Mapping[str, Any], taken: Iterable[str] = ()) -> list[Any]:
    """A column for each field, with a name of its own that is not `taken`. Fields whose name can stay come first."""
    used = set(taken)
    names: dict[str, str] = {}
    for field in sorted(types, key=lambda field: column_name(field) != field):
        name = base = column_name(field)
        number = 1
        while name in used:
            number += 1
            name = f"{base}_{number}"
        used.add(name)
        names[field] = name
    return [pa.field(names[field], kind, metadata={FIELD: field.encode()}) for field, kind in types.items()]


def missing_fields(schema: Any, types: Mapping[str, Any]) -> dict[str, Any]:
    """The fields among `types` that have no column in `schema`."""
    known = {field_of(column) for column in schema}
    earlier = {column.name for column in schema if field_of(column) is None}
    return {field: kind for field, kind in types.items() if field not in known and column_name(field) not in earlier}


def field_of(column: Any) -> str | None:
    """The field of a column. None for a column of the table itself, and in tables of earlier versions."""
    field: bytes | None = (column.metadata or {}).get(FIELD)
    return None if field is None else field.decode()


def shown(schema: Any, names: Sequence[str]) -> list[str]:
    """The `names` of columns for people, each with its field if that is called otherwise."""
    fields = {name: field_of(schema.field(name)) for name in names}
    return [name if fields[name] in (None, name) else f"{name} (the field {fields[name]!r})" for name in names]


def filled(schema: Any, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns `names` of `schema`, filled from the metadata of examples.

    Raises HeadwaterError if a value does not fit the type of its column.
    """
    columns: dict[str, Any] = {}
    earlier = [{column_name(key): value for key, value in row.items()} for row in rows]
    for name in names:
        column = schema.field(name)
        field = field_of(column)
        values = [row.get(name) for row in earlier] if field is None else [row.get(field) for row in rows]
        if pa.types.is_string(column.type):
            values = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
        try:
            columns[name] = pa.array(values, column.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise HeadwaterError(
                f"The column {name!r} of the index holds {column.type} values, and an example has a value of another "
                f"type: {error}. Change the value, or rename the field."
            ) from error
    return columns


def _arrow_type(found: set[str]) -> Any:
    if found == {"bool"}:
        return pa.bool_()
    if found == {"int"}:
        return pa.int64()
    if found and found <= {"int", "float"}:
        return pa.float64()
    return pa.string()
