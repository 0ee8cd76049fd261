"""Exports of an answer or a verification: JSON, CSV, Parquet and HTML files."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pyarrow.parquet as pq
from pydantic import TypeAdapter

from headwater.attribution.answer import Answer
from headwater.render.html import answer_html
from headwater.render.verification import verification_html
from headwater.verify.verification import Verification

Format = Literal["json", "csv", "parquet", "html"]


@dataclass(frozen=True)
class Export:
    """One format of a job's result, written from its JSON."""

    media_type: str
    write: Callable[[bytes], bytes]

    def headers(self, format: Format, name: str) -> dict[str, str]:
        """Headers that make it a download. A page carries its own styles, which the server's pages may not."""
        headers = {"Content-Disposition": f'attachment; filename="headwater-{name}.{format}"'}
        if format == "html":
            headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
        return headers


def _verification_page(found: bytes) -> bytes:
    return verification_html(TypeAdapter(Verification).validate_json(found)).encode()


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
