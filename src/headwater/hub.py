"""Fetching a finished run from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download

from headwater.errors import HeadwaterError


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
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise HeadwaterError(
            f"Cannot fetch the run {name!r} from the hub: {first} If it is private, set HF_TOKEN in the environment."
        ) from error
    if not (Path(path) / "manifest.json").exists():
        raise HeadwaterError(f"The hub repository {name!r} holds no run: it has no manifest.json at its top.")
    return Path(path)
