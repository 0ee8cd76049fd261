"""Questions for the model of a run: made from texts, conversations and files, and checked."""

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
    """A question about a completion or about the model's own continuation (see `Run.question`)."""
    text = _rendered(lm, prompt)
    if completion is None:
        question = continue_prompt(lm, text, sampling, span=span)
    else:
        question = make_question(lm, text, completion, span=span)
    if contrast is None:
        return question
    return replace(question, contrast=make_question(lm, text, contrast, id="contrast"))


def make_all(lm: LanguageModel, queries: str | Path | Sequence[QueryLine]) -> list[Question]:
    """The questions of a JSONL file or of its parsed lines."""
    lines = read_queries(Path(queries)) if isinstance(queries, str | Path) else queries
    return [
        replace(make(lm, line.messages or line.prompt or "", line.completion, span=line.span), id=line.id)
        for line in lines
    ]


def question_of(
    lm: LanguageModel,
    prompt: str | Messages | Question,
    completion: str | None = None,
    *,
    span: Span | None = None,
    contrast: str | None = None,
) -> Question:
    """The question of a call of `Run.ask`. Raises HeadwaterError for a Question with a completion, span or contrast."""
    if not isinstance(prompt, Question):
        return make(lm, prompt, completion, span=span, contrast=contrast)
    others = {"completion": completion, "span": span, "contrast": contrast}
    if given := [name for name, value in others.items() if value is not None]:
        raise HeadwaterError(
            f"A Question is complete: leave out {' and '.join(given)}, or give it to run.question(…) instead."
        )
    return prompt


def checked(questions: Sequence[Question]) -> Sequence[Question]:
    """The questions. Raises HeadwaterError if one of them is something else, such as a text."""
    for question in questions:
        if not isinstance(question, Question):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise HeadwaterError(f"{_shown(question)} is not a Question. Make one: run.question(prompt, completion).")
    return questions


def _rendered(lm: LanguageModel, prompt: str | Messages) -> str:
    """The prompt as a text. The tokenizer's chat template renders a conversation."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list | tuple) and all(isinstance(message, dict) for message in prompt):  # pyright: ignore
        return chat_prompt(lm.tokenizer, prompt)
    raise HeadwaterError(
        f"{_shown(prompt)} is not a prompt. Give a text, a conversation [{{'role': …, 'content': …}}, …] or a Question."
    )


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text[:60]}…" if len(text) > 60 else text
