"""The manifest of a run: its model and corpus with their fingerprints, which all other files are bound to."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from headwater.base.files import write_text
from headwater.base.options import options_of
from headwater.corpus.options import LongTexts
from headwater.corpus.store import CorpusCounts
from headwater.errors import FingerprintMismatch, HeadwaterError
from headwater.lm.options import DeviceMap, Dtype, Loading
from headwater.runs.paths import RunPaths

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """The model of a run, and how it is loaded."""

    name: str
    """Hub name, or absolute path; of a model in memory, its class."""
    fingerprint: str
    tokenizer: str
    """Fingerprint of the tokenizer."""
    trust_remote_code: bool = False
    dtype: Dtype = "fp32"
    """Number format that the model runs in."""
    gradient_checkpointing: bool = False
    device_map: DeviceMap | dict[str, int | str] | None = None
    tokenizer_name: str | None = None
    """Hub name or absolute path of a tokenizer that does not come with the model."""
    base: str | None = None
    """Hub name or absolute path of another base model than the one that an adapter names."""
    in_memory: bool = False
    """Whether the model was given as an object, so that no name loads it again."""

    @property
    def loading(self) -> Loading:
        named = {name: getattr(self, name) for name in options_of(Loading) if name != "tokenizer"}
        return Loading(**named, tokenizer=self.tokenizer_name)


def loading_fields(loading: Loading) -> dict[str, Any]:
    """The fields of a ModelEntry that say how the model is loaded."""
    named = asdict(loading)
    tokenizer = named.pop("tokenizer")
    return {**named, "tokenizer_name": tokenizer}


@dataclass(frozen=True, kw_only=True)
class CorpusEntry:
    """The corpus of a run, and how it was read."""

    source: str
    """Dataset name, URL, or absolute path."""
    max_tokens: int
    long_texts: LongTexts
    options: dict[str, Any]
    """How the source was read: text_field, id_field, limit, …"""
    counts: CorpusCounts
    skipped: int = 0
    """Bad examples left out because --skip-bad was given."""
    root: str | None = None
    """Directory, file or URL that the texts are streamed from; None if they are in the run."""
    one_bos: bool = False
    """Whether every example has the tokenizer's BOS token once (see Cutting). Runs of earlier versions: False."""
    notes: tuple[str, ...] = ()
    """Which files of a folder were read and which were not, and how else the source was read: one line each."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a run was made from, and two settings that later commands can change."""

    version: str
    """Version of Headwater that made the run."""
    model: ModelEntry
    corpus: CorpusEntry
    format: int = FORMAT
    damping: str | float | None = None
    """Default λ of questions, as given to `fit`."""
    store: str | None = None
    """URL of the folder of the index's table; None is the directory of the run."""

    def binding(self) -> dict[str, str]:
        """The three fingerprints that every file of this run carries."""
        return {
            "model": self.model.fingerprint,
            "tokenizer": self.model.tokenizer,
            "corpus": self.corpus.counts.fingerprint,
        }

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    def write(self, folder: Path) -> None:
        write_text(RunPaths(folder).manifest, self.to_json())


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the run in `folder`. Raises HeadwaterError if there is none, or it is damaged."""
    path = RunPaths(folder).manifest
    if not path.exists():
        raise HeadwaterError(
            f"{folder} is not a Headwater run (it has no manifest.json). "
            "Make one with: headwater fit RUN --model MODEL --corpus CORPUS"
        )
    try:
        manifest = TypeAdapter(Manifest).validate_json(path.read_bytes())
    except ValidationError as error:
        raise HeadwaterError(f"{path} is damaged: {error.errors()[0]['msg']}. Make the run again.") from error
    if manifest.format != FORMAT:
        raise HeadwaterError(
            f"{path} has format {manifest.format}; this version of Headwater reads format {FORMAT}. "
            "Make the run again, or install the version that made it."
        )
    return manifest


def require_same(what: str, expected: str, found: str, *, fix: str) -> None:
    """Raises FingerprintMismatch, which shows both, if two fingerprints differ."""
    if expected != found:
        raise FingerprintMismatch(what, expected, found, fix=fix)
