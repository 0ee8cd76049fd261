"""Write docs/pictures/answer.svg, the README's picture, from an answer of `headwater demo`.

python scripts/write_picture.py runs/demo/answers/fears-tesko.json
"""

from __future__ import annotations

import io
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from headwater.attribution.answer import Answer
from headwater.render.palette import PALETTES, channels
from headwater.render.terminal import render_answer

TARGET = Path(__file__).parents[1] / "docs" / "pictures" / "answer.svg"
SHOWN = 2


def main(answer_file: Path) -> None:
    os.environ["HEADWATER_THEME"] = "light"
    answer = replace(Answer.from_json(answer_file.read_bytes()), model=str(answer_file.parents[1] / "model"))
    console = Console(record=True, width=104, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(render_answer(answer, show=SHOWN))
    paper, ink = channels(PALETTES["light"].background), channels(PALETTES["light"].ink)
    svg = console.export_svg(title="headwater ask", theme=TerminalTheme(paper, ink, [ink] * 8))
    # The exported style downloads a font. Any local monospaced font is good enough.
    svg = re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(svg, encoding="utf-8")
    print(f"Wrote {TARGET}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
