"""Answers with their faces: printed in a terminal, shown in a notebook, saved as a page or as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from rich.console import RenderableType

from headwater.attribution.attribution import Attribution, TokenMap
from headwater.base.files import finite_json, write_text
from headwater.errors import HeadwaterError
from headwater.render.html import answer_html, fragment_html, token_map_html
from headwater.render.table import answer_csv, answer_table
from headwater.render.terminal import render_answer
from headwater.render.terminal_map import render_token_map

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True, use_attribute_docstrings=True)


@dataclass(frozen=True, kw_only=True)
class Answer(Attribution):
    """An attribution with its faces: text in a terminal, a page, a notebook cell, JSON."""

    __pydantic_config__ = _STRICT

    def to_dict(self) -> dict[str, Any]:
        """The answer as dicts and lists, in the shape of docs/answer.schema.json."""
        return asdict(self)

    def to_json(self, indent: int | None = 2) -> str:
        """The answer as JSON in plain ASCII. Raises HeadwaterError where a number is infinite or NaN."""
        return finite_json(self.to_dict(), "This answer", indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> Answer:
        """The answer that `to_json` wrote. Raises HeadwaterError, naming the place, where it is not one."""
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            raise HeadwaterError(f"This is not an answer of Headwater: {first_mistake(error)}.") from error

    def to_table(self) -> Any:
        """The examples as a pyarrow Table, one row each (see render.table.SCHEMA)."""
        return answer_table(self)

    def to_csv(self) -> str:
        """The examples as CSV, one row each; what is nested is JSON in its cell."""
        return answer_csv(self)

    def save_html(self, path: str | Path) -> Path:
        """Write the answer as one self-contained page, whole or not at all."""
        return write_text(Path(path), answer_html(self))

    def _repr_html_(self) -> str:
        return fragment_html(self)

    def __rich__(self) -> RenderableType:
        return render_answer(self)


@dataclass(frozen=True, kw_only=True)
class TokenMapAnswer(TokenMap):
    """A token × token map with its faces."""

    def save_html(self, path: str | Path) -> Path:
        """Write the map as one self-contained page, whole or not at all."""
        return write_text(Path(path), token_map_html(self))

    def _repr_html_(self) -> str:
        # Pixels for headings and labels, for the example's text in lines of some 100 characters, and for the rows.
        height = 340 + 27 * (1 + len("".join(self.example_tokens)) // 100) + 33 * len(self.query_tokens)
        page = escape(token_map_html(self))
        return f'<iframe srcdoc="{page}" style="width: 100%; height: {min(height, 800)}px; border: 0"></iframe>'

    def __rich__(self) -> RenderableType:
        return render_token_map(self)


def answer_schema() -> dict[str, Any]:
    """The JSON schema of an answer."""
    # pydantic reads only the docstrings of a class's own fields, and those of an answer are Attribution's.
    schema = TypeAdapter(list[Attribution], config=_STRICT).json_schema()
    definitions = schema["$defs"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **definitions.pop("Attribution"),
        "title": "Headwater answer",
        "$defs": definitions,
    }


def first_mistake(error: ValidationError) -> str:
    """Where the JSON of an answer goes wrong, and how."""
    mistake = error.errors(include_url=False)[0]
    where = ".".join(map(str, mistake["loc"]))
    return f"{where}: {mistake['msg']}" if where else mistake["msg"]
