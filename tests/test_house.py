"""The rules that hold for all of the source: what docs/design.md says, checked."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "headwater"
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
MODULES = {str(file.relative_to(SOURCE)): ast.parse(file.read_text("utf-8")) for file in SOURCE.rglob("*.py")}

MOST_ENTRIES = 22
MOST_POSITIONAL = 3
MOST_FIELDS = 4
"""Fields of a dataclass that may be given by position."""

DECORATED = re.compile(r"\.(command|callback|get|post|delete)\(|^(compiled|inlined|intrinsic)$")
"""Typer's commands and FastAPI's routes, which get their parameters by name; functions that numba compiles."""
CALLED_BY_OTHERS = {
    "attribution/index/kernels.py": {"lambda"},  # numba: what generates code
    "base/logs.py": {"_warned"},  # warnings.showwarning
    "curvature/builtin.py": {"_load_identity", "_load_exact"},  # the Loader of a kind of curvature
    "curvature/registry.py": {"eigen_loaded"},
    "lm/experts.py": {"_run_one_by_one"},  # transformers: the forward pass of a module of experts
    "lm/kernels.py": {"_sdpa_attention"},  # transformers' attention interface
    "lm/narrow_attention.py": {"forward", "generate"},  # torch.autograd.Function; numba
    "lm/routers.py": {"__torch_function__"},
    "plan/paper.py": {"__torch_function__"},
}
"""Functions whose parameters are prescribed by who calls them."""


def functions(tree: ast.AST) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, bool]]:
    """Every function in a module, and whether it is a method."""
    for node in ast.walk(tree):
        methods = {id(inner) for inner in node.body} if isinstance(node, ast.ClassDef) else set[int]()
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                yield inner, id(inner) in methods


def positional(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, method: bool) -> list[str]:
    names = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
    return names[1:] if method and names[:1] in (["self"], ["cls"]) else names


def decorators(node: ast.AST) -> list[str]:
    return [ast.unparse(one) for one in getattr(node, "decorator_list", [])]


def test_the_house_has_few_entries() -> None:
    entries = [path.name for path in SOURCE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= MOST_ENTRIES, sorted(entries)


def test_every_file_that_the_design_names_exists() -> None:
    named = set(re.findall(r"`([\w/.]+(?:\.(?:py|js)|/))`", DESIGN))
    assert len(named) > 50
    paths = [*SOURCE.rglob("*"), *(ROOT / "scripts").rglob("*"), ROOT / "scripts"]
    existing = [f"{path}/" if path.is_dir() else str(path) for path in paths]
    assert [name for name in sorted(named) if not any(path.endswith(f"/{name}") for path in existing)] == []


def test_what_the_walks_of_the_design_name_is_defined_in_that_file() -> None:
    named = re.findall(r"`([\w/]+\.py)`:?\s+`(?:\w+\.)?(\w+)`", DESIGN)
    assert len(named) > 15
    for file, name in named:
        defined = {getattr(node, "name", "") for node in ast.walk(MODULES[file])}
        assert name in defined, f"{file} has no {name}"


def test_every_package_stands_in_the_design() -> None:
    packages = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    assert {name for name in packages if f"`{name}/`" not in DESIGN} == set()


def test_functions_take_few_positional_parameters() -> None:
    long: dict[str, set[str]] = {}
    for file, tree in MODULES.items():
        for function, method in functions(tree):
            decorated = any(DECORATED.search(one) for one in decorators(function))
            if len(positional(function, method)) > MOST_POSITIONAL and not decorated:
                long.setdefault(file, set()).add(getattr(function, "name", "lambda"))
    assert long == CALLED_BY_OTHERS


def test_large_dataclasses_are_made_by_keywords() -> None:
    for file, tree in MODULES.items():
        for node in ast.walk(tree):
            made_by = [one for one in decorators(node) if one.startswith(("dataclass", "dataclasses.dataclass"))]
            if not isinstance(node, ast.ClassDef) or not made_by or "kw_only=True" in made_by[0]:
                continue
            fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
            given = [one for one in fields if not re.search(r"\bClassVar\b|init=False", ast.unparse(one))]
            assert len(given) <= MOST_FIELDS, f"{file}: {node.name} needs kw_only=True"


def test_the_formatter_is_switched_off_nowhere() -> None:
    off = re.compile(r"#\s*fmt:\s*(skip|off)")
    files = [file for folder in ("src", "tests", "benchmarks", "scripts") for file in (ROOT / folder).rglob("*.py")]
    assert [str(file) for file in files if off.search(file.read_text("utf-8"))] == []


def test_options_and_the_command_line_are_declared_without_torch() -> None:
    options = [file.removesuffix(".py").replace("/", ".") for file in MODULES if file.endswith("options.py")]
    assert len(options) >= 8
    modules = ["headwater", "headwater.cli", *(f"headwater.{name}" for name in options)]
    code = f"import {', '.join(modules)}; import sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
