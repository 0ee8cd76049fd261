"""What benchmarks write into the pages of docs: a text between two marks, and on which processor it was measured."""

from __future__ import annotations

import platform
import re
from pathlib import Path


def put_between(page: Path, begin: str, end: str, text: str) -> None:
    """Put `text` in place of what lies between two marks of a page."""
    pattern = re.compile(re.escape(begin) + ".*" + re.escape(end), re.DOTALL)
    whole = page.read_text(encoding="utf-8")
    page.write_text(pattern.sub(lambda _: f"{begin}\n{text}\n{end}", whole), encoding="utf-8")


def processor() -> str:
    """Its name, where the system tells one."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{platform.machine()} ({names[0]})" if names else platform.machine()
