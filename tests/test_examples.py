"""The notebooks of the guides and the script of examples/ run; what is committed of them is what they made."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from scripts.notebooks import execute, fingerprint, kernel, notebooks

ROOT = Path(__file__).parents[1]
NAMES = [path.stem for path in notebooks()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of them work, so that the tiny world is built once."""
    return tmp_path_factory.mktemp("examples").resolve()


@pytest.fixture(scope="module")
def manager(folder: Path) -> Iterator[KernelManager]:
    with kernel(folder) as started:
        yield started


def read(name: str) -> Any:
    return nbformat.read(ROOT / "docs" / "guides" / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_says_as_much_as_is_committed(name: str, manager: KernelManager, folder: Path) -> None:
    made = execute(ROOT / "docs" / "guides" / f"{name}.ipynb", manager, folder)
    kinds = [[output.output_type for output in cell.get("outputs", [])] for cell in made.cells]
    assert kinds == [[output.output_type for output in cell.get("outputs", [])] for cell in read(name).cells]


@pytest.mark.parametrize("name", NAMES)
def test_committed_outputs_are_of_this_code_hold_no_error_and_name_no_folder_of_a_machine(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    assert notebook.metadata.headwater == fingerprint(notebook), "its code has changed since it was run: make notebooks"
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs
    for output in outputs:
        assert output.output_type != "error"
        assert output.get("name") != "stderr"
        text = str(output.get("text", "")) + str(output.get("data", {}).get("text/html", ""))
        assert "/tmp" not in text
        assert str(Path.home()) not in text


def test_thirty_lines_go_from_text_to_a_verified_answer(folder: Path) -> None:
    script = ROOT / "examples" / "thirty_lines.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 30
    environment = os.environ | {"COLUMNS": "100"}
    done = subprocess.run([sys.executable, script], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Raised its likelihood" in done.stdout
    assert "measured changes: 1.00" in " ".join(done.stdout.split())
