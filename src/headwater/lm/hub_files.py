"""Downloading what loading a model needs from the Hugging Face hub: its small files, then the weights in one format."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
from huggingface_hub.constants import is_offline_mode
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from headwater.errors import ModelError, first_line

TIMEOUT = 8.0
"""Seconds after which the hub counts as unreachable."""
SINGLE = ("model.safetensors", "pytorch_model.bin")
"""Weights in one file. A model in several files has an index: this name and `.index.json`."""
ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
CONFIGS = ("config.json", "adapter_config.json", "tokenizer_config.json", "tokenizer.json")
LARGE = (".safetensors", ".bin", ".gguf", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".ot", ".zip", ".pkl")
"""Endings of files that hold weights."""
HUB_NAME = re.compile(r"(?P<repository>[\w.-]+(/[\w.-]+)?)(/(?P<file>[\w./-]+\.gguf))?(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class HubName:
    """The name of a model on the hub: `owner/name`, `owner/name@revision` or `owner/name/FILE.gguf`."""

    repository: str
    revision: str = "main"
    file: str | None = None
    """A GGUF file of the repository."""

    def __str__(self) -> str:
        file = "" if self.file is None else f"/{self.file}"
        return f"{self.repository}{file}" + ("" if self.revision == "main" else f"@{self.revision}")

    @classmethod
    def parse(cls, name: str) -> HubName | None:
        """The parts of a name. None if it cannot be a name on the hub."""
        found = HUB_NAME.fullmatch(name.removesuffix("@"))
        if found is None or (found["file"] is not None and ".." in found["file"]):
            return None
        return cls(found["repository"], found["revision"] or "main", found["file"])


@dataclass(frozen=True)
class HubFiles:
    """Where the files of a model from the hub are."""

    folder: Path
    commit: str
    """The commit that the files are of."""


def fetch(name: HubName, *, weights: bool = True) -> HubFiles:
    """Download the files of a model, or its small files only. What the cache has is not downloaded again.

    If the hub cannot be reached, the copy in the cache is used. Raises ModelError if there is no such model, it may not
    be read, or it is neither reachable nor in the cache.
    """
    if is_offline_mode():
        return _cached(name, "HF_HUB_OFFLINE is set")
    try:
        info = HfApi().model_info(name.repository, revision=name.revision, timeout=TIMEOUT)
        names = [each.rfilename for each in info.siblings or []]
        small = [each for each in names if "/" not in each and not each.endswith(LARGE)]
        folder = Path(_download(name, small))
        if weights:
            folder = Path(_download(name, _weights_among(names, name, folder)))
        return HubFiles(folder, str(info.sha))
    except ModelError:
        raise
    except GatedRepoError as error:
        raise ModelError(
            f"Cannot load the model '{name}': it is gated. Accept its terms on its page, then log in with "
            "`hf auth login` or set HF_TOKEN."
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"Cannot load the model '{name}': {name.repository} has no revision {name.revision!r}. Leave out "
            f"@{name.revision} for the newest."
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(
            f"Cannot load the model '{name}': there is no such folder here, and no such model on the hub. If it is "
            "private, log in with `hf auth login` or set HF_TOKEN."
        ) from error
    except Exception as error:  # of the HTTP client, whose errors have no common base
        return _cached(name, f"the hub cannot be reached ({first_line(error)})", error)


def _download(name: HubName, files: Sequence[str]) -> str:
    return snapshot_download(
        name.repository, revision=name.revision, allow_patterns=list(files) or ["config.json"], etag_timeout=TIMEOUT
    )


def _weights_among(names: Sequence[str], name: HubName, folder: Path) -> list[str]:
    """The files of the weights, in the format that is read: see `headwater.lm.model_files`."""
    if name.file is not None:
        if name.file not in names:
            there = ", ".join(each for each in names if each.endswith(".gguf")) or "none"
            raise ModelError(f"Cannot load the model '{name}': no such file. Its GGUF files are: {there}.")
        return [name.file]
    found = next(([each] for each in ADAPTER if each in names), [])
    for single in SINGLE:
        index = f"{single}.index.json"
        if single in names:
            return [*found, single]
        if index in names:
            return [*found, *sorted(set(json.loads((folder / index).read_text("utf-8"))["weight_map"].values()))]
    gguf = [each for each in names if each.endswith(".gguf")]
    return found or (gguf if len(gguf) == 1 else [])


def _cached(name: HubName, reason: str, error: Exception | None = None) -> HubFiles:
    """The copy in the cache. Raises ModelError if there is none."""
    for file in (name.file, *CONFIGS):
        found = file and try_to_load_from_cache(name.repository, file, revision=name.revision)
        if isinstance(found, str):
            folder = Path(found).parents[(file or "").count("/")]
            return HubFiles(folder, folder.name)
    raise ModelError(
        f"Cannot load the model '{name}': there is no such folder here, the cache of the hub does not have it, and "
        f"{reason}. Give the path of a folder, or connect to the hub."
    ) from error
