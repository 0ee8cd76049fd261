"""Checking the files of a run against their checksums and fingerprints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from headwater.attribution.index.table import Table, open_table
from headwater.attribution.scan import undamaged
from headwater.base.files import load_tensors
from headwater.corpus.corpus import Corpus
from headwater.corpus.sources import location, mark_of
from headwater.corpus.store import Segment, recounted
from headwater.corpus.streamed import STREAMED, StreamedSegment
from headwater.errors import HeadwaterError, first_line
from headwater.runs.manifest import Manifest, read_manifest, require_same
from headwater.runs.paths import RunPaths


@dataclass(frozen=True)
class Finding:
    """The result of checking one part of a run."""

    part: str
    """The file, relative to the run, or the name of the part."""
    detail: str
    """The comparison that passed, or what is wrong."""
    fix: str | None = None
    """The command or step that fixes it; None if nothing is wrong."""


def check_run(path: Path, *, repair: bool = False) -> Iterator[Finding]:
    """Compare every part of the run at `path` with its checksum or fingerprint.

    With `repair`, damaged files that can be made again are deleted, and damaged rows are deleted from the index. The
    commands in the findings then make only these parts again. Raises HeadwaterError if `path` is not a run.
    """
    manifest = read_manifest(path)
    yield Finding("manifest.json", "it can be read")
    make_again = "Make the run again: its corpus cannot be recovered from the other files."
    for file in sorted(RunPaths(path).corpus_folder.glob("*.arrow")):
        wanted = manifest.corpus.counts.fingerprint if file.name == "examples.arrow" else None
        detail = "its examples match their fingerprint"
        yield _found(f"corpus/{file.name}", partial(_corpus, file, wanted), make_again, detail=detail)
    if manifest.corpus.root is not None:
        yield from _streamed(path, manifest, manifest.corpus.root, repair=repair)
    fit = f"headwater fit {path}"
    for file in sorted(RunPaths(path).curvature_folder.rglob("*.safetensors")):
        finding = _found(str(file.relative_to(path)), partial(load_tensors, file), fit, detail="its checksum matches")
        yield _deleted(file, finding, repair)
    later = "It is computed again when it is needed."
    for file in sorted(RunPaths(path).scores.glob("*.parquet")):
        finding = _found(f"scores/{file.name}", partial(_pages, file), later, detail="its page checksums match")
        yield _deleted(file, finding, repair)
    yield from _index(path, manifest.store or str(RunPaths(path).index), repair)


def _found(part: str, check: Callable[[], object], fix: str, *, detail: str = "") -> Finding:
    """The finding of calling `check`: it passes, or it raises."""
    try:
        check()
    except (HeadwaterError, pa.ArrowException, OSError, ValueError, KeyError) as error:
        return Finding(part, f"{first_line(error)}.", fix)
    return Finding(part, detail)


def _deleted(file: Path, finding: Finding, repair: bool) -> Finding:
    """Delete the file if it is damaged and `repair` is given; otherwise the fix says to delete it."""
    if finding.fix is None:
        return finding
    if not repair:
        return replace(finding, fix=f"Delete it, then: {finding.fix}")
    file.unlink()
    return replace(finding, detail=f"{finding.detail} It was deleted.")


def _corpus(path: Path, wanted: str | None) -> None:
    segment = Segment(path)
    fingerprint, checksum = recounted(segment)
    require_same(f"The fingerprint of {path}", segment.counts.fingerprint, fingerprint, fix="Its tokens have changed.")
    if segment.counts.checksum:  # files of earlier versions have none
        require_same(f"The checksum of {path}", segment.counts.checksum, checksum, fix="Its texts have changed.")
    if wanted is not None:
        require_same("The fingerprint in the manifest", wanted, fingerprint, fix="One of the two has changed.")


def _streamed(path: Path, manifest: Manifest, root: str, *, repair: bool) -> Iterator[Finding]:
    """Findings of the catalogues of a streamed corpus and of its source files. All that pass are one finding."""
    again = f"headwater fit {path} --model {manifest.model.name} --corpus '{manifest.corpus.source}' --stream"
    files = sorted((RunPaths(path).corpus_folder / STREAMED).glob("*.arrow"))
    wrong = 0
    for file in files:
        found = _found(f"corpus/{STREAMED}/{file.name}", partial(_catalogue, file), again)
        if found.fix is not None:
            found = _deleted(file, found, repair)
        else:
            fix = f"Restore the file. If it has the same examples: {again}"
            found = _found(location(root, StreamedSegment(file).header.name), partial(_source, file, root), fix)
        if found.fix is not None:
            wrong += 1
            yield found
    if not wrong:
        detail = f"{len(files):,} files have the sizes, and the times or etags, that were catalogued"
        yield _found(f"corpus/{STREAMED}", partial(_whole, path, manifest), again, detail=detail)


def _catalogue(path: Path) -> None:
    if not StreamedSegment(path).is_whole():
        raise HeadwaterError(f"{path} does not match its checksum")


def _source(path: Path, root: str) -> None:
    segment = StreamedSegment(path)
    url, mark = location(root, segment.header.name), segment.header.mark
    now = mark_of(url)
    if not mark.matches(now):
        raise HeadwaterError(f"It has changed since it was catalogued: {mark} then, {now} now")


def _whole(path: Path, manifest: Manifest) -> None:
    """Raises HeadwaterError if a catalogue is missing."""
    found = Corpus(RunPaths(path).corpus).base_fingerprint
    require_same("The fingerprint of all catalogues", manifest.corpus.counts.fingerprint, found, fix="One is missing.")


def _pages(path: Path) -> None:
    if not undamaged(path):
        raise HeadwaterError(f"{path} does not match its checksums")


def _index(path: Path, url: str, repair: bool) -> Iterator[Finding]:
    """Findings of the rows of the index."""
    command = f"headwater index {path}"
    try:
        table = open_table(url)
        if table is None:
            return
        if not table.has_checksums:
            yield Finding("index", "it can be read; an earlier version made it without checksums", None)
            return
        damaged = table.damaged()
    except Exception as error:  # LanceDB raises many types for damaged files
        yield Finding("index", f"it cannot be read: {first_line(error)[:200]}", f"Delete {url}, then: {command}")
        return
    if not damaged:
        yield Finding("index", f"{len(table):,} rows match their checksums")
        return
    ids = _ids(path, table, damaged)
    if repair:
        table.delete(damaged)
        yield Finding("index", f"{len(damaged):,} rows were damaged ({ids}) and were deleted.", command)
    else:
        fix = f"headwater check {path} --repair, then: {command}"
        yield Finding("index", f"{len(damaged):,} rows are damaged: {ids}", fix)


def _ids(path: Path, table: Table, keys: list[int]) -> str:
    """The ids of the first five examples among the rows with these keys."""
    corpus = Corpus(RunPaths(path).corpus)
    names = [json.dumps(corpus.ids_by_key[key]) for key in keys[:5]]
    return ", ".join([*names, "…"] if len(keys) > 5 else names)
