"""`python -m benchmarks.faults_ray`: kill workers and drivers of a Ray cluster at random points of fit, index and scan.

There are two workers. The results must be the same bytes as those of a single process. A summary is written to
docs/scaling.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tests.works import everything, new_run, write_sources

from benchmarks.page import processor, put_between

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
BEGIN, END = "<!-- faults: written by python -m benchmarks.faults_ray -->", "<!-- faults: end -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "sources").mkdir()
        sources = write_sources(path / "sources")
        expected = everything(new_run(sources, path / "here"))
        command = [
            sys.executable,
            "-m",
            "benchmarks.killed_ray",
            str(sources),
            folder,
            str(given.kills),
            str(given.seed),
        ]
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found, indent=2))
    different = [digests for digests in found["digests"] if digests != expected]
    put_between(PAGE, BEGIN, END, sentence(found, len(different)))
    if different:
        sys.exit(f"{len(different)} results differ from those of one process.")


def sentence(found: dict[str, Any], different: int) -> str:
    """The summary with date and machine."""
    killed, times = found["killed"], len(found["digests"])
    same = "the same bytes as one process each time" if not different else f"other bytes {different} times"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, {os.cpu_count()} cores, seed {found['seed']}. "
        f"{killed['worker']} workers and {killed['driver']} drivers were killed at random points\n"
        f"of fit, index and scan, in {found['attempts']} attempts of {found['seconds']:.0f} s in all. "
        f"The work finished {times} times, with {same}."
    )


if __name__ == "__main__":
    main()
