"""Helpers for results in docs: replace the text between two marks, and name the CPU."""

from __future__ import annotations

import platform
import re
from pathlib import Path


def put_between(page: Path, begin: str, end: str, text: str) -> None:
    """Replace the text between two marks of a page."""
    pattern = re.compile(re.escape(begin) + ".*" + re.escape(end), re.DOTALL)
    whole = page.read_text(encoding="utf-8")
    page.write_text(pattern.sub(lambda _: f"{begin}\n{text}\n{end}", whole), encoding="utf-8")


def processor() -> str:
    """Architecture and name of the CPU, if the system has one."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{platform.machine()} ({names[0]})" if names else platform.machine()
