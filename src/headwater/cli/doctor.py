"""`headwater doctor`: check the installation, and try a fit, an index and a question."""

from __future__ import annotations

import json as as_json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from headwater.base import logs
from headwater.base.byte_sizes import in_bytes
from headwater.base.plugins import Plugin
from headwater.cli import app
from headwater.cli.examples import examples

if TYPE_CHECKING:
    from headwater.doctor.machine import Machine
    from headwater.doctor.trial import TrialResult


@app.command(epilog=examples("headwater doctor", "headwater doctor --json > doctor.json"))
def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Show versions, devices, memory and plugins, and try a fit, an index and a question on a minute world.

    Exits with code 1 if something is broken. Paste its output into a bug report: it names no files and no people.
    """
    from headwater.base.plugins import plugins
    from headwater.doctor.machine import machine
    from headwater.doctor.trial import trials

    here, installed = machine(), plugins()
    if not json:
        _show(here, installed)
    found: list[TrialResult] = []
    for finding in trials():
        found.append(finding)
        if not json:
            _line("pass" if finding.passed else "FAIL", f"{finding.what}: {finding.said}")
    broken = [plugin for plugin in installed if plugin.trouble] or [one for one in found if not one.passed]
    if json:
        facts = {"machine": asdict(here), "plugins": [*map(asdict, installed)], "trials": [*map(asdict, found)]}
        typer.echo(as_json.dumps({**facts, "in_order": not broken}, indent=2, ensure_ascii=False))
    if broken:
        logs.tell("Something is broken.", "broken", logs.ERROR)
        raise typer.Exit(1)
    if not json:
        typer.echo("Everything works.")


def _show(here: Machine, installed: list[Plugin]) -> None:
    _line("headwater", here.headwater)
    _line("python", f"{here.python}, {here.system}")
    _line("packages", ", ".join(f"{name} {version or 'MISSING'}" for name, version in here.packages.items()))
    for extra in here.extras:
        how = f"not installed (pip install 'headwater[{extra.name}]')" if extra.missing else "installed"
        _line(f"[{extra.name}]", f"{how}: {extra.enables}")
    threads = f"{here.threads} torch threads, OMP_NUM_THREADS {here.omp_num_threads or 'not set'}, {here.blas}"
    _line("CPU", f"{here.cores} cores, {threads}")
    for gpu in here.gpus:
        memory = f"{in_bytes(gpu.memory)}, {in_bytes(gpu.free)} free"
        _line("GPU", f"{gpu.name}, {memory}, {'bf16' if gpu.bf16 else 'no bf16'}, CUDA {here.cuda}")
    if not here.gpus:
        _line("GPU", f"none that torch can use (built for {f'CUDA {here.cuda}' if here.cuda else 'CPU only'})")
    _line("memory", f"{in_bytes(here.memory)}, {in_bytes(here.memory_free)} free")
    _line("disk", f"{in_bytes(here.disk_free)} free here, {in_bytes(here.temporary_free)} for temporary files")
    for plugin in installed:
        state = plugin.trouble or "works"
        _line("plugin", f"{plugin.group} {plugin.name}, of {plugin.package} {plugin.version}: {state}")
    if not installed:
        _line("plugins", "none")


def _line(name: str, text: str) -> None:
    typer.echo(f"{name:<11}{text}")
