"""The command line as a whole: its help, its examples, what shells complete, and how it says what it says."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.text import Text
from typer.testing import CliRunner

from headwater.base import logs
from headwater.base.progress import Step
from headwater.cli import app
from headwater.cli.evaluate import METHODS
from headwater.cli.examples import TITLE
from headwater.doctor.machine import EXTRAS
from headwater.errors import HeadwaterError, HeadwaterWarning
from headwater.evaluate.methods import method_names

ROOT = Path(__file__).parents[1]


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands, and groups of commands, with what is typed for each."""
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Logging and warnings go on afterwards as they did before."""
    root, shown, level = logging.getLogger(), warnings.showwarning, logs.LOG.level
    handlers = [handler for handler in root.handlers if not isinstance(handler, logs._Handler)]
    root.handlers[:] = handlers
    yield
    root.handlers[:] = handlers
    root.setLevel(logging.WARNING)
    logs.LOG.setLevel(level)
    warnings.showwarning = shown


# -- help


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_examples_that_it_would_take(path: tuple[str, ...]) -> None:
    title, *lines = Text.from_markup(COMMANDS[path].epilog or "").plain.split("\n")
    assert title == TITLE
    assert lines
    for line in lines:
        words = shlex.split(line)
        while "=" in words[0]:  # a variable of the environment
            words = words[1:]
        words = words[: next((k for k, word in enumerate(words) if word in (">", "2>")), None)]
        assert words[0] == "headwater"
        parse(words[1:])


def parse(words: list[str]) -> None:
    """As the command line does, but for running the command. Raises click's UsageError for what it would not take."""
    command, context = COMMANDS[()], None
    while hasattr(command, "commands"):
        context = command.make_context("headwater", list(words), parent=context)
        words = [*context._protected_args, *context.args]
        command, words = command.commands[words[0]], words[1:]
    command.make_context("headwater", list(words), parent=context)


def test_an_option_that_is_no_longer_there_would_be_noticed() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse(shlex.split("index runs/stories --bites 4"))


def test_neither_help_nor_completion_loads_what_is_slow_to_load() -> None:
    program = (
        "import sys\nfrom typer.testing import CliRunner\nfrom headwater.cli import app\n"
        "from headwater.cli.evaluate import _methods\nfrom headwater.cli.complete import complete_run\n"
        "for words in (['--help'], ['fit', '--help'], ['cloud', 'fit', '--help'], ['--version']):\n"
        "    assert CliRunner().invoke(app, words).exit_code == 0\n"
        "_methods(), complete_run('')\n"
        "print(*{'torch', 'transformers', 'numpy', 'pyarrow', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_module_is_the_program() -> None:
    done = subprocess.run([sys.executable, "-m", "headwater", "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"headwater \d+\.\d+\.\d+\S*\n", done.stdout)
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited is not None
    assert done.stdout.split()[1] == cited[1]


def test_what_the_help_says_without_loading_it_is_what_there_is() -> None:
    assert sorted(METHODS) == sorted(method_names())


# -- completion


def completed(words: str, folder: Path) -> list[str]:
    """What bash is offered at the end of `words`."""
    asked = {"_HEADWATER_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    program = "import sys; sys.argv[0] = 'headwater'; from headwater.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | asked, cwd=folder, capture_output=True, text=True, check=False
    )
    return done.stdout.split()


def test_shells_complete_commands_runs_and_kinds(tmp_path: Path) -> None:
    for run in ("runs/demo", "runs/stories", "alone", "runs/stories/deep/too"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "manifest.json").touch()
    (tmp_path / "runs" / "rubbish").mkdir()
    assert completed("headwater es", tmp_path) == ["estimate"]
    assert completed("headwater ask ", tmp_path) == ["alone", "runs/demo", "runs/stories"]
    assert completed("headwater ask runs/s", tmp_path) == ["runs/stories"]
    assert completed(f"headwater info {tmp_path}/al", tmp_path) == [f"{tmp_path}/alone"]
    assert completed("headwater fit runs/new --curvature e", tmp_path) == ["ekfac", "exact"]
    assert completed("headwater evaluate runs/demo --method s", tmp_path) == ["sketch", "source"]
    assert completed("headwater evaluate runs/demo --metric t", tmp_path) == ["trace", "tail-patch"]
    assert completed("headwater ask runs/demo p c --solver c", tmp_path) == ["curvature", "cg"]


# -- how things are said


def headwater(*arguments: str) -> tuple[str, str]:
    """What goes to standard output, and what to standard error."""
    done = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout, done.stderr


def test_what_is_said_beside_results_can_be_left_out(tmp_path: Path) -> None:
    arguments = ("world", "--stories", "200", "-o", str(tmp_path / "world.jsonl"))
    assert headwater(*arguments)[1].startswith("Wrote 200 stories")
    assert headwater("--quiet", *arguments) == ("", "")


def test_as_json_every_line_is_an_object_with_time_level_and_event(tmp_path: Path) -> None:
    out, err = headwater("--log", "json", "world", "--stories", "200", "-o", str(tmp_path / "world.jsonl"))
    (line,) = map(json.loads, err.splitlines())
    assert out == ""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line.pop("time"))
    assert line.pop("message").startswith("Wrote 200 stories")
    assert line == {"level": "info", "logger": "headwater", "event": "message"}


def test_an_error_is_an_object_too_and_is_said_to_the_quiet(tmp_path: Path) -> None:
    for options, read in (
        (["--log", "json"], lambda text: json.loads(text)["message"]),
        (["--quiet"], lambda text: text.removeprefix("error ")),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "headwater", *options, "info", str(tmp_path / "none")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert read(done.stderr.strip()).startswith(f"{tmp_path}/none is not a Headwater run")


def test_the_progress_of_a_stage_is_told_first_last_and_once_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(logs.Manner("json"))
    times = iter([0.0, 0.4, 0.9, 1.1, 1.5, 2.0])
    report = logs.progress(lambda: next(times))
    for done in range(6):
        report(Step(stage="scores", done=done * 10, total=50, tokens=100 if done else 0))
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["done"], line.get("tokens"), line.get("tokens_per_second")) for line in found] == [
        (0, None, None),
        (30, 300, round(300 / 1.1)),
        (50, 500, 250),
    ]
    assert all((line["event"], line["stage"], line["total"]) == ("progress", "scores", 50) for line in found)


def test_warnings_are_ours_or_kept_out(capsys: pytest.CaptureFixture[str]) -> None:
    """What other libraries say is heard where it is an error, or where one wants to hear it."""
    for manner, heard in (
        (logs.Manner(), ["ours", "broken"]),
        (logs.Manner(verbose=True), ["ours", "theirs", "chatter", "broken"]),
        (logs.Manner(quiet=True), ["broken"]),
    ):
        logs.set_up(manner)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = logs._warned
            warnings.warn("ours", HeadwaterWarning, stacklevel=1)
            warnings.warn("theirs", UserWarning, stacklevel=1)
        logging.getLogger("httpx").info("chatter")
        logging.getLogger("httpx").error("broken")
        assert [line.split(" ")[-1] for line in capsys.readouterr().err.splitlines()] == heard


def test_an_application_that_logs_for_itself_gets_our_records(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "headwater"):
        logs.set_up_by_default()
        logs.tell("half done", "progress", stage="scores", done=5)
    (record,) = caplog.records
    assert (record.name, record.getMessage()) == ("headwater", "half done")
    assert getattr(record, "event", None) == "progress"
    assert getattr(record, "fields", None) == {"stage": "scores", "done": 5}
    assert not any(isinstance(handler, logs._Handler) for handler in logging.getLogger().handlers)


# -- doctor


def test_doctor_tries_everything_out_and_says_so_as_json_and_in_words() -> None:
    out, _ = headwater("doctor", "--json")
    told = json.loads(out)
    assert told["in_order"]
    assert told["machine"]["packages"]["torch"]
    assert len(told["trials"]) == 5
    assert all(trial["passed"] for trial in told["trials"])


def test_doctor_finds_what_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index whose tables are off, and a curvature whose tokens no longer sum to their example."""
    from headwater.attribution.index.planes import Planes
    from headwater.doctor import trial

    turned = Planes.table
    monkeypatch.setattr(Planes, "table", lambda self, whitened: 1 / 0 * turned(self, whitened))
    sums = trial._tokens

    def doubled(world: Any) -> str:
        """Every example is said to have twice its influence."""
        shown = [replace(one, influence=2 * one.influence) for one in world.exact.proponents]
        world.__dict__["exact"], kept = replace(world.exact, proponents=shown), world.exact
        try:
            return sums(world)
        finally:
            world.__dict__["exact"] = kept

    monkeypatch.setitem(trial.TRIALS, "tokens sum to their example", doubled)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "FAIL       the index agrees with exact scores: ZeroDivisionError" in done.stdout
    assert re.search(r"FAIL       tokens sum to their example: they are off by [\d.e+-]+ of", done.stdout)
    assert "pass       a reopened run gives the same scores" in done.stdout
    assert "Something is broken." in done.stderr


def test_doctor_compares_a_device_with_another_by_doing_all_of_it_there(tmp_path: Path) -> None:
    """Here with the processor itself, and with one that counts its gradients twice."""
    from headwater.doctor import trial

    world = trial._World(tmp_path)
    world.make()
    assert trial.agrees(world, "cpu")
    world.__dict__["exact"] = replace(
        world.exact, proponents=[replace(one, influence=1.05 * one.influence) for one in world.exact.proponents]
    )
    shutil.rmtree(tmp_path / "on-cpu")
    with pytest.raises(HeadwaterError, match=r"off by 0\.05 of the largest"):
        trial.agrees(world, "cpu")


def test_doctor_knows_every_extra_and_what_it_is_made_of() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for ours in ("dev", "bench", "runpod"):  # for developers, and for the image of a worker
        del extras[ours]
    named = {name: tuple(re.split(r"[>=\[]", wanted)[0] for wanted in packages) for name, packages in extras.items()}
    assert named == {name: packages for name, (packages, _) in EXTRAS.items()}
