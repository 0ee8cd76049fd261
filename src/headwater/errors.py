"""Errors and warnings for users. Each message says what is wrong, where, and how to fix it."""

from __future__ import annotations


class HeadwaterError(ValueError):
    """A mistake in the input or the environment."""


class CorpusError(HeadwaterError):
    """A corpus, or one of its records, cannot be read. The message names the file and line."""


class ModelError(HeadwaterError):
    """A model or tokenizer cannot be loaded, or is of a kind that Headwater does not support."""


class FingerprintMismatch(HeadwaterError):
    """A file was made from another model, tokenizer or corpus. The message shows both fingerprints."""

    def __init__(self, what: str, expected: str, found: str, *, fix: str) -> None:
        self.what, self.expected, self.found = what, expected, found
        super().__init__(f"{what} does not match: expected {expected}, found {found}. {fix}")


class HeadwaterWarning(UserWarning):
    """Something that users should know, which does not stop the work."""


def first_line(error: BaseException) -> str:
    """The first line of another library's error message, without its full stop."""
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line.rstrip(" .")
