"""The files of a model on this machine: which of them hold its weights, and whether they are whole.

Weights are read from safetensors, or else from `pytorch_model.bin` with torch's restricted unpickler
(`weights_only=True`), which builds tensors and calls nothing that the file names. Both may be in several files with an
index. A GGUF file is named itself.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from headwater.errors import ModelError, first_line
from headwater.lm.hub_files import ADAPTER, LARGE, SINGLE, HubName, fetch

TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    *("tekken.json", "vocab.bpe", "merges.txt"),
)
"""Files that hold a vocabulary."""
SMALL_FILES = ("config.json", "adapter_config.json", "tokenizer_config.json", *TOKENIZER_FILES)
POINTER = b"version https://git-lfs"
"""The first bytes of the file that Git LFS writes in place of a large one."""
CHILD = re.compile(r"(?:checkpoint|step)-(\d+)")


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """The files of one model."""

    name: str
    """Path or hub name as it was given."""
    folder: Path
    weights: tuple[Path, ...] = ()
    """The files of the weights; of an adapter, those of the adapter alone."""
    gguf: Path | None = None
    is_adapter: bool = False
    hub: tuple[str, str] | None = None
    """The repository and commit on the hub; None for a path."""

    @property
    def is_pickle(self) -> bool:
        return bool(self.weights) and self.weights[0].suffix == ".bin"

    @property
    def has_tokenizer(self) -> bool:
        files = {each.name for each in self.folder.iterdir()}
        return bool(files & set(TOKENIZER_FILES)) or any(each.endswith(".tiktoken") for each in files)


def find_model(name: str) -> ModelFiles:
    """The files of a model or adapter: of a folder, a GGUF file, or a model on the hub, which is downloaded.

    Raises ModelError if there is none, or if a file is a Git LFS pointer, damaged, or missing from the index.
    """
    if (path := Path(name).expanduser()).exists():
        return _at(name, path)
    hub = _hub_name(name, "model")
    found = fetch(hub)
    origin = (hub.repository, found.commit)
    if hub.file is not None:
        return ModelFiles(name=name, folder=found.folder, gguf=_whole_gguf(found.folder / hub.file), hub=origin)
    return _in_folder(name, found.folder, hub=origin)


def find_tokenizer(name: str) -> ModelFiles:
    """The files of a tokenizer: a folder, a file in it, or a model on the hub, whose weights are not downloaded.

    Raises ModelError if there is none.
    """
    if (path := Path(name).expanduser()).exists():
        found = ModelFiles(name=name, folder=path if path.is_dir() else path.parent)
    else:
        hub = _hub_name(name, "tokenizer")
        fetched = fetch(hub, weights=False)
        found = ModelFiles(name=name, folder=fetched.folder, hub=(hub.repository, fetched.commit))
    _refuse_pointers(found.folder)
    if not found.has_tokenizer:
        raise ModelError(f"--tokenizer {name}: there is no tokenizer (tokenizer.json). Give a folder that has one.")
    return found


def base_files(files: ModelFiles, base: str | None = None) -> ModelFiles:
    """The files of the model under an adapter: `base`, or the folder itself if it has a model, or the adapter's own.

    Raises ModelError if there is none.
    """
    if base is None and (files.folder / "config.json").exists():
        return _in_folder(files.name, files.folder, hub=files.hub, embedded=True)
    config = read_json(files.folder / "adapter_config.json")
    named = config.get("base_model_name_or_path")
    if base is None and not (isinstance(named, str) and named):
        raise ModelError(f"The adapter {files.name} names no base model. Name it with --base.")
    wanted = base or str(named)
    if base is None and isinstance(config.get("revision"), str) and not Path(wanted).exists() and "@" not in wanted:
        wanted += f"@{config['revision']}"
    try:
        found = find_model(wanted)
    except ModelError as error:
        if base is not None:
            raise
        gone = "which is not on this machine" if _is_path(wanted) else f"which cannot be loaded: {first_line(error)}"
        raise ModelError(f"The adapter {files.name} names the base model {wanted}, {gone}. Name it with --base.") from (
            error
        )
    if found.is_adapter:
        raise ModelError(f"The base model {wanted} of {files.name} is an adapter itself. Name a whole model by --base.")
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a model. Raises ModelError if it is not a JSON object."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({first_line(error)}). Download or copy it again.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} is not a JSON object. Download or copy it again.")
    return found


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or `.bin` file. Raises ModelError if it cannot be read, or is not only tensors."""
    try:
        if path.suffix != ".bin":
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dictionary
        found: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # safetensors, zip, pickle and torch have each their own
        raise _unreadable(path, error) from error
    if not isinstance(found, Mapping) or not all(isinstance(each, Tensor) for each in found.values()):
        held = ", ".join(map(repr, list(found)[:3])) if isinstance(found, Mapping) else type(found).__name__
        raise ModelError(
            f"{path} is not the weights of a model: it holds {held}. Save the model itself with "
            "model.save_pretrained(folder)."
        )
    return dict(found)


def _hub_name(name: str, what: str) -> HubName:
    hub = None if _is_path(name) else HubName.parse(name)
    if hub is None:
        raise ModelError(f"No {what} at {name}: the path does not exist.")
    return hub


def _is_path(name: str) -> bool:
    """Whether a name can only be a path."""
    return name.startswith((".", "/", "~")) or HubName.parse(name) is None


def _at(name: str, path: Path) -> ModelFiles:
    """The model at an existing path."""
    if path.is_dir():
        return _in_folder(name, path)
    if path.suffix == ".gguf":
        return ModelFiles(name=name, folder=path.parent, gguf=_whole_gguf(path))
    raise ModelError(f"{path} is a file. Give the folder of the model, {path.parent}, or a GGUF file.")


def _in_folder(name: str, folder: Path, *, hub: tuple[str, str] | None = None, embedded: bool = False) -> ModelFiles:
    """The model in a folder. With `embedded`, an adapter that is there too does not count."""
    _refuse_pointers(folder)
    if not embedded and (folder / "adapter_config.json").exists():
        weights = _first([folder / each for each in ADAPTER])
        if not weights:
            raise ModelError(f"The adapter {name} has no weights: {folder} has no {' and no '.join(ADAPTER)}.")
        return ModelFiles(name=name, folder=folder, weights=_whole(weights), is_adapter=True, hub=hub)
    weights = _weights_in(folder)
    ggufs = sorted(each.name for each in folder.glob("*.gguf"))
    if not weights and len(ggufs) == 1:
        return ModelFiles(name=name, folder=folder, gguf=_whole_gguf(folder / ggufs[0]), hub=hub)
    if not weights or not (folder / "config.json").exists():
        raise ModelError(_nothing_in(name, folder, ggufs, weights=bool(weights)))
    return ModelFiles(name=name, folder=folder, weights=_whole(weights), hub=hub)


def _nothing_in(name: str, folder: Path, ggufs: Sequence[str], *, weights: bool) -> str:
    """Why a folder holds no model, and what there is instead."""
    entries = list(folder.iterdir())
    children = sorted((int(found[1]), each.name) for each in entries if (found := CHILD.fullmatch(each.name)))
    if ggufs:
        return f"{name} has several GGUF files. Give one of them: {', '.join(f'{name}/{each}' for each in ggufs)}."
    if children and not (folder / "config.json").exists():
        paths = ", ".join(f"{name.rstrip('/')}/{child}" for _, child in children)
        return f"{name} has no model itself, but checkpoints of a training. Give one of them: {paths}."
    wanted = "Give a folder written by save_pretrained (config.json, model.safetensors, tokenizer.json)"
    if weights:
        return f"Cannot load the model {name!r}: it has weights and no config.json. {wanted}."
    large = sorted(each.name for each in entries if each.name.endswith(LARGE))
    instead = f"it has {', '.join(large[:3])} instead of" if large else "it has no"
    return f"Cannot load the model {name!r}: {instead} model.safetensors or pytorch_model.bin. {wanted}."


def _weights_in(folder: Path) -> list[Path]:
    """The weights that a folder should have: safetensors first, one file before several with an index."""
    config = folder / "config.json"
    named = read_json(config).get("transformers_weights") if config.exists() else None
    if isinstance(named, str):
        return _shards(folder / named) if named.endswith(".index.json") else [_beside(config, named)]
    if any(re.fullmatch(r"shard-\d+-model-\d+-of-\d+\.safetensors", each.name) for each in folder.iterdir()):
        raise ModelError(
            f"{folder} holds the shards of a distributed training. Join them first: "
            "transformers.distributed.checkpoint.consolidate_distributed_checkpoint."
        )
    for single in SINGLE:
        if (folder / single).exists():
            return [folder / single]
        if (index := folder / f"{single}.index.json").exists():
            return _shards(index)
    return []


def _shards(index: Path) -> list[Path]:
    """The files that an index names. Raises ModelError if one is missing, or is not in the same folder."""
    names: Any = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(each, str) for each in names.values()):
        raise ModelError(f"{index} does not say which file holds which weight. Download or copy it again.")
    files = sorted(set(names.values()))
    paths = [_beside(index, each) for each in files]
    if missing := [path.name for path in paths if not path.exists()]:
        raise ModelError(
            f"{index.parent} lacks {len(missing)} of the {len(files)} files of its weights: {', '.join(missing[:3])}"
            f"{', …' if len(missing) > 3 else ''}. Download or copy them again."
        )
    return paths


def _beside(file: Path, name: str) -> Path:
    """A file that another names in the same folder. Raises ModelError if the name leads out of it."""
    if PurePosixPath(name).name != name or "\\" in name:
        raise ModelError(f"{file} names the weights {name!r}, which is not in the same folder.")
    return file.parent / name


def _first(paths: Sequence[Path]) -> list[Path]:
    return [path for path in paths if path.exists()][:1]


def _whole(weights: Sequence[Path]) -> tuple[Path, ...]:
    """The files. Raises ModelError if one is a pointer, empty, or only a part is there."""
    for path in weights:
        _refuse_pointer(path)
        if path.suffix == ".bin":
            read_tensors(path)  # of a zip file only the names and shapes are read now
            continue
        try:
            with safe_open(path, framework="pt") as file:
                file.keys()
        except Exception as error:  # safetensors raises its own, and the system's
            raise _unreadable(path, error) from error
    return tuple(weights)


def _whole_gguf(path: Path) -> Path:
    _refuse_pointer(path)
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError(f"{path} is not a GGUF file: it does not begin with GGUF. Download it again.")
    return path.resolve()


def _refuse_pointers(folder: Path) -> None:
    for name in SMALL_FILES:
        if (folder / name).is_file():
            _refuse_pointer(folder / name)


def _refuse_pointer(path: Path) -> None:
    with path.open("rb") as file:
        beginning = file.read(len(POINTER))
    if beginning == POINTER:
        raise ModelError(
            f"{path} is a Git LFS pointer, not the file itself. Run `git lfs pull` in the clone, or download the file."
        )
    if not beginning:
        raise ModelError(f"{path} is empty. Download or copy it again.")


def _unreadable(path: Path, error: Exception) -> ModelError:
    """What a file of weights is instead: objects that are not loaded, a page of a web server, or half a file."""
    foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
    if foreign:
        return ModelError(
            f"{path} holds more than tensors ({foreign[1]}). Headwater does not load it, because that "
            "could run code. Where it was made, save it with model.save_pretrained(folder)."
        )
    with path.open("rb") as file:
        beginning = file.read(512).lstrip().lower()
    if beginning.startswith((b"<!doctype", b"<html")):
        return ModelError(f"{path} is a web page, not weights. Download the file itself.")
    return ModelError(
        f"{path} is damaged, or only a part of it is here ({first_line(error)}). Download or copy it again."
    )
