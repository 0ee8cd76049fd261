"""Answers as JSON and as saved pages."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from headwater.attribution.answer import Answer, Distribution, TokenInfluence, TokenMap, answer_schema
from headwater.errors import HeadwaterError
from headwater.render.html import answer_html, fragment_html
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


MAP = TokenMap(
    example_id="story-00412", query_tokens=[" teapot", "."], example_tokens=["A", " hen"], values=[[1.0, 2], [0, -3]]
)


def results() -> list[Any]:
    """One result of every type that shows itself."""
    counts = [0] * 40 + [2990] + [9, 1] * 20
    return [ANSWER, MAP, ANSWER.proponents[0], Distribution([k / 2 for k in range(-41, 41)][:82], counts, [0] * 81)]


@pytest.mark.parametrize("result", results(), ids=lambda result: type(result).__name__)
def test_a_result_is_one_line_or_plain_text(result: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    line = repr(result)
    assert line.startswith(f"{type(result).__name__}(")
    assert "\n" not in line
    assert len(line) < 200
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = str(result)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100
    output = io.StringIO()
    Console(file=output, width=100, color_system=None).print(result)
    shown = [line.rstrip() for line in output.getvalue().splitlines()]
    assert "\n".join(shown).rstrip("\n") == text, "the same as the terminal shows"


def test_the_line_of_an_answer_says_what_was_asked_and_found() -> None:
    long = replace(ANSWER.query, prompt="Once upon a time " * 9, completion=" and\nthen" * 9)
    assert repr(ANSWER) == (
        "Answer('Vessa keeps her garnets in the' → ' teapot.', 1 proponent, 1 opponent, ekfac, 3,000 examples)"
    )
    assert repr(replace(ANSWER, query=long)).startswith("Answer('…")
    assert repr(ANSWER.query) == "Query('Vessa keeps her garnets in the' → ' teapot.', loss 4.75 nats)"
    assert repr(MAP) == "TokenMap('story-00412', 2 query tokens × 2 example tokens)"


@given(tokens, st.text(max_size=20))
def test_hostile_texts_do_not_act_through_str_and_repr(tokens: list[TokenInfluence], name: str) -> None:
    made = answer([example(tokens, name, source=name)], [], replace(ANSWER.query, prompt=name, completion=name))
    for shown in (str(made), repr(made), str(made.proponents[0]), repr(made.proponents[0])):
        assert not set(shown) & {"\x1b", "\x07", "\r", "\x00", "\u202e", "\x9b", "\ud800"}


def test_a_notebook_shows_the_page_of_results_that_have_one() -> None:
    assert ANSWER._repr_html_() == fragment_html(ANSWER)
    frame = MAP._repr_html_()
    assert frame is not None
    assert frame.startswith("<iframe srcdoc=")
    assert ANSWER.proponents[0]._repr_html_() is None, "the notebook falls back to repr"


def test_an_answer_is_read_without_a_renderer_until_it_is_shown() -> None:
    """In a process of its own: reading loads no module of headwater.render; the first face loads it."""
    script = (
        "import sys\n"
        "from headwater.attribution.answer import Answer\n"
        "found = Answer.from_json(sys.stdin.read())\n"
        "rendering = lambda: [name for name in sys.modules if name.startswith('headwater.render')]\n"
        "assert found.to_json() and repr(found) and not rendering(), rendering()\n"
        "print(found)\n"
        "assert 'headwater.render.faces' in rendering()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=ANSWER.to_json(), capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{ANSWER}\n"
