"""Uploading runs to the Hugging Face hub, and downloading them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, snapshot_download

from headwater.errors import HeadwaterError, first_line

NOT_SHARED = (
    "*.part",
    "*.rows",
    "corpus/streamed.*/*",
    ".lock",
    "*.checkpoint.safetensors",
    "curvature/gradients-*",
    "curvature/part-*",
    "retrained/*",
    "evaluate/*/*",
    "checkpoints/*",
)
"""Files that are not uploaded: unfinished work, and results of retrained models."""


def push_run(path: Path, name: str, texts: Mapping[str, str], *, public: bool = False) -> str:
    """Upload the run at `path` to the dataset repository `owner/name` and return its address. A new one is made.

    `texts` {file name: contents} replace or complete the files of the folder and are uploaded last. Files that the
    repository has already are not sent again. The token is read from the environment (HF_TOKEN). Raises HeadwaterError
    if the hub refuses or cannot be reached.
    """
    if name.count("/") != 1:
        raise HeadwaterError(f"{name!r} is not the name of a hub repository. Write owner/name.")
    api = HfApi()
    try:
        url = api.create_repo(name, repo_type="dataset", private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            folder_path=path,
            repo_type="dataset",
            ignore_patterns=[*NOT_SHARED, *texts],
            commit_message="A run of Headwater",
        )
        added = [CommitOperationAdd(file, text.encode()) for file, text in texts.items()]
        api.create_commit(name, added, commit_message="What it was made from", repo_type="dataset")
    except (OSError, ValueError) as error:
        raise HeadwaterError(
            f"Cannot upload {path} to {name!r} on the hub: {first_line(error)}. Set HF_TOKEN in the environment."
        ) from error
    return str(url)


def fetch_run(name: str, path: str | Path) -> Path:
    """Download the run of a hub repository into `path`. Files that are there already are not downloaded again.

    `name` is `owner/name` or `dataset:owner/name` for a dataset, `model:owner/name` for a model; `@revision` at the end
    selects another revision than the newest. The token, if one is needed, is read from the environment (HF_TOKEN).
    Raises HeadwaterError if there is no such repository, it cannot be reached, or it is not a run.
    """
    kind, _, rest = name.rpartition(":")
    repository, _, revision = rest.partition("@")
    if kind not in ("", "dataset", "model") or repository.count("/") != 1:
        raise HeadwaterError(
            f"{name!r} is not the name of a hub repository. Write owner/name for a dataset or model:owner/name for a "
            "model."
        )
    try:
        snapshot_download(repository, repo_type=kind or "dataset", revision=revision or None, local_dir=path)
    except (OSError, ValueError) as error:
        raise HeadwaterError(
            f"Cannot download the run {name!r} from the hub: {first_line(error)}. If it is private, set HF_TOKEN in "
            "the environment."
        ) from error
    if not (Path(path) / "manifest.json").exists():
        raise HeadwaterError(f"The hub repository {name!r} is not a run: it has no manifest.json at its top level.")
    return Path(path)
