"""A mistake in a call of the Python API is answered in one sentence of our own, that says what to do instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headwater.errors import HeadwaterError
from headwater.runs.run import Run
from tests.serving import COMPLETION, PROMPT, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("errors"))


def asked(run: Run) -> Any:
    return run.question(PROMPT, COMPLETION)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda run: run.ask(PROMPT, COMPLETION, k="5"), r"^k='5': k must be a whole number of at least 1\.$"),
        (lambda run: run.ask(PROMPT, COMPLETION, top=5), r"^There is no option 'top'\. Did you mean k\? "),
        (lambda run: run.ask(5), r"^5 is not a prompt\. Give a text, a conversation .* or a Question\.$"),
        (lambda run: run.ask_all(["Once"]), r"^'Once' is not a Question\. Make one: run\.question\("),
        (lambda run: run.scan(["Once"], "s.parquet"), r"^'Once' is not a Question\. Make one: run\.question\("),
        (lambda run: run.token_map("a text", run.corpus.ids[0]), r"^'a text' is not a Question\. Make one: "),
        (
            lambda run: run.token_map(asked(run)),
            r"^Give either the id of a training example or a text",
        ),
        (
            lambda run: run.token_map(asked(run), run.corpus.ids[0], text="x"),
            r"^Give either the id of a training example or a text",
        ),
        (lambda run: run.token_map(asked(run), "nobody"), r"^No example of this run has the id 'nobody'\.$"),
        (lambda run: run.ask_against(asked(run), "words"), r"^There is no file 'words'\. Give .* or a list of texts"),
        (lambda run: run.fit(curvatur="kfac"), r"^There is no option 'curvatur'\. Did you mean curvature\? "),
    ],
)
def test_a_mistake_is_named_in_one_sentence(run: Run, call: Callable[[Run], object], words: str) -> None:
    with pytest.raises(HeadwaterError, match=words):
        call(run)


@pytest.mark.parametrize("beside", [{"completion": " no"}, {"span": "a"}, {"contrast": " no"}])
def test_a_question_takes_nothing_beside_it(run: Run, beside: dict[str, str]) -> None:
    with pytest.raises(HeadwaterError, match=rf"leave out {next(iter(beside))}, or give "):
        run.ask(asked(run), **beside)  # pyright: ignore[reportArgumentType]


def test_a_run_is_one_line_and_its_text_a_few(run: Run) -> None:
    assert repr(run) == f"Run({str(run.path)!r}, model={run.lm.name!r})"
    lines = str(run).splitlines()
    assert len(lines) == 4
    assert f"{len(run.corpus):,} examples" in lines[1]
    assert "ekfac" in lines[2]


def test_a_view_shares_what_is_loaded_and_has_its_own_report(run: Run) -> None:
    steps: list[Any] = []
    view = run.using(report=steps.append)
    assert view.corpus is run.corpus
    assert view.curvature() is run.curvature()
    view.ask(PROMPT, COMPLETION, exact=True)
    heard = len(steps)
    assert heard
    run.ask(PROMPT, COMPLETION, exact=True)
    assert len(steps) == heard
