"""Open text files that may be compressed, and name what is in a file whose content is not what its name says."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

from headwater.corpus.rows import CHUNK
from headwater.errors import CorpusError

COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
"""Suffixes of compressed text files."""
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What reading a file raises that is absent, protected, damaged or cut off."""
MAGIC = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst", b"BZh": ".bz2", b"\xfd7zXZ\x00": ".xz"}
"""First bytes of compressed files."""
OTHERS = {
    b"PAR1": "is a Parquet file: give its name the suffix .parquet",
    b"ARROW1": "is an Arrow file: give its name the suffix .arrow",
    b"PK\x03\x04": "is a zip archive (or an Office file): unpack it, and give its files",
    b"version https://git-lfs": "is a Git LFS pointer, not the data itself: fetch the data with `git lfs pull`",
}
"""First bytes of other files, and what to do with them."""


def compression_of(head: bytes) -> str | None:
    """The suffix of the compression that a file's first bytes show. None if they show none."""
    return next((suffix for magic, suffix in MAGIC.items() if head.startswith(magic)), None)


def open_text(path: Path) -> BufferedReader:
    """The bytes of a text file, decompressed as its suffix says. Raises an error of DAMAGE."""
    suffix = path.suffix.lower()
    if suffix in COMPRESSED:
        return decompressed(path, suffix)
    return cast(BufferedReader, path.open("rb", buffering=CHUNK))


def decompressed(source: Path | IO[bytes], suffix: str) -> BufferedReader:
    """The decompressed bytes of a file or an open file. Several streams one after the other are read as one."""
    if suffix == ".zst":
        packed = pa.OSFile(str(source)) if isinstance(source, Path) else pa.PythonFile(source, mode="r")
        return BufferedReader(pa.CompressedInputStream(packed, "zstd"), CHUNK)
    openers: dict[str, Callable[[Any, str], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    return cast(BufferedReader, openers[suffix](source, "rb"))


def check_content(head: bytes, name: str) -> None:
    """Raises CorpusError, with the way out, if `head`, the first bytes of a text file, are not those of UTF-8 text."""
    if packed := compression_of(head):
        raise CorpusError(f"{name} is compressed, but its name does not say so: add the suffix {packed} to its name.")
    for magic, said in OTHERS.items():
        if head.startswith(magic):
            raise CorpusError(f"{name} {said}.")
    if encoding := wide_encoding(head):
        raise CorpusError(
            f"{name} is {encoding}, and texts are read as UTF-8. Convert it: iconv -f {encoding} -t UTF-8 OLD > NEW"
        )


def wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32 if the first bytes of a text show it: by a byte order mark, or by a zero beside every letter."""
    if head.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return "UTF-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    first = head[:16]
    for zeros, letters, name in ((first[1::2], first[::2], "UTF-16LE"), (first[::2], first[1::2], "UTF-16BE")):
        if len(first) >= 8 and not any(zeros) and all(letters):
            return name
    return None
