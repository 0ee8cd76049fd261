"""What Headwater changes in a process: nothing when it is imported, and what `configure_process` says when asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from headwater.base.process import KEPT_BYTES, M_MMAP_MAX, M_TRIM_THRESHOLD, WAITING

WATCHED = """
import ctypes, json, os, sys

calls = []
real = ctypes.CDLL

class Library:
    def __init__(self, name, *args, **kwargs):
        self.library = real(name, *args, **kwargs)

    def __getattr__(self, name):
        if name == "mallopt":
            return lambda *given: calls.append((given, "torch" in sys.modules)) or 1
        return getattr(self.library, name)

ctypes.CDLL = Library
before = dict(os.environ)
{program}
changed = {{name: value for name, value in os.environ.items() if before.get(name) != value}}
print(json.dumps([changed, sorted(before.keys() - os.environ.keys()), calls]))
"""
"""Runs a program and prints which variables it set, which it deleted, and how it called mallopt."""
MALLOPT = [[[M_MMAP_MAX, 0], False], [[M_TRIM_THRESHOLD, KEPT_BYTES], False]]
"""Both calls, before torch was imported."""
linux = pytest.mark.skipif(sys.platform != "linux", reason="only glibc has mallopt")


def watched(program: str, **variables: str) -> tuple[dict[str, str], list[str], list[object]]:
    environment = {name: value for name, value in os.environ.items() if name not in WAITING} | variables
    done = subprocess.run(
        [sys.executable, "-c", WATCHED.format(program=program)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    changed, deleted, calls = json.loads(done.stdout.splitlines()[-1])
    return changed, deleted, calls


def test_importing_headwater_changes_neither_the_environment_nor_the_allocator() -> None:
    changed, deleted, calls = watched("import headwater\nheadwater.HeadwaterError\nimport headwater.cli")
    assert (changed, deleted, calls) == ({}, [], [])


@linux
def test_it_is_configured_on_request() -> None:
    changed, deleted, calls = watched("import headwater\nheadwater.configure_process()")
    assert (changed, deleted, calls) == (WAITING, [], MALLOPT)


@linux
def test_what_is_set_already_stays() -> None:
    changed, _, calls = watched(
        "import headwater\nheadwater.configure_process()", OMP_WAIT_POLICY="ACTIVE", HEADWATER_MALLOC="system"
    )
    assert changed == {"GOMP_SPINCOUNT": WAITING["GOMP_SPINCOUNT"]}
    assert calls == []


@linux
@pytest.mark.parametrize("arguments", [["--version"], ["info", "no-such-run"]])
def test_the_command_line_configures_its_process_before_torch_is_imported(arguments: list[str]) -> None:
    program = f"""
from headwater.cli import main
sys.argv = ["headwater", *{arguments!r}]
try:
    main()
except SystemExit:
    pass
"""
    changed, _, calls = watched(program)
    assert changed.items() >= WAITING.items()
    assert calls == MALLOPT


@linux
def test_a_worker_of_a_cluster_configures_its_process_before_torch_is_imported() -> None:
    program = """
from headwater.sweep import ray_worker
ray_worker.send_tensors_as_arrays = lambda *_: None  # no cluster is joined here
ray_worker.Worker(1)
"""
    changed, _, calls = watched(program)
    assert changed == WAITING
    assert calls == MALLOPT
