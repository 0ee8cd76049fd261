"""Questions: a prompt and a completion as tokens, with the tokens whose loss is explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from headwater.attribution.answer import Query, QueryToken
from headwater.attribution.options import Sampling
from headwater.base.shown import counted, quoted, quoted_end
from headwater.corpus.batches import TokenSequence, pad
from headwater.corpus.tokenize import INCOMPLETE, Tokenized, decode, locate_generated, tokenize
from headwater.errors import HeadwaterError
from headwater.lm.capture import token_losses
from headwater.lm.load import LanguageModel

CUT = "The continuation ended inside a character"
LONGEST_CHARACTER = 4
"""Most tokens of one character: one for each of its bytes in UTF-8."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Question:
    """A query ready for the model: prompt and completion as one tokenised text, with loss on the selected tokens."""

    prompt: str
    completion: str
    tokenized: Tokenized
    selected: tuple[bool, ...]
    """[T] whether the loss of each token is part of the query."""
    span: str | None = None
    generated: bool = False
    id: str = "query"
    messages: tuple[Mapping[str, Any], ...] | None = None
    """The conversation that the chat template made the prompt of. None: the prompt was given as a text."""
    contrast: Question | None = None
    """Another completion. The question is then why the model says `completion` rather than this one."""
    token_ids: tuple[int, ...] | None = None
    """The tokens that the model generated, where tokenising its text gives others."""
    note: str | None = None
    """What was done to a continuation that ended inside a character."""

    def __repr__(self) -> str:
        facts = [f"{quoted_end(self.prompt)} → {quoted(self.completion)}"]
        if self.span is not None:
            facts.append(f"span {quoted(self.span)}")
        if self.contrast is not None:
            facts.append(f"rather than {quoted(self.contrast.completion)}")
        return f"Question({', '.join([*facts, counted(sum(self.selected), 'token')])})"

    @property
    def parts(self) -> list[tuple[Question, int]]:
        """The question with sign 1, and its contrast, if it has one, with sign −1."""
        return [(self, 1)] if self.contrast is None else [(self, 1), (self.contrast, -1)]

    @property
    def text(self) -> str:
        return self.prompt + self.completion

    @property
    def sequence(self) -> TokenSequence:
        return TokenSequence(
            self.id,
            np.array(self.tokenized.input_ids, dtype=np.int64),
            np.array(self.selected, dtype=np.bool_),
        )

    @property
    def pieces(self) -> list[str]:
        return self.tokenized.pieces(self.text)

    @property
    def selected_pieces(self) -> list[str]:
        """The texts of the selected tokens."""
        return [piece for piece, selected in zip(self.pieces, self.selected, strict=True) if selected]

    def token_sequences(self) -> list[TokenSequence]:
        """One sequence for each selected token, with loss on that token only. Their losses sum to that of the query."""
        whole = self.sequence
        return [
            TokenSequence(f"{self.id}[{t}]", whole.input_ids, np.arange(len(self.selected)) == t)
            for t in np.flatnonzero(whole.targets)
        ]


Span = str | tuple[int, int]
"""A part of a completion: its words (the first occurrence counts), or its start and stop as character offsets."""


def make_question(
    lm: LanguageModel,
    prompt: str,
    completion: str,
    *,
    span: Span | None = None,
    id: str = "query",
    token_ids: Sequence[int] | None = None,
) -> Question:
    """The question about a completion, or about the `span` of it. Tokens that overlap it are selected.

    `token_ids` are the tokens of prompt and completion where the model generated others than tokenising gives.

    Raises HeadwaterError if the completion is empty, `span` is not in it, no selected token has a token before it, or
    the text is longer than the model's context.
    """
    if not completion:
        raise HeadwaterError(f"The completion of {id} is empty. Give a text to explain.")
    first, last = (0, len(completion)) if span is None else _offsets(span, completion, id)
    start, stop = len(prompt) + first, len(prompt) + last
    (tokenized,) = tokenize(lm.tokenizer, [prompt + completion])
    generated_ids = None if token_ids is None or list(token_ids) == tokenized.input_ids else tuple(token_ids)
    if generated_ids is not None:
        (begun,) = tokenize(lm.tokenizer, [prompt])
        new = generated_ids[len(begun.input_ids) :]
        tokenized = locate_generated(lm.tokenizer, prompt + completion, begun, generated=new)
    if len(tokenized.input_ids) > lm.max_positions:
        raise HeadwaterError(
            f"{id} has {len(tokenized.input_ids)} tokens, but the model reads at most {lm.max_positions}. Shorten the "
            "prompt."
        )
    selected = [False, *tokenized.overlapping([(start, stop)])[1:]]
    if not any(selected):
        raise HeadwaterError(
            f"No token of {id} can be explained: the model does not predict the first token of a text. Give a prompt."
        )
    words = None if span is None else completion[first:last]
    return Question(
        prompt=prompt,
        completion=completion,
        tokenized=tokenized,
        selected=tuple(selected),
        span=words,
        id=id,
        token_ids=generated_ids,
    )


def _offsets(span: Span, completion: str, id: str) -> tuple[int, int]:
    """Start and stop of `span` in the completion. Raises HeadwaterError if it is not in it."""
    if isinstance(span, str):
        start = completion.find(span) if span else -1
        if start < 0:
            raise HeadwaterError(f"The span {span!r} is not in the completion {completion!r} of {id}.")
        return start, start + len(span)
    start, stop = span
    if not 0 <= start < stop <= len(completion):
        raise HeadwaterError(
            f"The span from {start} to {stop} is not in the completion of {id}, which has {len(completion)} characters."
        )
    return start, stop


def continue_prompt(
    lm: LanguageModel, prompt: str, sampling: Sampling = Sampling(), *, span: Span | None = None
) -> Question:
    """The model's own continuation of `prompt` as a question about its tokens.

    A continuation that ends inside a character, which some tokenizers write with several tokens, goes on until the
    character is complete; if it never is, these tokens are dropped. Raises HeadwaterError if it is empty.
    """
    if not prompt.strip():
        raise HeadwaterError("The prompt is empty. Give a text to continue.")
    (encoded,) = tokenize(lm.tokenizer, [prompt])
    before = encoded.input_ids
    room = lm.max_positions - len(before)
    if room < 1:
        raise HeadwaterError(
            f"The prompt has {len(before)} tokens and fills the model's context of {lm.max_positions}. Shorten it."
        )
    ids, note = _whole_characters(lm, before, sampling, room=room)
    completion = decode(lm.tokenizer, ids)[len(decode(lm.tokenizer, before)) :]
    if not completion:
        ended = note or "The model ends the text right after this prompt."
        raise HeadwaterError(f"{ended} Give a completion, another prompt, or more tokens (--max-new-tokens).")
    question = make_question(lm, prompt, completion, span=span, token_ids=ids)
    return replace(question, generated=True, note=note)


def _whole_characters(
    lm: LanguageModel, before: Sequence[int], sampling: Sampling, *, room: int
) -> tuple[list[int], str | None]:
    """The tokens `before` and their continuation up to the end of a character, and what was done to end it there.

    Bytes that are no text, as an untrained model says them, stay as they are.
    """
    wanted = min(sampling.max_new_tokens, room)
    said = _generated(lm, before, sampling, new_tokens=wanted)
    if not decode(lm.tokenizer, said).endswith(INCOMPLETE):
        return said, None
    for more in range(1, min(LONGEST_CHARACTER, room - wanted + 1)):
        longer = _generated(lm, before, sampling, new_tokens=wanted + more)
        if not decode(lm.tokenizer, longer).endswith(INCOMPLETE):
            return longer, f"{CUT}, so it has {len(longer) - len(before)} tokens instead of {wanted}."
    for fewer in range(1, min(LONGEST_CHARACTER, len(said) - len(before) + 1)):
        if not decode(lm.tokenizer, said[:-fewer]).endswith(INCOMPLETE):
            return said[:-fewer], f"{CUT}, so {fewer} of its tokens were dropped."
    return said, None


def _generated(lm: LanguageModel, before: Sequence[int], sampling: Sampling, *, new_tokens: int) -> list[int]:
    """The tokens `before` and up to `new_tokens` that the model adds, without special tokens at the end."""
    options: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if sampling.temperature > 0:
        options = {"do_sample": True, "temperature": sampling.temperature}
    input_ids = torch.tensor([before], device=lm.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sampling.seed)
        output = lm.model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            max_new_tokens=new_tokens,
            pad_token_id=lm.tokenizer.pad_token_id or lm.tokenizer.eos_token_id or 0,
            **options,
        )
    ids = output[0].tolist()
    special = set(lm.tokenizer.all_special_ids)
    while len(ids) > len(before) and ids[-1] in special:
        ids.pop()
    return ids


def describe(lm: LanguageModel, question: Question) -> Query:
    """The query of an answer, with the surprisal of every token."""
    everything = TokenSequence(question.id, question.sequence.input_ids, np.arange(len(question.selected)) > 0)
    losses = token_losses(lm, pad([everything], [0]))[0].tolist()
    tokens = [
        QueryToken(piece, float(losses[t]) if t else None, question.selected[t])
        for t, piece in enumerate(question.pieces)
    ]
    loss = sum(token.loss or 0.0 for token in tokens if token.selected)
    return Query(
        prompt=question.prompt,
        completion=question.completion,
        tokens=tokens,
        loss=loss,
        span=question.span,
        generated=question.generated,
        token_ids=None if question.token_ids is None else list(question.token_ids),
        note=question.note,
        messages=None if question.messages is None else [dict(message) for message in question.messages],
    )
