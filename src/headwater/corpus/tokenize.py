"""Tokens of a text, the characters that each token covers, and windows of long texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from headwater.corpus.options import LongTexts
from headwater.errors import CorpusError


@dataclass(frozen=True)
class Tokenized:
    """The tokens of a text and where each ends in the text. The spans between the ends partition the text."""

    input_ids: list[int]
    ends: list[int]
    """Character position after each token. They never decrease; the last is the length of the text."""

    def pieces(self, text: str) -> list[str]:
        """The text of each token. Joined, they are `text`. A character made of several tokens belongs to the first."""
        starts = [0, *self.ends[:-1]]
        return [text[start:end] for start, end in zip(starts, self.ends, strict=True)]

    def overlapping(self, spans: Sequence[tuple[int, int]]) -> list[bool]:
        """[T] whether each token covers characters of one of `spans`."""
        starts = [0, *self.ends[:-1]]
        return [
            any(begin < stop and end > start for start, stop in spans)
            for begin, end in zip(starts, self.ends, strict=True)
        ]


def tokenize(tokenizer: Any, texts: Sequence[str], *, one_bos: bool = True) -> list[Tokenized]:
    """Tokenise, with the special tokens that the tokenizer adds. An added beginning-of-text token covers no characters.

    With `one_bos`, a text that begins with the BOS word does not get a second BOS token: its one covers the word.
    """
    encoded = tokenizer(list(texts), return_offsets_mapping=True, return_attention_mask=False, verbose=False)
    bos = added_bos(tokenizer) if one_bos else None
    found: list[Tokenized] = []
    for text, ids, offsets in zip(texts, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        ends = _ends(offsets, len(text))
        more = 0 if bos is None else _repeats(ids, bos)
        found.append(Tokenized(list(ids[more:]), ends[more:]))
    return found


def added_bos(tokenizer: Any) -> int | None:
    """The BOS token, if the tokenizer begins every text with it."""
    bos: int | None = tokenizer.bos_token_id
    adds = bos is not None and tokenizer("", verbose=False)["input_ids"][:1] == [bos]
    return bos if adds else None


def writes_bos(tokenized: Tokenized, bos: int | None) -> bool:
    """Whether a text begins with the word of the BOS token that its tokenizer adds anyway."""
    return bos is not None and tokenized.input_ids[:1] == [bos] and tokenized.ends[0] > 0


def _repeats(ids: Sequence[int], bos: int) -> int:
    """How often `bos` follows itself at the beginning."""
    return next((number for number, id in enumerate(ids) if id != bos), len(ids)) - 1 if ids[:1] == [bos] else 0


def _ends(offsets: Sequence[tuple[int, int]], length: int) -> list[int]:
    ends: list[int] = []
    reached = 0
    for _, end in offsets:
        reached = max(reached, int(end))
        ends.append(reached)
    if ends:
        ends[-1] = length
    return ends


def fit_windows(
    text: str, tokenized: Tokenized, max_tokens: int, *, long_texts: LongTexts, bos: int | None = None
) -> Iterator[tuple[str, Tokenized]]:
    """The whole text if it fits in `max_tokens`; else its beginning, or consecutive windows of it.

    Each window comes with exactly the text that its tokens cover. If the text begins with `bos`, so does every window:
    the token is one of its `max_tokens` and covers no characters. A last window of one token is left out, because it
    would carry no loss.
    """
    if max_tokens < 2:
        raise CorpusError(f"--max-tokens {max_tokens} leaves nothing to predict. Give 2 or more.")
    total = len(tokenized.input_ids)
    if total <= max_tokens:
        yield text, tokenized
        return
    again = [bos] if bos is not None and tokenized.input_ids[0] == bos else []
    start, stop = 0, max_tokens
    while start < total:
        lead = again if start else []
        if len(lead) + stop - start < 2:
            return
        first = tokenized.ends[start - 1] if start else 0
        ends = [end - first for end in tokenized.ends[start:stop]]
        yield (
            text[first : first + ends[-1]],
            Tokenized([*lead, *tokenized.input_ids[start:stop]], [0] * len(lead) + ends),
        )
        if long_texts == "truncate":
            return
        start, stop = stop, min(stop + max_tokens - len(again), total)
