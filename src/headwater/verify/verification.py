"""A comparison of predicted and measured effects with its faces: a terminal, a page, a picture, JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from headwater.errors import HeadwaterError
from headwater.files import replacing
from headwater.influence.comparison import Comparison
from headwater.render.comparison import comparison_html, render_comparison
from headwater.render.scatter import scatter_svg


@dataclass(frozen=True)
class Verification(Comparison):
    """A comparison with its faces."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_json(self, indent: int | None = 2) -> str:
        """As JSON in plain ASCII. Raises HeadwaterError where a number is infinite or NaN."""
        try:
            return json.dumps(self.to_dict(), indent=indent, allow_nan=False)
        except ValueError as error:
            raise HeadwaterError(
                "This verification holds a number that is infinite or NaN, which JSON cannot carry: the model "
                "overflows, or the damping is too small (raise it)."
            ) from error

    def save_html(self, path: str | Path) -> Path:
        """Write the scatter plot and its table as one self-contained page, whole or not at all."""
        return _save(comparison_html(self), path)

    def save_svg(self, path: str | Path) -> Path:
        """Write the scatter plot alone, as a picture that follows the reader's light or dark theme."""
        return _save(scatter_svg(self), path)

    def _repr_html_(self) -> str:
        return scatter_svg(self)

    def __rich__(self) -> RenderableType:
        return render_comparison(self)


def _save(text: str, path: str | Path) -> Path:
    path = Path(path)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path
