"""Whether every file of a run is as it was written, and how to fix what is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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
    """What became of checking one part of a run."""

    part: str
    """The file, or what it holds, relative to the run."""
    said: str
    """What was compared, or what is wrong."""
    fix: str | None = None
    """What to do about it; None: nothing is wrong."""


def check_run(path: Path, *, repair: bool = False) -> Iterator[Finding]:
    """Every part of the run at `path`, compared with its checksum or fingerprint.

    With `repair`, damaged files that can be made anew are deleted, and damaged rows taken out of the index; the
    commands that the findings name then make only those anew. Raises HeadwaterError where `path` is no run.
    """
    manifest = read_manifest(path)
    yield Finding("manifest.json", "it can be read")
    anew = "Make the run again: what it was made from cannot be recovered from it."
    for file in sorted(RunPaths(path).corpus_folder.glob("*.arrow")):
        wanted = manifest.corpus.counts.fingerprint if file.name == "examples.arrow" else None
        yield _found(f"corpus/{file.name}", "its examples are those that were written", anew, _corpus, file, wanted)
    if manifest.corpus.root is not None:
        yield from _streamed(path, manifest, manifest.corpus.root, repair=repair)
    fit = f"headwater fit {path}"
    for file in sorted(RunPaths(path).curvature_folder.rglob("*.safetensors")):
        finding = _found(str(file.relative_to(path)), "its checksum is right", fit, load_tensors, file)
        yield _deleted(file, finding, repair)
    again = "It is made anew when it is needed."
    for kept in sorted(RunPaths(path).scores.glob("*.parquet")):
        yield _deleted(kept, _found(f"scores/{kept.name}", "its pages are whole", again, _pages, kept), repair)
    yield from _index(path, manifest.store or str(RunPaths(path).index), repair)


def _found(part: str, said: str, fix: str, check: Callable[..., object], *arguments: object) -> Finding:
    """Whether `check` passes with the `arguments`."""
    try:
        check(*arguments)
    except (HeadwaterError, pa.ArrowException, OSError, ValueError, KeyError) as error:
        return Finding(part, f"{first_line(error)}.", fix)
    return Finding(part, said)


def _deleted(file: Path, finding: Finding, repair: bool) -> Finding:
    """Delete a damaged file where that is asked for."""
    if finding.fix is None or not repair:
        return (
            finding if finding.fix is None else Finding(finding.part, finding.said, f"Delete it, then: {finding.fix}")
        )
    file.unlink()
    return replace(finding, said=f"{finding.said} It was deleted.")


def _corpus(path: Path, wanted: str | None) -> None:
    segment = Segment(path)
    fingerprint, checksum = recounted(segment)
    require_same(f"The fingerprint of {path}", segment.counts.fingerprint, fingerprint, fix="Its tokens have changed.")
    if segment.counts.checksum:  # older files have none
        require_same(f"The checksum of {path}", segment.counts.checksum, checksum, fix="Its texts have changed.")
    if wanted is not None:
        require_same("The fingerprint in the manifest", wanted, fingerprint, fix="One of the two has changed.")


def _streamed(path: Path, manifest: Manifest, root: str, *, repair: bool) -> Iterator[Finding]:
    """The catalogues of a streamed corpus, and the files they are of; whatever is whole in one finding."""
    again = f"headwater fit {path} --model {manifest.model.name} --corpus '{manifest.corpus.source}' --stream"
    files = sorted((RunPaths(path).corpus_folder / STREAMED).glob("*.arrow"))
    wrong = 0
    for file in files:
        found = _found(f"corpus/{STREAMED}/{file.name}", "", again, _catalogue, file)
        if found.fix is not None:
            found = _deleted(file, found, repair)
        else:
            fix = f"Put it back as it was; or, where it holds the same examples: {again}"
            found = _found(location(root, StreamedSegment(file).header.name), "", fix, _source, file, root)
        if found.fix is not None:
            wrong += 1
            yield found
    if not wrong:
        said = f"{len(files):,} files are as they were catalogued, by their sizes and times or etags"
        yield _found(f"corpus/{STREAMED}", said, again, _whole, path, manifest)


def _catalogue(path: Path) -> None:
    if not StreamedSegment(path).is_whole():
        raise HeadwaterError(f"{path} is not as it was written")


def _source(path: Path, root: str) -> None:
    segment = StreamedSegment(path)
    url, mark = location(root, segment.header.name), segment.header.mark
    now = mark_of(url)
    if not mark.matches(now):
        raise HeadwaterError(f"It was written anew since it was catalogued: {mark} then, {now} now")


def _whole(path: Path, manifest: Manifest) -> None:
    """Whether no catalogue is missing."""
    found = Corpus(RunPaths(path).corpus).base_fingerprint
    require_same("The fingerprint of all catalogues", manifest.corpus.counts.fingerprint, found, fix="One is missing.")


def _pages(path: Path) -> None:
    if not undamaged(path):
        raise HeadwaterError(f"{path} is not as it was written")


def _index(path: Path, url: str, repair: bool) -> Iterator[Finding]:
    """The index's rows, one by one."""
    command = f"headwater index {path}"
    try:
        table = open_table(url)
        if table is None:
            return
        if not table.has_checksums:
            yield Finding("index", "it was made without checksums, and can be read", None)
            return
        damaged = table.damaged()
    except Exception as error:  # LanceDB raises what it likes where a file is damaged
        yield Finding("index", f"it cannot be read: {first_line(error)[:200]}", f"Delete {url}, then: {command}")
        return
    if not damaged:
        yield Finding("index", f"{len(table):,} rows have their checksums")
        return
    ids = _ids(path, table, damaged)
    if repair:
        table.delete(damaged)
        yield Finding("index", f"{len(damaged):,} rows were damaged ({ids}) and were taken out.", command)
    else:
        fix = f"headwater check {path} --repair, then: {command}"
        yield Finding("index", f"{len(damaged):,} rows are damaged: {ids}", fix)


def _ids(path: Path, table: Table, keys: list[int]) -> str:
    """The examples that rows are of, as far as they fit on a line."""
    corpus = Corpus(RunPaths(path).corpus)
    names = [json.dumps(corpus.ids_by_key[key]) for key in keys[:5]]
    return ", ".join([*names, "…"] if len(keys) > 5 else names)
