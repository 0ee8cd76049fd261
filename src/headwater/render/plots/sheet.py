"""What all pictures share: a title, a sentence that says what they show, the colours, and reproducible files.

matplotlib is imported when a picture is drawn: the numbers are available without it.
"""

from __future__ import annotations

import textwrap
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

from headwater.base.files import replacing
from headwater.errors import HeadwaterError
from headwater.render.palette import PALETTES, blend

FORMATS = (".svg", ".png", ".pdf")
LIGHT = PALETTES["light"]
QUIET = blend(LIGHT.background, LIGHT.ink, 0.66)
"""Colour of the sentence, of labels and of lines of reference."""
LINE = blend(LIGHT.background, LIGHT.ink, 0.14)
"""Colour of grids."""
TITLE, TEXT, SMALL = 12.0, 9.0, 8.0
"""Font sizes, in points."""
LINE_HEIGHT = 0.19
"""Height of a line of the sentence, in inches."""
LETTERS = 14.2
"""Letters of the sentence per inch."""
STYLE: dict[str, Any] = {
    "svg.hashsalt": "headwater",
    "font.family": "DejaVu Sans",  # comes with matplotlib, so a picture is the same everywhere
    "font.size": TEXT,
    "text.parse_math": False,  # a $ in a corpus is a dollar
    "text.color": LIGHT.ink,
    "axes.labelcolor": LIGHT.ink,
    "axes.edgecolor": QUIET,
    "axes.titlesize": TEXT,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": LIGHT.ink,
    "ytick.labelcolor": LIGHT.ink,
    "legend.frameon": False,
    "savefig.dpi": 160,
    "figure.dpi": 110,
}
UNDATED: dict[str, dict[str, None]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}
"""Metadata that is left out, so that the same numbers give the same bytes."""


class Picture(ABC):
    """Numbers that can be drawn: `figure()` is a matplotlib Figure, `meaning` says what it shows."""

    @property
    @abstractmethod
    def meaning(self) -> str:
        """One or two sentences, which are also in the picture."""

    @abstractmethod
    def _drawn(self) -> Any:
        """The Figure; called while STYLE applies."""

    def figure(self) -> Any:
        """A new matplotlib Figure. Raises HeadwaterError where matplotlib is not installed."""
        with style():
            return self._drawn()

    def save(self, path: str | Path) -> Path:
        """Write an SVG, PNG or PDF, whole or not at all. The same numbers give the same bytes.

        Raises HeadwaterError for another ending, or where matplotlib is not installed.
        """
        path = picture_path(path)
        return save_figure(self.figure(), path)

    def _repr_svg_(self) -> str:
        with style():
            text = StringIO()
            self._drawn().savefig(text, format="svg", metadata=UNDATED[".svg"])
            return text.getvalue()


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def require_matplotlib() -> None:
    """Raises HeadwaterError where matplotlib is not installed."""
    if not can_draw():
        raise HeadwaterError(
            'Pictures need matplotlib, which is not installed. Install it: pip install "headwater[plots]"'
        )


def picture_path(path: str | Path) -> Path:
    """`path`, whose ending is the format. Raises HeadwaterError for a format that cannot be written."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise HeadwaterError(f"{path}: the name of a picture has to end in {', '.join(FORMATS)}.")
    return path


@contextmanager
def style() -> Iterator[None]:
    """Apply STYLE while a figure is made or written. Letters that the font lacks are drawn as boxes."""
    require_matplotlib()
    from matplotlib import rc_context

    settings: Any = STYLE
    with rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def save_figure(figure: Any, path: Path) -> Path:
    """Write a figure in the format of the path's ending."""
    ending = path.suffix.lower()
    with style(), replacing(path) as part:
        figure.savefig(part, format=ending[1:], metadata=UNDATED[ending])
    return path


def sheet(title: str, meaning: str, width: float = 7.2, *, height: float = 4.0) -> Any:
    """A Figure with its title and sentence at the top, and `height` inches for the axes below them."""
    from matplotlib.figure import Figure

    titles = textwrap.wrap(title, int(width * LETTERS * TEXT / TITLE * 0.93)) or [""]
    lines = textwrap.wrap(meaning, int(width * LETTERS))
    head = 0.12 + 0.24 * len(titles) + LINE_HEIGHT * len(lines) + 0.1
    whole = height + head
    figure: Any = Figure(figsize=(width, whole), layout="constrained", facecolor=LIGHT.background)
    figure.get_layout_engine().set(rect=(0, 0, 1, height / whole))
    top = 1 - 0.1 / whole
    figure.text(0.1 / width, top, "\n".join(titles), va="top", fontsize=TITLE, fontweight="bold")
    below = top - (0.24 * len(titles) + 0.03) / whole
    figure.text(0.1 / width, below, "\n".join(lines), va="top", color=QUIET, linespacing=1.35)
    return figure


def numbered(axis: Any) -> None:
    """Ticks of a logarithmic axis written out: 1, 10, 1,000, 0.01."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axis.set_minor_formatter(NullFormatter())


def plain(value: float) -> str:
    """A number as the label of a tick: "1,000", "0.01", or "10⁻⁵" where that would be long."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return f"{value:,.10g}".replace("-", "−")
    base, _, power = f"{value:e}".partition("e")
    mantissa = f"{float(base):g}".replace("-", "−")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if mantissa == "1" else f"{mantissa} × 10{raised}"
