"""Run the notebooks of docs/guides in one kernel, and keep only outputs that are the same in every run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nbformat
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

GUIDES = Path(__file__).parents[1] / "docs" / "guides"
TIMEOUT = 280
"""Longest time of a cell in seconds."""
QUIET = {"TQDM_DISABLE": "1", "HEADWATER_PROGRESS": "0", "TRANSFORMERS_VERBOSITY": "error", "NO_COLOR": "1"}
"""Environment variables that keep progress bars and colours out of the outputs."""


def notebooks() -> list[Path]:
    return sorted(GUIDES.glob("*.ipynb"))


@contextmanager
def kernel(folder: Path) -> Iterator[KernelManager]:
    """A kernel whose working directory is `folder`, so that notebooks share the runs that they make.

    All notebooks share the kernel, because loading torch and transformers takes longer than most of them.
    """
    manager = KernelManager(kernel_name="python3", transport="ipc", ip=str(folder / "kernel"))
    with patch.dict(os.environ, {**QUIET, "IPYTHONDIR": str(folder / "ipython")}):
        manager.start_kernel(cwd=str(folder))
    try:
        yield manager
    finally:
        manager.shutdown_kernel(now=True)


def execute(path: Path, manager: KernelManager, folder: Path) -> Any:
    """Run the notebook and return it with its new outputs. Raises CellExecutionError if a cell fails."""
    notebook: Any = nbformat.read(path, as_version=4)
    forget = nbformat.v4.new_code_cell("%reset -f")
    cells = notebook.cells
    notebook.cells = [forget, *cells]
    NotebookClient(notebook, km=manager, timeout=TIMEOUT, coalesce_streams=True).execute()
    notebook.cells = cells
    for cell in cells:
        tidy(cell, folder)
    kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {
        "kernelspec": kernelspec,
        "language_info": {"name": "python"},
        "headwater": fingerprint(notebook),
    }
    return notebook


def tidy(cell: Any, folder: Path) -> None:
    """Remove what differs between runs: execution counts, library messages and the path of `folder`."""
    cell.metadata = {}
    if cell.cell_type != "code":
        return
    cell.execution_count = None
    # Library messages about the machine.
    cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    for output in cell.outputs:
        if "execution_count" in output:
            output.execution_count = None
            output.metadata = {}
        data = output.get("data", {})
        if len(data) > 1:
            data.pop("text/plain", None)  # repeats the richer output
        for kind, text in data.items():
            data[kind] = text.replace(f"{folder}/", "")
        if "text" in output:
            output.text = output.text.replace(f"{folder}/", "")


def fingerprint(notebook: Any) -> str:
    """A hash of the code cells, to detect that stored outputs are from older code."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()[:16]
