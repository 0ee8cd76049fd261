"""Files that are written completely or not at all, and that are checked when they are read."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from xxhash import xxh3_128

from headwater.errors import HeadwaterError

CHECKSUM = "checksum"
"""Key of the checksum in the metadata."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A `.part` path to write to. It is renamed to `path` if the block succeeds, and deleted if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write a text file, completely or not at all. Returns the path."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def is_disk_full(error: BaseException) -> bool:
    """Whether an error of the system or of a library means that the disk is full."""
    full = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    named = any(f"os error {number}" in str(error) or os.strerror(number) in str(error) for number in full)
    if named or (isinstance(error, OSError) and error.errno in full):
        return True
    return error.__cause__ is not None and is_disk_full(error.__cause__)


def finite_json(value: Any, what: str, indent: int | None = None) -> str:
    """`value` as JSON in plain ASCII. Raises HeadwaterError, which names `what`, if a number is infinite or NaN."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError as error:
        raise HeadwaterError(
            f"{what} holds a number that is infinite or NaN, which JSON cannot represent. Either the model overflows: "
            "use --dtype fp32. Or the damping is too small: set a larger --damping."
        ) from error


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, completely or not at all.

    The metadata, with a checksum of the tensors, is one JSON text under one key. With several keys, safetensors would
    write them in random order, and equal contents would not be equal bytes.
    """
    with replacing(path) as part:
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        written = {**metadata, CHECKSUM: _checksum(contiguous)}
        save_file(contiguous, part, metadata={"headwater": json.dumps(written, sort_keys=True)})


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file. Raises HeadwaterError if it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return _metadata(file)
    except Exception as error:
        raise _damaged(path, error) from error


def _metadata(file: Any) -> dict[str, str]:
    return json.loads((file.metadata() or {}).get("headwater", "{}"))


def load_tensors(path: Path, device: str = "cpu") -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises HeadwaterError if it is damaged, even in a single bit."""
    try:
        with safe_open(path, framework="pt") as file:
            written = _metadata(file).get(CHECKSUM)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise _damaged(path, error) from error
    if written is not None and _checksum(tensors) != written:
        raise _damaged(path, "its contents are not those that were written")
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """A checksum against accidental damage. It does not protect against attacks."""
    digest = xxh3_128()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _damaged(path: Path, error: object) -> HeadwaterError:
    return HeadwaterError(f"{path} cannot be read ({error}). Delete it and run the same command again.")
