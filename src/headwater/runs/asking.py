"""Questions for the model of a run: made from texts, conversations and files, and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from headwater.attribution.options import Sampling
from headwater.attribution.query_file import QueryLine, read_queries
from headwater.attribution.question import Question, Span, continue_prompt, make_question
from headwater.corpus.chat import as_conversation, asked, is_formatted
from headwater.corpus.chat_formats import Conversation, Messages
from headwater.errors import HeadwaterError
from headwater.lm.load import LanguageModel

Prompt = str | Messages | Conversation
"""What a model is given: a text, or a conversation that the chat template makes a text of."""


def make(
    lm: LanguageModel,
    prompt: Prompt,
    completion: str | None = None,
    *,
    span: Span | None = None,
    sampling: Sampling = Sampling(),
    contrast: str | None = None,
    chat: bool = False,
) -> Question:
    """A question about a completion or about the model's own continuation (see `Run.question`).

    With `chat`, a text is what a user says, unless it is formatted by the chat template already.
    """
    if chat and isinstance(prompt, str) and prompt.strip() and not is_formatted(lm.tokenizer, prompt):
        prompt = [{"role": "user", "content": prompt}]
    if isinstance(prompt, str):
        return _of_text(lm, prompt, completion, span=span, sampling=sampling, contrast=contrast)
    conversation = _conversation(prompt)
    text, answer = asked(lm.tokenizer, conversation)
    messages = conversation.messages if answer is None else conversation.messages[:-1]
    if answer is not None and completion is not None:
        raise HeadwaterError(
            "The conversation ends with a message of the assistant, which is the completion: leave the other one out."
        )
    found = _of_text(
        lm, text, answer if completion is None else completion, span=span, sampling=sampling, contrast=contrast
    )
    return replace(found, messages=tuple(messages))


def _of_text(
    lm: LanguageModel,
    text: str,
    completion: str | None,
    *,
    span: Span | None,
    sampling: Sampling,
    contrast: str | None,
) -> Question:
    if completion is None:
        question = continue_prompt(lm, text, sampling, span=span)
    else:
        question = make_question(lm, text, completion, span=span)
    if contrast is None:
        return question
    return replace(question, contrast=make_question(lm, text, contrast, id="contrast"))


def make_all(lm: LanguageModel, queries: str | Path | Sequence[QueryLine], *, chat: bool = False) -> list[Question]:
    """The questions of a JSONL file or of its parsed lines."""
    lines = read_queries(Path(queries)) if isinstance(queries, str | Path) else queries
    made: list[Question] = []
    for line in lines:
        prompt = line.prompt if line.messages is None else line.messages
        question = make(lm, prompt or "", line.completion, span=line.span, chat=chat and not line.raw)
        made.append(replace(question, id=line.id))
    return made


def question_of(
    lm: LanguageModel,
    prompt: Prompt | Question,
    completion: str | None = None,
    *,
    span: Span | None = None,
    contrast: str | None = None,
    chat: bool = False,
) -> Question:
    """The question of a call of `Run.ask`. Raises HeadwaterError for a Question with a completion, span or contrast."""
    if not isinstance(prompt, Question):
        return make(lm, prompt, completion, span=span, contrast=contrast, chat=chat)
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


def _conversation(prompt: object) -> Conversation:
    if isinstance(prompt, Conversation):
        return prompt
    if isinstance(prompt, list | tuple | Mapping):
        return as_conversation(prompt)
    raise HeadwaterError(
        f"{_shown(prompt)} is not a prompt. Give a text, a conversation [{{'role': …, 'content': …}}, …] or a Question."
    )


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text[:60]}…" if len(text) > 60 else text
