"""Every option is declared once, and stands wherever options are shown: Python, command line, HTTP, page, docs."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from headwater.attribution.options import AskOptions, Sampling
from headwater.base.options import Option, all_options, changed, check, options_of
from headwater.cli import app
from headwater.cli.grouped import flags_of, given, with_groups
from headwater.corpus.options import CorpusOptions
from headwater.curvature.options import FitOptions
from headwater.errors import HeadwaterError
from headwater.lm.options import Loading
from headwater.plan.options import PaperOptions, PlanOptions
from headwater.serve import tasks
from headwater.serve.app import create_app
from headwater.serve.option_fields import default_of, http_options, limits_of, options_from
from headwater.serve.schemas import InfluencesBody, SamplingBody, VerificationsBody
from headwater.serve.settings import Settings
from headwater.verify.options import VerifyOptions

ROOT = Path(__file__).parents[1]
OPENAPI = create_app("runs/never-opened").openapi()["components"]["schemas"]
COMMANDS: Any = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
ON_THE_LINE = [
    ("ask", AskOptions),
    ("ask", Sampling),
    ("fit", FitOptions),
    ("fit", Loading),
    ("fit", CorpusOptions),
    ("verify", VerifyOptions),
    ("plan", PlanOptions),
    ("estimate", PaperOptions),
    ("serve", Settings),
]


def settings_of(command: str) -> dict[str, Any]:
    """The parameters of a command by each of their flags."""
    return {flag: one for one in COMMANDS[command].params for flag in (*one.opts, *one.secondary_opts)}


# -- one declaration, every surface


@pytest.mark.parametrize(("command", "options"), ON_THE_LINE)
def test_the_command_line_has_every_option_with_its_help_default_and_minimum(command: str, options: type) -> None:
    there = settings_of(command)
    for each in all_options(options):
        if not each.option.cli:
            continue
        for flag in (part for flags in flags_of(each) for part in flags.split("/")):
            assert each.option.help in there[flag].help
        one = there[flags_of(each)[0].split("/")[0]]
        if each.type in (int, float) and each.option.read is None:
            zero = each.option.zero_is_none
            assert one.min == (0 if zero else each.option.minimum)
            if each.option.cli_default is None and not one.required and each.default is not None:
                assert one.default == each.default / each.option.unit


@pytest.mark.parametrize(
    ("body", "options"),
    [("InfluencesBody", AskOptions), ("SamplingBody", Sampling), ("VerificationsBody", VerifyOptions)],
)
def test_the_http_schema_has_every_option_with_its_help_default_and_limits(body: str, options: type) -> None:
    there = OPENAPI[body]["properties"]
    for name, each in http_options(options).items():
        shown = there[name]
        assert shown.get("default") == default_of(options, each)
        if name != "kind":  # over HTTP nothing is trained again
            assert shown["description"] == each.help("null")
        if each.type in (int, float):
            (number,) = (one for one in shown.get("anyOf", [shown]) if one["type"] != "null")
            assert (number.get("minimum"), number.get("maximum")) == limits_of(options, each)


def test_the_docs_have_every_option() -> None:
    written, line = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("options.md", "cli.md"))
    section = re.search(r"## AskOptions\n(.*?)\n## ", written, re.DOTALL)
    assert section is not None
    for name, each in options_of(AskOptions).items():
        assert f"| `{name}` |" in section[1]
        assert each.help().replace("|", "\\|") in section[1]
        assert flags_of(each)[0].split("/")[0] in line


def test_the_page_takes_defaults_and_limits_from_the_server() -> None:
    described = OPENAPI["RunBody"]["properties"]["options"]["$ref"].rsplit("/")[-1]
    assert set(OPENAPI[described]["properties"]) == {"influences", "sampling", "verifications"}
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/headwater/serve/web").rglob("*.js"))
    for number in ("4294967295", "4096", "512"):
        assert not re.search(rf"\b{number}\b", pages)
    assert not re.search(r"\b(k|random|subset|iterations|max_new_tokens): *\d", pages.replace("k: 1 }", ""))


def test_no_surface_copies_an_option_by_hand() -> None:
    """Adding an option to `ask` touches its declaration alone."""
    names = {name for name in options_of(AskOptions) if len(name) > 4} - {
        "where",
        "contains",
        "damping",
        "layers",
        "exact",
    }
    for module in ("cli/ask.py", "cli/grouped.py", "serve/tasks.py", "serve/schemas.py", "serve/about.py"):
        source = (ROOT / "src/headwater" / module).read_text(encoding="utf-8")
        copied = {name for name in names if re.search(rf"\b{name} *[=:]|\.{name}\b", source)}
        assert copied <= {"iterations", "subset"}, module  # limits that a verification has on its own numbers
    assert "AskOptions(" not in inspect.getsource(tasks)


# -- from a surface to the options


def test_the_command_is_given_the_options_themselves() -> None:
    taken: list[Any] = []
    made = typer.Typer()

    @made.command()
    @with_groups
    def ask(context: typer.Context, options: AskOptions = AskOptions(k=7), again: AskOptions = AskOptions()) -> None:
        taken.extend([options, again, given(context, "k"), given(context, "subset", "where")])

    def run(*words: str) -> list[Any]:
        taken.clear()
        done = CliRunner().invoke(made, [*words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return taken

    options, again, *_ = run()
    assert options == again == AskOptions(k=7)  # flags of the same name are one flag
    words = ("-k", "3", "--layers", "*.0.*", "--layers", "*.1.*", "--no-fold", "--subset", "0", "--damping", "1e-3")
    options, again, *told = run(*words)
    assert options == again == AskOptions(k=3, layers=("*.0.*", "*.1.*"), fold=False, subset=None, damping="1e-3")
    assert told == [True, True]
    assert run("--exact")[2:] == [False, False]


def test_bytes_and_trillions_are_read_from_words() -> None:
    taken: list[Any] = []
    made = typer.Typer()

    @made.command()
    @with_groups
    def estimate(options: PaperOptions) -> None:
        taken.append(options)

    words = ["--examples", "10", "--tokens", "5", "--memory", "16GiB", "--rate", "2.5"]
    assert CliRunner().invoke(made, words, catch_exceptions=False).exit_code == 0
    assert taken == [PaperOptions(examples=10, tokens=5, memory=16 << 30, rate=2.5e12)]
    assert CliRunner().invoke(made, ["--examples", "10"]).exit_code == 2


def test_a_body_becomes_the_options() -> None:
    body = InfluencesBody.model_validate({"prompt": "p", "k": 3, "layers": ["*.0.*"], "damping": 0.5, "subset": None})
    assert options_from(AskOptions, body) == AskOptions(k=3, layers=("*.0.*",), damping=0.5, subset=None)
    assert options_from(Sampling, SamplingBody(temperature=0.5)) == Sampling(temperature=0.5)
    asked = VerificationsBody.model_validate_json(json.dumps({"question": {"prompt": "p"}, "kind": "pbrf"}))
    assert options_from(VerifyOptions, asked) == VerifyOptions(kind="pbrf")


# -- wrong ones


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": "5"}, "k='5': k must be a whole number of at least 1."),
        ({"k": True}, "k=True: k must be a whole number of at least 1."),
        ({"candidates": 0}, "candidates=0: candidates must be a whole number of at least 1."),
        ({"subset": 0}, "subset=0: subset must be a whole number of at least 1, or None."),
        ({"layers": "*.0.*"}, "layers='*.0.*': layers must be a tuple of strings, or None."),
        ({"rank_by": "size"}, "rank_by='size': rank_by must be 'influence' or 'relative'."),
        ({"exact": "no"}, "exact='no': exact must be True or False."),
        ({"damping": [1]}, "damping=[1]: damping must be a string or a number, or None."),
    ],
)
def test_a_wrong_value_is_named_as_the_caller_wrote_it(change: dict[str, Any], message: str) -> None:
    with pytest.raises(HeadwaterError) as raised:
        changed(AskOptions(), change)
    assert str(raised.value) == message


def test_an_unknown_option_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(
        HeadwaterError, match=r"There is no option 'top'\. Did you mean k\? The options are k, rank_by,"
    ):
        changed(AskOptions(), {"top": 5})
    with pytest.raises(HeadwaterError, match=r"Did you mean candidates\?"):
        changed(AskOptions(), {"candidate": 5})
    with pytest.raises(HeadwaterError, match=r"There is no option 'zzz'\. The options are"):
        changed(FitOptions(), {"zzz": 5})


def test_options_inside_options_are_checked_too() -> None:
    check(CorpusOptions())
    with pytest.raises(HeadwaterError, match="fit_examples=0"):
        check(PlanOptions(FitOptions(fit_examples=0)))


def test_every_field_of_options_is_declared() -> None:
    for _, options in ON_THE_LINE:
        for field in fields(options):
            assert field.name in options_of(options) or hasattr(field.default, "__dataclass_fields__")
    assert all(isinstance(each.option, Option) for each in options_of(AskOptions).values())
