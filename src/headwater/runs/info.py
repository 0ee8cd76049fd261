"""Contents of a run: corpus, curvature and index, read from its files without loading the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from headwater.attribution.index.settings import parse_settings
from headwater.attribution.index.table import Table, open_table
from headwater.base.byte_sizes import size_of
from headwater.base.files import read_metadata
from headwater.corpus.corpus import Corpus
from headwater.curvature.damping import parse_damping
from headwater.curvature.store import curvature_files
from headwater.errors import HeadwaterError
from headwater.lm.coverage import Coverage, coverage_in
from headwater.lm.familiarity import Familiarity
from headwater.runs.manifest import Manifest, read_manifest
from headwater.runs.paths import RunPaths


@dataclass(frozen=True, kw_only=True)
class CorpusInfo:
    """The corpus of a run."""

    source: str
    examples: int
    """N, including added examples, without removed ones."""
    tokens: int
    """Number of tokens, including those of added and of removed examples."""
    records: int
    """Records read when the run was made."""
    added: int
    """Examples added since then, including those removed again."""
    segments: int
    """Number of files that store the examples."""
    removed: int
    long: int
    """Records longer than max_tokens."""
    long_texts: str
    """How long records were cut: truncate or split."""
    too_short: int
    skipped: int
    """Bad examples left out."""
    max_tokens: int
    options: dict[str, Any]
    """How the source was read."""
    fingerprint: str
    bytes: int
    streamed: int = 0
    """Source files that texts are streamed from; 0 if all texts are in the run."""
    root: str | None = None
    """Directory or URL of these files."""
    notes: tuple[str, ...] = ()
    """Which files of a folder were read, and how: one line each."""


@dataclass(frozen=True, kw_only=True)
class CurvatureInfo:
    """The fitted curvature of a run."""

    kind: str
    layers: tuple[str, ...]
    parameters: int
    """D, the number of tracked parameters."""
    labels: str
    """Labels of the Fisher matrix: sampled or empirical."""
    fit_examples: int
    seed: int
    damping: str
    """Default λ of questions, in words."""
    bytes: int
    current: bool
    """Whether it was fitted on the run's model and corpus."""
    familiarity: Familiarity | None = None
    """How usual the corpus is to the model; None for a run fitted before this was measured."""
    coverage: Coverage | None = None
    """The share of the model's parameters that is tracked. None if the curvature was fitted before it was recorded."""


@dataclass(frozen=True, kw_only=True)
class IndexInfo:
    """The index of a run."""

    url: str
    examples: int
    """Rows of the table."""
    bytes_each: int
    """Bytes of sketch per example."""
    kind: str
    """Kind of the sketch."""
    sketch: Mapping[str, int]
    """Settings of the sketch, with its seed."""
    columns: tuple[str, ...]
    """Columns that --where can use."""
    words: bool
    """Whether there is a full-text index."""
    version: int
    bytes: int | None
    """Bytes on disk; None if the table is in an object store."""
    missing: int
    """Examples of the corpus without a row."""
    surplus: int
    """Rows of examples that were removed from the corpus."""
    stale: str | None
    """What has changed since the index was built, such as the damping; None if nothing has."""

    @property
    def current(self) -> bool:
        return not (self.missing or self.surplus or self.stale) and self.words


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """Contents of a run."""

    path: str
    version: str
    """Version of Headwater that made the run."""
    model: str
    model_fingerprint: str
    tokenizer_fingerprint: str
    corpus: CorpusInfo
    curvature: CurvatureInfo | None
    fit_interrupted: bool
    """Whether the run has parts of an unfinished fit."""
    index: IndexInfo | None
    self_influence: bool
    """Whether the self-influence of all examples is cached, for relative ranking without an index."""
    bytes: int
    """Bytes of all files in the run's directory."""
    advice: tuple[str, ...]
    """Commands that finish or fix something, most urgent first."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def describe_run(path: str | Path) -> RunInfo:
    """The contents of the run at `path`. Only metadata and keys are read from its files.

    Raises HeadwaterError if `path` is not a run, or one of its files is damaged.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    corpus = Corpus(RunPaths(folder).corpus)
    curvature = _curvature(folder, manifest)
    interrupted = any(RunPaths(folder).curvature_folder.rglob("*.checkpoint.safetensors"))
    index = _index(folder, manifest, corpus)
    return RunInfo(
        path=str(path),
        version=manifest.version,
        model=manifest.model.name,
        model_fingerprint=manifest.model.fingerprint,
        tokenizer_fingerprint=manifest.model.tokenizer,
        corpus=_corpus(manifest, corpus),
        curvature=curvature,
        fit_interrupted=interrupted,
        index=index,
        self_influence=(RunPaths(folder).scores / "self_influence.parquet").exists(),
        bytes=size_of(folder),
        advice=_advice(str(path), curvature, index, interrupted=interrupted),
    )


def read_familiarity(paths: RunPaths) -> Familiarity | None:
    """How usual the corpus is to the model; None for a run that was fitted before this was measured."""
    if not paths.familiarity.exists():
        return None
    try:
        return TypeAdapter(Familiarity).validate_json(paths.familiarity.read_bytes())
    except ValidationError:
        raise HeadwaterError(f"{paths.familiarity} is damaged. Delete it: a run without it is complete.") from None


def summary(path: Path) -> str:
    """The contents of the run at `path` in four lines."""
    found = describe_run(path)
    curvature, index = found.curvature, found.index
    fitted = "not fitted" if curvature is None else f"{curvature.kind} over {len(curvature.layers)} layers"
    indexed = "none" if index is None else f"{index.examples:,} examples, {index.bytes_each:,} bytes each"
    return (
        f"Run {path}: model {found.model}\n"
        f"  corpus     {found.corpus.examples:,} examples, {found.corpus.tokens:,} tokens\n"
        f"  curvature  {fitted}\n"
        f"  index      {indexed}"
    )


def _corpus(manifest: Manifest, corpus: Corpus) -> CorpusInfo:
    entry, counts = manifest.corpus, manifest.corpus.counts
    return CorpusInfo(
        source=entry.source,
        examples=len(corpus),
        tokens=sum(segment.counts.tokens for segment in corpus.segments),
        records=counts.records,
        added=sum(map(len, corpus.added)),
        segments=len(corpus.segments),
        removed=len(corpus.removed),
        long=counts.long,
        long_texts=entry.long_texts,
        too_short=counts.too_short,
        skipped=entry.skipped,
        max_tokens=entry.max_tokens,
        options=entry.options,
        fingerprint=corpus.fingerprint,
        bytes=size_of(corpus.path.parent),
        streamed=len(corpus.streamed),
        root=entry.root,
        notes=entry.notes,
    )


def _curvature(folder: Path, manifest: Manifest) -> CurvatureInfo | None:
    path = RunPaths(folder).curvature
    if not path.exists():
        return None
    metadata = read_metadata(path)
    settings: dict[str, Any] = json.loads(metadata.get("settings", "{}"))
    layers: list[dict[str, Any]] = json.loads(metadata.get("layers", "[]"))
    total, fit_examples = manifest.corpus.counts.examples, settings.get("fit_examples")
    return CurvatureInfo(
        kind=metadata.get("kind", "unknown"),
        layers=tuple(layer["name"] for layer in layers),
        parameters=sum(layer["inputs"] * layer["outputs"] for layer in layers),
        labels=settings.get("fisher", "sampled"),
        fit_examples=min(total, fit_examples or total),
        seed=settings.get("seed", 0),
        damping=_damping(manifest, metadata),
        bytes=sum(map(size_of, curvature_files(path))),
        coverage=coverage_in(metadata),
        current=all(metadata.get(name) == fingerprint for name, fingerprint in manifest.binding().items()),
        familiarity=read_familiarity(RunPaths(folder)),
    )


def _damping(manifest: Manifest, metadata: Mapping[str, str]) -> str:
    """The damping in words; 0 for the identity curvature, which has none."""
    return "0" if metadata.get("kind") == "identity" else parse_damping(manifest.damping).describe()


def _index(folder: Path, manifest: Manifest, corpus: Corpus) -> IndexInfo | None:
    url = manifest.store or str(RunPaths(folder).index)
    table = open_table(url)
    if table is None:
        return None
    settings = parse_settings(table.binding)
    indexed = table.keys()
    return IndexInfo(
        url=url,
        examples=len(table),
        bytes_each=settings.sketch.bytes,
        sketch=asdict(settings.sketch),  # pyright: ignore[reportArgumentType]
        kind=settings.kind,
        columns=tuple(table.columns),
        words=table.has_words,
        version=table.version,
        bytes=size_of(RunPaths(folder).index) if manifest.store is None else None,
        missing=len(np.setdiff1d(corpus.keys, indexed)),
        surplus=len(np.setdiff1d(indexed, corpus.keys)),
        stale=_stale(folder, manifest, table),
    )


def _stale(folder: Path, manifest: Manifest, table: Table) -> str | None:
    """The first fact about the curvature that has changed since the table was made, or None."""
    path = RunPaths(folder).curvature
    if not path.exists():
        return "curvature"
    metadata = read_metadata(path)
    now = metadata | {"damping": _damping(manifest, metadata)}
    before = parse_settings(table.binding).curvature
    return next((fact for fact, value in before.items() if value != now.get(fact)), None)


def _advice(
    path: str, curvature: CurvatureInfo | None, index: IndexInfo | None, *, interrupted: bool
) -> tuple[str, ...]:
    commands: list[str] = []
    if curvature is None or not curvature.current or interrupted:
        commands.append(f"headwater fit {path}")
    if index is None or not index.current:
        commands.append(f"headwater index {path}")
    return tuple(commands)
