"""Sharing runs through the Hugging Face hub."""

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
"""What a run keeps for itself alone: unfinished work, and what retrained models said."""


def push_run(path: Path, name: str, texts: Mapping[str, str], *, public: bool = False) -> str:
    """Upload the run at `path` to the dataset repository `owner/name`, made where there is none; returns its address.

    `texts` {file name: contents} go there instead of, or beside, what is in the folder, and last. What is there
    already is not sent again. A token is read from the environment (HF_TOKEN). Raises HeadwaterError where the hub
    refuses or is out of reach.
    """
    if name.count("/") != 1:
        raise HeadwaterError(f"{name!r} names no repository on the hub. Write owner/name.")
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
            f"Cannot send {path} to {name!r} on the hub: {first_line(error)}. Is HF_TOKEN set?"
        ) from error
    return str(url)


def fetch_run(name: str, path: str | Path) -> Path:
    """Download the run that a hub repository holds into `path`, or what is still missing of it.

    `name` is `owner/name` or `dataset:owner/name` for a dataset, `model:owner/name` for a model, with `@revision` at
    the end where it is not the newest. A token, if one is needed, is read from the environment (HF_TOKEN). Raises
    HeadwaterError where there is no such repository, it is out of reach, or it is not a run.
    """
    kind, _, rest = name.rpartition(":")
    repository, _, revision = rest.partition("@")
    if kind not in ("", "dataset", "model") or repository.count("/") != 1:
        raise HeadwaterError(
            f"{name!r} names no run on the hub. Write owner/name for a dataset, model:owner/name for a model."
        )
    try:
        snapshot_download(repository, repo_type=kind or "dataset", revision=revision or None, local_dir=path)
    except (OSError, ValueError) as error:
        raise HeadwaterError(
            f"Cannot fetch the run {name!r} from the hub: {first_line(error)}. If it is private, set HF_TOKEN in the "
            "environment."
        ) from error
    if not (Path(path) / "manifest.json").exists():
        raise HeadwaterError(f"The hub repository {name!r} holds no run: it has no manifest.json at its top.")
    return Path(path)
