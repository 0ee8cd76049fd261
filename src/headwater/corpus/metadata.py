"""Values of an example's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

Scalar = str | int | float | bool | None


def kinds_of(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The type of each value, as it is read back from the corpus: a number that is not finite is read as None."""
    missing = {name for name, value in metadata.items() if isinstance(value, float) and not isfinite(value)}
    return {name: "NoneType" if name in missing else type(value).__name__ for name, value in metadata.items()}
