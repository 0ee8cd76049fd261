"""Tokens of a text, the characters that each token covers, and windows of long texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from headwater.corpus.options import LongTexts
from headwater.errors import CorpusError

INCOMPLETE = "\ufffd"
"""What tokenizers decode the first bytes of a character to."""
ROWS = "headwater_embedding_rows"
"""Attribute of a tokenizer: the rows of its model's embedding if it has more tokens than these, else None."""


@dataclass(frozen=True)
class Tokenized:
    """The tokens of a text and where each ends in the text. The spans between the ends partition the text."""

    input_ids: list[int]
    ends: list[int]
    """Character position after each token. They never decrease; the last is the length of the text."""
    joined: Sequence[bool] = ()
    """Whether each token shares a character with the token before it, as the bytes of 🦊 do. Empty: not known."""

    def pieces(self, text: str) -> list[str]:
        """The text of each token. Joined, they are `text`. A character made of several tokens belongs to the first."""
        starts = [0, *self.ends[:-1]]
        return [text[start:end] for start, end in zip(starts, self.ends, strict=True)]

    def overlapping(self, spans: Sequence[tuple[int, int]]) -> list[bool]:
        """[T] whether each token covers characters of one of `spans`. Tokens that share a character go together."""
        starts = [0, *self.ends[:-1]]
        found = [
            any(begin < stop and end > start for start, stop in spans)
            for begin, end in zip(starts, self.ends, strict=True)
        ]
        for group in self._groups():
            if any(found[group.start : group.stop]):
                found[group.start : group.stop] = [True] * len(group)
        return found

    def window(self, start: int, stop: int, *, lead: Sequence[int] = ()) -> Tokenized:
        """The tokens from `start` to `stop` after those of `lead`, located in the text that they cover."""
        before = self.ends[start - 1] if start else 0
        ends = [end - before for end in self.ends[start:stop]]
        joined = [*([False] * len(lead)), False, *self.joined[start + 1 : stop]] if self.joined else ()
        return Tokenized([*lead, *self.input_ids[start:stop]], [0] * len(lead) + ends, joined)

    def _groups(self) -> Iterator[range]:
        """The runs of tokens that share characters."""
        start = 0
        for place in range(1, len(self.joined) + 1):
            if place == len(self.joined) or not self.joined[place]:
                if place - start > 1:
                    yield range(start, place)
                start = place


def limit_tokens(tokenizer: Any, rows: int) -> None:
    """Let `tokenize` refuse tokens that a model with an embedding of `rows` tokens cannot read."""
    beyond = max(tokenizer.get_vocab().values(), default=0) >= rows
    setattr(tokenizer, ROWS, rows if beyond else None)


def tokenize(
    tokenizer: Any, texts: Sequence[str], names: Sequence[str] = (), *, one_bos: bool = True
) -> list[Tokenized]:
    """Tokenise, with the special tokens that the tokenizer adds. An added beginning-of-text token covers no characters.

    With `one_bos`, a text that begins with the BOS word does not get a second BOS token: its one covers the word.
    Raises CorpusError, with the name of the text in `names`, for a token that the model's embedding lacks.
    """
    encoded = tokenizer(list(texts), return_offsets_mapping=True, return_attention_mask=False, verbose=False)
    rows = getattr(tokenizer, ROWS, None)
    if rows is not None:
        for number, ids in enumerate(encoded["input_ids"]):
            _check_rows(tokenizer, ids, rows, name=names[number] if names else "This text")
    bos = added_bos(tokenizer) if one_bos else None
    found: list[Tokenized] = []
    for text, ids, offsets in zip(texts, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        ends = _ends(offsets, len(text))
        more = 0 if bos is None else _repeats(ids, bos)
        found.append(Tokenized(list(ids[more:]), ends[more:], _joined(offsets)[more:]))
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


def _check_rows(tokenizer: Any, ids: Sequence[int], rows: int, *, name: str) -> None:
    beyond = next((each for each in ids if each >= rows), None)
    if beyond is not None:
        raise CorpusError(
            f"{name}: the token {tokenizer.decode([beyond])!r} has number {beyond:,}, and the model's embedding has "
            f"{rows:,} tokens only. The tokenizer is not that of the model: give the right one by --tokenizer."
        )


def _ends(offsets: Sequence[tuple[int, int]], length: int) -> list[int]:
    ends: list[int] = []
    reached = 0
    for _, end in offsets:
        reached = max(reached, int(end))
        ends.append(reached)
    if ends:
        ends[-1] = length
    return ends


def _joined(offsets: Sequence[tuple[int, int]]) -> list[bool]:
    """Whether each token begins before the end of those before it. A special token covers nothing and joins nothing."""
    joined: list[bool] = []
    reached = 0
    for start, end in offsets:
        joined.append(start < end and start < reached)
        reached = max(reached, int(end))
    return joined


def locate_generated(tokenizer: Any, text: str, prompt: Tokenized, *, generated: Sequence[int]) -> Tokenized:
    """The tokens of a prompt and of its continuation, located in `text` by decoding one token more each time.

    For tokens other than those that tokenising `text` gives. Special tokens cover no characters.
    """
    ids, ends, joined = list(prompt.input_ids), list(prompt.ends), list(prompt.joined or [False] * len(prompt.ends))
    before, length, whole = len(decode(tokenizer, ids)), prompt.ends[-1], True
    for token in generated:
        ids.append(token)
        decoded = decode(tokenizer, ids)
        begun = decoded.endswith(INCOMPLETE)
        reached = length + len(decoded.rstrip(INCOMPLETE)) + begun - before
        joined.append(not whole)
        ends.append(min(max(reached, ends[-1]), len(text)))
        whole = not begun
    ends[-1] = len(text)
    return Tokenized(ids, ends, joined)


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of tokens without special ones. It ends in INCOMPLETE where the last character lacks bytes."""
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


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
        window = tokenized.window(start, stop, lead=lead)
        yield text[first : first + window.ends[-1]], window
        if long_texts == "truncate":
            return
        start, stop = stop, min(stop + max_tokens - len(again), total)
