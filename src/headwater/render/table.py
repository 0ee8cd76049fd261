"""An answer as a table for spreadsheets and data frames, one row per example."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pyarrow as pa

from headwater.attribution.answer import Answer, ScoredExample

SCHEMA = pa.schema(
    [
        ("end", pa.string()),
        ("rank", pa.int32()),
        ("id", pa.string()),
        ("influence", pa.float64()),
        ("relative", pa.float64()),
        ("removal_effect", pa.float64()),
        ("source", pa.string()),
        ("text", pa.string()),
        ("duplicates", pa.list_(pa.string())),
        ("metadata", pa.string()),
        ("layers", pa.list_(pa.struct([("layer", pa.string()), ("influence", pa.float64())]))),
        ("tokens", pa.list_(pa.struct([("token", pa.string()), ("influence", pa.float64())]))),
    ]
)
"""`end` is "raised" or "lowered"; `rank` counts from 1 at each end; `metadata` is JSON."""


def answer_table(answer: Answer) -> Any:
    """A pyarrow Table of SCHEMA, proponents first; the question is in the schema's metadata, as JSON."""
    rows = [_row("raised", *ranked) for ranked in enumerate(answer.proponents, start=1)]
    rows += [_row("lowered", *ranked) for ranked in enumerate(answer.opponents, start=1)]
    facts = {
        "prompt": answer.query.prompt,
        "completion": answer.query.completion,
        "span": answer.query.span,
        "contrast": answer.contrast.completion if answer.contrast else None,
        "rank_by": answer.rank_by,
        "model": answer.model,
        "damping": answer.damping,
    }
    return pa.Table.from_pylist(rows, SCHEMA.with_metadata({"headwater": json.dumps(facts)}))


def answer_csv(answer: Answer) -> str:
    """The same rows as CSV with a header; nested values are JSON in their cell."""
    output = io.StringIO()
    writer = csv.DictWriter(output, SCHEMA.names, lineterminator="\r\n")
    writer.writeheader()
    for row in answer_table(answer).to_pylist():
        nested = {name: json.dumps(row[name], ensure_ascii=False) for name in ("duplicates", "layers", "tokens")}
        writer.writerow(row | nested)
    return output.getvalue()


def _row(end: str, rank: int, example: ScoredExample) -> dict[str, Any]:
    return {
        "end": end,
        "rank": rank,
        "id": example.id,
        "influence": example.influence,
        "relative": example.relative,
        "removal_effect": example.removal_effect,
        "source": example.source,
        "text": example.text,
        "duplicates": example.duplicates,
        "metadata": json.dumps(example.metadata, ensure_ascii=False),
        "layers": [{"layer": layer, "influence": part} for layer, part in example.layers.items()],
        "tokens": [{"token": token.token, "influence": token.influence} for token in example.tokens],
    }
