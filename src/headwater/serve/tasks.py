"""What the worker does with the run for each kind of request; every task returns JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from headwater.attribution.answer import Answer
from headwater.attribution.options import AskOptions, Sampling
from headwater.attribution.question import Question, describe
from headwater.base.files import finite_json
from headwater.render.summary import made_with, meaning
from headwater.render.verification import checked_with, headline, verdict
from headwater.runs.run import Run
from headwater.serve.jobs import Result, Work
from headwater.serve.option_fields import options_from
from headwater.serve.schemas import (
    DescribeBody,
    GenerateBody,
    InfluencesBody,
    QuestionBody,
    SamplingBody,
    TokensBody,
    VerificationsBody,
)
from headwater.verify.options import VerifyOptions

GREEDY_BELOW = 0.01
"""A temperature below this is 0: dividing by it would overflow, and the likeliest token wins anyway."""


def influences(body: InfluencesBody) -> Work:
    """Answer a question from the corpus, or against the texts given."""
    options = options_from(AskOptions, body)

    def work(run: Run) -> Result:
        question = _question(run, body)
        answer = (
            run.ask(question, options=options) if body.texts is None else run.ask_against(question, body.texts, options)
        )
        return Result(answer.to_json(indent=None).encode(), meaning(answer), made_with(answer))

    return work


def verifications(body: VerificationsBody, kept: Callable[[], bytes | None]) -> Work:
    """Check what the answer to a question predicts; it is computed again if `kept` has none, as JSON."""
    options = options_from(VerifyOptions, body)
    ask = influences(body.question)

    def work(run: Run) -> Result:
        found = run.verify(Answer.from_json(kept() or ask(run).json), options)
        words = f"{headline(found)} {verdict(found)}"
        return Result(found.to_json(indent=None).encode(), words, checked_with(found))

    return work


def generate(body: GenerateBody) -> Work:
    """The model's own continuation of a prompt."""

    def work(run: Run) -> Result:
        question = run.question(_given(body), sampling=_sampling(body.sampling), raw=body.raw)
        return _result(asdict(describe(run.lm, question)))

    return work


def describe_query(body: DescribeBody) -> Work:
    """The tokens of a query, with their surprisal and whether they are selected."""

    def work(run: Run) -> Result:
        span = _span(body.span)
        question = run.question(_given(body), body.completion, span, contrast=body.contrast, raw=body.raw)
        return _result(asdict(describe(run.lm, question)))

    return work


def token_map(body: TokensBody) -> Work:
    """Which tokens of an example pushed which tokens of the question."""

    def work(run: Run) -> Result:
        made = run.token_map(
            _question(run, body), body.example, body.damping, text=body.text, layers=_globs(body.layers)
        )
        return _result(asdict(made))

    return work


def _result(value: Any) -> Result:
    return Result(finite_json(value, "This result").encode())


def _question(run: Run, body: QuestionBody) -> Question:
    return run.question(
        _given(body),
        body.completion,
        _span(body.span),
        sampling=_sampling(body.sampling),
        contrast=body.contrast,
        raw=body.raw,
    )


def _given(body: GenerateBody | DescribeBody | QuestionBody) -> str | list[dict[str, Any]]:
    return body.messages or body.prompt or ""


def _sampling(body: SamplingBody) -> Sampling:
    sampling = options_from(Sampling, body)
    return replace(sampling, temperature=0.0) if sampling.temperature < GREEDY_BELOW else sampling


def _span(span: str | list[int] | None) -> str | tuple[int, int] | None:
    return (span[0], span[1]) if isinstance(span, list) else span


def _globs(layers: list[str] | None) -> tuple[str, ...] | None:
    return None if layers is None else tuple(layers)
