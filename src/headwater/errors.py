"""What goes wrong in a person's hands, said so that they can fix it."""

from __future__ import annotations


class HeadwaterError(ValueError):
    """A mistake in the input or the environment. The message says what is wrong, where, and how to fix it."""


class CorpusError(HeadwaterError):
    """A corpus, or one record of it, cannot be read. Names the file and line."""


class ModelError(HeadwaterError):
    """A model or tokenizer cannot be loaded, or has a shape that Headwater cannot attribute."""


class FingerprintMismatch(HeadwaterError):
    """An artefact was made from another model, tokenizer or corpus. Shows both fingerprints."""

    def __init__(self, what: str, expected: str, found: str, *, fix: str) -> None:
        self.what, self.expected, self.found = what, expected, found
        super().__init__(f"{what} does not match: expected {expected}, found {found}. {fix}")


class HeadwaterWarning(UserWarning):
    """Something the person should know but that does not stop the work."""


def first_line(error: BaseException) -> str:
    """What another program's error says first, without its stop; libraries go on for pages."""
    said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return said.rstrip(" .")
