"""Leaks against brute force over all pairs of places, and through the command line."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from headwater.attribution.contamination import MIN_QUERY_WORDS, PASSAGE_WORDS, Passages
from headwater.cli import app
from headwater.runs.run import Run
from tests.models import plain_model, tiny_tokenizer

WORD = st.sampled_from("ab")


def longest_common(one: list[str], other: list[str]) -> int:
    """How many words in a row both have, by trying all places."""
    best = 0
    for i in range(len(one)):
        for j in range(len(other)):
            length = 0
            while i + length < len(one) and j + length < len(other) and one[i + length] == other[j + length]:
                length += 1
            best = max(best, length)
    return best


@given(st.lists(WORD, min_size=5, max_size=30), st.lists(WORD, max_size=40))
def test_an_example_leaks_where_it_shares_thirteen_words_or_the_whole_of_a_shorter_query(
    query: list[str], example: list[str]
) -> None:
    passages = Passages({"q": " ".join(query)})
    found = list(passages.leaks([("e", " ".join(example))]))
    needed = min(PASSAGE_WORDS, len(query))
    assert bool(passages.too_short) == (len(query) < MIN_QUERY_WORDS)
    assert bool(found) == (len(query) >= MIN_QUERY_WORDS and longest_common(query, example) >= needed)
    for leak in found:
        assert leak.words == len(leak.passage.split()) >= longest_common(query, example)
        assert f" {leak.passage} " in f" {' '.join(example)} "


def test_case_and_marks_do_not_hide_a_leak(tmp_path: Path) -> None:
    plain_model("gpt_neo").float().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    told = "once, UPON a time — lily found: a shiny key!"
    (tmp_path / "corpus.jsonl").write_text(
        "\n".join(json.dumps({"id": f"s{k}", "text": text}) for k, text in enumerate(["Tom ran.", told])), "utf-8"
    )
    queries = [
        {"id": "q", "prompt": "Once upon a time, Lily", "completion": " found a shiny key."},
        {"id": "short", "prompt": "Tom", "completion": " ran."},
    ]
    (tmp_path / "dev.jsonl").write_text("\n".join(map(json.dumps, queries)), "utf-8")
    Run.create(tmp_path / "run", str(tmp_path / "model"), tmp_path / "corpus.jsonl")
    arguments = ["contamination", tmp_path / "run", tmp_path / "dev.jsonl", "-o", tmp_path / "leaks.jsonl"]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.exception
    passage = "once upon a time lily found a shiny key"
    assert json.loads((tmp_path / "leaks.jsonl").read_text("utf-8")) == {
        "id": "s1",
        "query": "q",
        "words": 9,
        "passage": passage,
    }
    assert "1 of 2 training examples" in result.stderr
    assert "1 queries of fewer than 8 words were not searched for" in result.stderr
