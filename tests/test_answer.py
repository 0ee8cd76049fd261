"""Answers as JSON and as saved pages."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from headwater.attribution.answer import Answer, TokenInfluence, answer_schema
from headwater.errors import HeadwaterError
from headwater.render.html import answer_html
from tests.answers import ANSWER, HEN, answer, example, tokens, told

VALIDATOR = jsonschema.Draft202012Validator(answer_schema())


@given(tokens, st.text(max_size=20))
def test_json_comes_back_as_it_was_and_fits_the_schema(tokens: list[TokenInfluence], name: str) -> None:
    made = replace(ANSWER, proponents=[example(tokens, name, relative=0.5, metadata={"a": 1, "b": True, "c": 0.5})])
    data = json.loads(made.to_json())
    VALIDATOR.validate(data)
    assert data == json.loads(json.dumps(made.to_dict()))
    if "\ud800" not in made.to_dict()["proponents"][0]["text"]:  # lone surrogates are no JSON text
        again = Answer.from_json(made.to_json())
        assert again == made
        assert type(again.proponents[0].metadata["b"]) is bool


def test_the_schema_is_valid_and_described() -> None:
    schema = answer_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "nats" in schema["$defs"]["Query"]["properties"]["loss"]["description"]
    assert "training examples" in schema["properties"]["examples"]["description"]
    published = Path(__file__).parent.parent / "docs" / "answer.schema.json"
    assert json.loads(published.read_text(encoding="utf-8")) == schema  # else run scripts/write_schema.py


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_json_cannot_carry_are_refused(value: float) -> None:
    with pytest.raises(HeadwaterError, match="infinite or NaN"):
        answer([example(HEN, removal_effect=value)], []).to_json()
    strange = answer([example(told(("a", value)))], [])  # but can be looked at
    assert strange._repr_html_()
    Console(file=io.StringIO()).print(strange)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"extra": 1}, "extra"),
        ({"query": 3}, "query"),
        ({"rank_by": "loudness"}, "rank_by"),
        ({"model": None}, "model"),
    ],
)
def test_what_is_no_answer_is_refused_by_name(change: dict[str, object], place: str) -> None:
    with pytest.raises(HeadwaterError, match=f"not an answer of Headwater: {place}"):
        Answer.from_json(json.dumps(ANSWER.to_dict() | change))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"query": NaN}', b"\xff"])
def test_broken_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(HeadwaterError, match="not an answer"):
        Answer.from_json(text)


@given(tokens)
def test_tables_and_csv_carry_every_example(tokens: list[TokenInfluence]) -> None:
    if any("\ud800" in token.token for token in tokens):
        return  # no file format carries half a character
    made = replace(ANSWER, proponents=[example(tokens, "=1+1", metadata={"a": 1})])
    table = made.to_table().to_pylist()
    assert [(row["end"], row["rank"], row["id"]) for row in table] == [("raised", 1, "=1+1"), ("lowered", 1, "s-2")]
    assert [TokenInfluence(**token) for token in table[0]["tokens"]] == tokens
    rows = list(csv.DictReader(io.StringIO(made.to_csv(), newline="")))
    assert [row["text"] for row in rows] == [row["text"] for row in table]
    assert float(rows[0]["influence"]) == made.proponents[0].influence
    assert json.loads(rows[0]["metadata"]) == {"a": 1}


def test_a_saved_page_is_whole(tmp_path: Path) -> None:
    saved = ANSWER.save_html(tmp_path / "new" / "answer.html")
    assert saved.read_text(encoding="utf-8") == answer_html(ANSWER)
    assert [path.name for path in saved.parent.iterdir()] == ["answer.html"]


def test_an_answer_prints_itself() -> None:
    output = io.StringIO()
    Console(file=output).print(ANSWER)
    assert "Raised its likelihood" in output.getvalue()
