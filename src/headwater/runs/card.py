"""The README.md of a shared run: its model, corpus, curvature, index, size and measured quality."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from headwater.base.byte_sizes import in_bytes
from headwater.corpus.sources import is_url
from headwater.runs.info import CurvatureInfo, IndexInfo, RunInfo, describe_run
from headwater.runs.manifest import read_manifest
from headwater.runs.paths import RunPaths


def card_of(path: Path, name: str) -> str:
    """README.md for the run at `path`, shared as `name`.

    Raises HeadwaterError if `path` is not a run, or one of its files is damaged.
    """
    found = describe_run(path)
    parts = [_front(found), f"# {name}", _what(name, found), _table(found), _use(name, found)]
    measured = RunPaths(path).evaluation / "results.md"
    if measured.exists():
        parts.append(f"## Measured quality\n\n{measured.read_text(encoding='utf-8').strip()}")
    return "\n\n".join(parts) + "\n"


def manifest_of(path: Path) -> str:
    """The manifest of the run at `path` as it is shared: local paths are cut to their last part."""
    manifest = read_manifest(path)
    model = replace(manifest.model, name=_shared(manifest.model.name))
    entry = manifest.corpus
    corpus = replace(entry, source=_shared(entry.source), root=None if entry.root is None else _shared(entry.root))
    return replace(manifest, model=model, corpus=corpus).to_json()


def _front(found: RunInfo) -> str:
    """The metadata that the hub reads: tags, and the model if it is on the hub."""
    lines = ["tags:", "- headwater", "- influence-functions", "- training-data-attribution"]
    if not Path(found.model).is_absolute():
        lines.append(f"base_model: {json.dumps(found.model)}")
    return "\n".join(["---", *lines, "---"])


def _what(name: str, found: RunInfo) -> str:
    return (
        f"A run of Headwater. It shows which of {found.corpus.examples:,} training examples made "
        f"`{Path(found.model).name}` say something. It contains {_texts(found)}, the curvature fitted on them, and the "
        "index of their gradients if there is one."
    )


def _texts(found: RunInfo) -> str:
    root = found.corpus.root
    if root is None:
        return "the texts of the examples"
    location = f"at `{_shared(root)}`" if is_url(root) else "on the machine where it was made"
    return f"a catalogue of the examples, whose texts are read from {found.corpus.streamed:,} files {location}"


def _table(found: RunInfo) -> str:
    rows = [
        ("model", f"`{_shared(found.model)}`"),
        ("model fingerprint", f"{found.model_fingerprint}, tokenizer {found.tokenizer_fingerprint}"),
        ("corpus", f"{found.corpus.examples:,} examples, {found.corpus.tokens:,} tokens"),
        ("corpus fingerprint", found.corpus.fingerprint),
        ("curvature", _curvature(found.curvature)),
        ("index", _index(found.index)),
        ("size", in_bytes(found.bytes)),
        ("Headwater", found.version),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _curvature(found: CurvatureInfo | None) -> str:
    if found is None:
        return "none"
    share = "" if found.coverage is None else f" ({found.coverage.describe()})"
    return (
        f"{found.kind} over {len(found.layers)} layers, {found.parameters:,} parameters{share}; fitted on "
        f"{found.fit_examples:,} examples with {found.labels} labels, seed {found.seed}; damping {found.damping}"
    )


def _index(found: IndexInfo | None) -> str:
    if found is None:
        return "none"
    return f"{found.examples:,} examples, {found.bytes_each:,} bytes of sketch per example ({found.kind})"


def _use(name: str, found: RunInfo) -> str:
    model = ""
    if Path(found.model).is_absolute():
        model = ', model="path/to/the/model"'
    folder = f"runs/{name.partition('/')[2]}"
    usage = (
        "## Use it\n\n```python\nfrom headwater import Run\n\n"
        f'run = Run.from_hub("{name}", "{folder}"{model})\n'
        'print(run.ask("Once upon a time", " there was a"))\n```'
    )
    if found.corpus.root is None or is_url(found.corpus.root):
        return usage
    return (
        f"{usage}\n\nFirst say where your copy of the texts is. It is compared with the texts of the run:\n\n"
        f"```bash\nheadwater fit {folder} --model path/to/the/model --corpus path/to/the/texts --stream\n```"
    )


def _shared(name: str) -> str:
    """A name without private parts: only the last part of a path, and no credentials or query in a URL."""
    if is_url(name):
        parts = urlsplit(name)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return Path(name).name if Path(name).is_absolute() else name
