"""An answer, or the verification of one, as a file to keep."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pyarrow.parquet as pq
from pydantic import TypeAdapter

from headwater.attribution.answer import Answer
from headwater.render.comparison import comparison_html
from headwater.render.html import answer_html
from headwater.verify.verification import Verification

Format = Literal["json", "csv", "parquet", "html"]


@dataclass(frozen=True)
class Export:
    """One way to write what a job found, which is given as its JSON."""

    media_type: str
    write: Callable[[bytes], bytes]

    def headers(self, format: Format, name: str) -> dict[str, str]:
        """They make it a download; a page carries its own styles, which no page of the server may."""
        headers = {"Content-Disposition": f'attachment; filename="headwater-{name}.{format}"'}
        if format == "html":
            headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
        return headers


def _verification_page(found: bytes) -> bytes:
    return comparison_html(TypeAdapter(Verification).validate_json(found)).encode()


def _parquet(answer: bytes) -> bytes:
    written = io.BytesIO()
    pq.write_table(Answer.from_json(answer).to_table(), written)
    return written.getvalue()


EXPORTS: dict[Format, Export] = {
    "json": Export("application/json", bytes),
    "csv": Export("text/csv; charset=utf-8", lambda answer: Answer.from_json(answer).to_csv().encode()),
    "parquet": Export("application/vnd.apache.parquet", _parquet),
    "html": Export("text/html; charset=utf-8", lambda answer: answer_html(Answer.from_json(answer)).encode()),
}
VERIFICATION_EXPORTS: dict[Format, Export] = {
    "json": EXPORTS["json"],
    "html": Export("text/html; charset=utf-8", _verification_page),
}
