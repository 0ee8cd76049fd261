"""A comparison of predicted and measured effects with its faces: a terminal, a page, a picture, JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich.console import RenderableType

from headwater.attribution.answer import first_mistake
from headwater.base.files import finite_json, write_text
from headwater.errors import HeadwaterError
from headwater.render.comparison import comparison_html, render_comparison
from headwater.render.scatter import scatter_svg
from headwater.verify.comparison import Comparison


@dataclass(frozen=True, kw_only=True)
class Verification(Comparison):
    """A comparison with its faces."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_json(self, indent: int | None = 2) -> str:
        """As JSON in plain ASCII. Raises HeadwaterError where a number is infinite or NaN."""
        return finite_json(self.to_dict(), "This verification", indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> Verification:
        """The verification that `to_json` wrote. Raises HeadwaterError, naming the place, where it is not one."""
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            raise HeadwaterError(f"This is not a verification of Headwater: {first_mistake(error)}.") from error

    def save_html(self, path: str | Path) -> Path:
        """Write the scatter plot and its table as one self-contained page, whole or not at all."""
        return write_text(Path(path), comparison_html(self))

    def save_svg(self, path: str | Path) -> Path:
        """Write the scatter plot alone, as a picture that follows the reader's light or dark theme."""
        return write_text(Path(path), scatter_svg(self))

    def _repr_html_(self) -> str:
        return scatter_svg(self)

    def __rich__(self) -> RenderableType:
        return render_comparison(self)
