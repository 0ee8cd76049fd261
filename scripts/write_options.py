"""Write docs/options.md from the declarations of the options; with --check, exit 1 if the file is out of date."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin

from generated import keep

from headwater.attribution.index.options import IndexOptions
from headwater.attribution.options import AskOptions, RankOptions, Sampling, ScanOptions
from headwater.base.options import REQUIRED, Declared, groups_in, options_of
from headwater.cli.engine import EngineOptions
from headwater.cli.grouped import flags_of
from headwater.corpus.options import CorpusOptions, ReadOptions
from headwater.curvature.options import FitOptions
from headwater.lm.options import Loading
from headwater.plan.options import PaperOptions, PlanOptions
from headwater.serve.limits import OPTION_LIMITS
from headwater.serve.option_fields import http_options, limits_of
from headwater.serve.settings import Settings
from headwater.sweep.options import Workers
from headwater.training.options import CheckpointScanOptions
from headwater.verify.options import VerifyOptions

PUBLIC: dict[type, str] = {
    AskOptions: "`headwater.AskOptions`: `Run.ask(…)`, `headwater ask`, `POST /v1/influences`",
    Sampling: "`headwater.attribution.options.Sampling`: `Run.question(…, sampling=…)`, `headwater ask`, `sampling` of "
    "a question over HTTP",
    FitOptions: "`headwater.FitOptions`: `Run.fit(…)`, `headwater fit`",
    CorpusOptions: "`headwater.CorpusOptions`: `Run.create(…, options=…)`, `headwater fit`",
    ReadOptions: "`headwater.corpus.options.ReadOptions`: `CorpusOptions(read=…)`, `headwater fit`",
    Loading: "`headwater.lm.options.Loading`: `Run.create(…, loading=…)`, `headwater fit`",
    IndexOptions: "`headwater.IndexOptions`: `Run.build_index(…)`, `headwater index`",
    RankOptions: "`headwater.attribution.options.RankOptions`: `Run.rank(…)`, `headwater rank`",
    ScanOptions: "`headwater.attribution.options.ScanOptions`: `Run.scan(…)`, `headwater scan`",
    CheckpointScanOptions: "`headwater.training.options.CheckpointScanOptions`: `Run.scan_checkpoints(…)`, `headwater "
    "scan --checkpoints`",
    VerifyOptions: "`headwater.verify.options.VerifyOptions`: `Run.verify(…)`, `headwater verify`, "
    "`POST /v1/verifications`",
    PlanOptions: "`headwater.plan.options.PlanOptions`: `headwater plan`, with the options of a fit",
    PaperOptions: "`headwater.plan.options.PaperOptions`: `headwater estimate`",
    EngineOptions: "Options of the command line for every command that does long work",
    Workers: "`headwater.sweep.options.Workers`: `RayEngine(…)`, with `--engine ray`",
    Settings: "`headwater.serve.settings.Settings`: `headwater serve`",
}
INTRODUCTION = """# Options

Written from the declarations by `scripts/write_options.py`; `make check` fails if it is out of date. Every option is
declared once, in a dataclass, from which the Python API, the [command line](cli.md), the [HTTP API](serving.md) and the
page are made. In Python, a method takes the options as a dataclass, or single ones by name:

```python
run.ask("Once upon a time", options=hw.AskOptions(k=5))
run.ask("Once upon a time", k=5)
```

Over HTTP an option has the name that it has in Python, and JSON's `null` for `None`.
"""


def page() -> str:
    return "\n".join([INTRODUCTION, *(line for options, words in PUBLIC.items() for line in section(options, words))])


def section(options: type, words: str) -> Iterator[str]:
    yield f"## {options.__name__}\n\n{options.__doc__}\n\n{words}.\n"
    over_http = options in OPTION_LIMITS
    columns = ["Python", "Command line", "Type", "Default", *(["Over HTTP"] if over_http else []), "Meaning"]
    yield "| " + " | ".join(columns) + " |"
    yield "| " + " | ".join("---" for _ in columns) + " |"
    own, inside = options_of(options), groups_in(options)
    for field in fields(options):
        if field.name in inside:
            kind = inside[field.name]
            row = [f"`{field.name}`", "", f"[{kind.__name__}](#{kind.__name__.lower()})", f"`{kind.__name__}()`"]
            yield "| " + " | ".join([*row, "Its options."]) + " |"
            continue
        each = own[field.name]
        row = [f"`{each.name}`", command_line(each), type_of(each), default_of(each)]
        row += [http(options, each)] if over_http else []
        yield "| " + " | ".join([*row, each.help().replace("|", "\\|")]) + " |"
    yield ""


def command_line(each: Declared) -> str:
    return ", ".join(f"`{flag}`" for flag in flags_of(each)) if each.option.cli else ""


def type_of(each: Declared) -> str:
    low, high = each.option.minimum, each.option.maximum
    limits = (f" ≥ {low:g}" if low is not None else "") + (f", ≤ {high:g}" if high is not None else "")
    return _named(each.type) + limits + (" or `None`" if each.optional else "")


def _named(kind: Any) -> str:
    inside = get_args(kind)
    if get_origin(kind) is Literal:
        return " or ".join(f"`{value!r}`" for value in inside)
    if get_origin(kind) in (None, tuple, dict):
        return f"`{kind.__name__ if get_origin(kind) is None else kind}`"
    return " or ".join(map(_named, inside))


def default_of(each: Declared) -> str:
    if each.default is REQUIRED:
        return "required"
    line = each.option.shown or f"`{each.option.cli_default!r}`"
    return f"`{each.default!r}`" + ("" if each.option.cli_default is None else f"; command line: {line}")


def http(options: type, each: Declared) -> str:
    if each.name not in http_options(options):
        return "no"
    maximum = OPTION_LIMITS[options].get(each.name)
    return "yes" if maximum is None or limits_of(options, each)[1] is None else f"≤ {maximum:,.0f}"


if __name__ == "__main__":
    sys.exit(keep("options.md", page(), sys.argv[1:]))
