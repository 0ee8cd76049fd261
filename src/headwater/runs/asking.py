"""Making questions for a run's model, and refusing what is none; a run in a few lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from headwater.attribution.options import Sampling
from headwater.attribution.query_file import QueryLine, read_queries
from headwater.attribution.question import Question, Span, continue_prompt, make_question
from headwater.corpus.chat import Messages, chat_prompt
from headwater.errors import HeadwaterError
from headwater.lm.load import LanguageModel


def make(
    lm: LanguageModel,
    prompt: str | Messages,
    completion: str | None = None,
    *,
    span: Span | None = None,
    sampling: Sampling = Sampling(),
    contrast: str | None = None,
) -> Question:
    """A question about a completion, or about the model's own continuation (see `Run.question`)."""
    text = _rendered(lm, prompt)
    if completion is None:
        question = continue_prompt(lm, text, sampling)
        if span is not None:
            question = replace(make_question(lm, text, question.completion, span=span), generated=True)
    else:
        question = make_question(lm, text, completion, span=span)
    if contrast is None:
        return question
    return replace(question, contrast=make_question(lm, text, contrast, id="contrast"))


def make_all(lm: LanguageModel, queries: str | Path | Sequence[QueryLine]) -> list[Question]:
    """The questions of a JSONL file, or of its lines."""
    lines = read_queries(Path(queries)) if isinstance(queries, str | Path) else queries
    return [
        replace(make(lm, line.messages or line.prompt or "", line.completion, span=line.span), id=line.id)
        for line in lines
    ]


def question_of(
    lm: LanguageModel,
    asked: str | Messages | Question,
    completion: str | None = None,
    *,
    span: Span | None = None,
    contrast: str | None = None,
) -> Question:
    """What `Run.ask` is asked. Raises HeadwaterError where a Question comes with a completion, span or contrast."""
    if not isinstance(asked, Question):
        return make(lm, asked, completion, span=span, contrast=contrast)
    beside = {"completion": completion, "span": span, "contrast": contrast}
    if given := [name for name, value in beside.items() if value is not None]:
        raise HeadwaterError(
            f"A Question says all that is asked: leave out {' and '.join(given)}, or give them to run.question(…)."
        )
    return asked


def checked(questions: Sequence[Question]) -> Sequence[Question]:
    """The questions. Raises HeadwaterError where one of them is something else, such as a text."""
    for question in questions:
        if not isinstance(question, Question):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise HeadwaterError(f"{_shown(question)} is no Question. Make one: run.question(prompt, completion).")
    return questions


def _rendered(lm: LanguageModel, prompt: str | Messages) -> str:
    """The prompt as a text; a conversation through the tokenizer's chat template."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list | tuple) and all(isinstance(message, dict) for message in prompt):  # pyright: ignore
        return chat_prompt(lm.tokenizer, prompt)
    raise HeadwaterError(
        f"{_shown(prompt)} is no prompt. Give a text, a conversation [{{'role': …, 'content': …}}, …], or a Question."
    )


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text[:60]}…" if len(text) > 60 else text
