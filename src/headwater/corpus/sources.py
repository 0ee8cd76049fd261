"""The files of a corpus, in a local directory or wherever fsspec can read, and the names of their rows."""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BufferedReader
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from fsspec.core import has_magic, url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations

from headwater.corpus.compression import COMPRESSED
from headwater.corpus.formats import READABLE, STREAMABLE, format_of, read_open, stem_of, unreadable
from headwater.corpus.rows import CHUNK, Bad, Row, clean
from headwater.corpus.splits import choose
from headwater.errors import CorpusError, first_line

ASIDE_NAMES = ("readme", "license", "licence", "notice", "changelog", "copying", "citation")
ASIDE_SUFFIXES = (".md", ".rst")
ASIDE_JSON = ("config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json")
"""What the datasets library writes beside the data."""
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:.+)?")
TAGS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "last_modified", "LastModified", "updated", "created")
"""Names that file systems give to what identifies a version of a file. The most reliable come first."""


@dataclass(frozen=True)
class Origin:
    """Names of the rows of one file."""

    name: str
    """In the source of an example: the file, relative to the given directory."""
    stem: str
    """In the ids of records that have no id."""
    before: int = 0
    """Number of rows in earlier files, if several files are numbered as one."""

    def place(self, number: int) -> str:
        """File and number of a row, for people."""
        return f"{self.name}:{self.before + number}"


@dataclass(frozen=True)
class SourceFile:
    """A file of a streamed corpus."""

    name: str
    """Path relative to the root of the source. Empty if the root is the file itself."""
    kind: str
    """Its format: one of STREAMABLE."""
    origin: Origin


@dataclass(frozen=True, kw_only=True)
class Source:
    """The files of a streamed corpus, in order."""

    root: str
    """Absolute path or URL of the folder that contains all files, or of the only file."""
    files: tuple[SourceFile, ...]
    given: str
    """The source as it was given. A path is made absolute."""
    as_one: bool = False
    """Whether the rows of all files are numbered as if they were one file."""
    note: str = ""
    """Which files of a folder were chosen, in one line. Empty if all were."""


@dataclass(frozen=True)
class Mark:
    """Size and tag of a file, which change if another file is written in its place."""

    size: int
    tag: str
    """An etag or a time. Empty if the file system has none."""

    def matches(self, other: Mark) -> bool:
        return self.size == other.size and (not self.tag or not other.tag or self.tag == other.tag)

    def __str__(self) -> str:
        return f"{self.size:,} bytes" + (f" ({self.tag})" if self.tag else "")


def is_url(source: str | Path) -> bool:
    return "://" in str(source)


def path_or_url(text: str) -> str | Path:
    """A URL and `-` unchanged; any other text as a path, never as the name of a dataset."""
    return text if is_url(text) or text == "-" else Path(text)


def streams(source: str | Path, asked: bool) -> bool:
    """Whether the texts of a source are streamed: always from a URL, from other sources if `asked`."""
    return asked or is_url(source)


def is_dataset(source: str | Path) -> bool:
    """Whether `source` is the name of a hub dataset rather than a path.

    Raises CorpusError if there is no such file or directory, and it cannot be the name of a dataset.
    """
    if not str(source):
        raise CorpusError("No corpus was named. Give a file, a directory, or a dataset as owner/name.")
    path = Path(source).expanduser()
    if path.exists():
        return False
    if isinstance(source, Path) or source.startswith((".", "/", "~")) or format_of(path):
        folder = "" if path.parent.is_dir() else f" There is no directory {path.parent} either."
        raise CorpusError(f"There is no file {path}.{folder}{_near(path)}")
    if not HUB_NAME.fullmatch(source):
        raise CorpusError(f"There is no file or directory {source}, and a dataset is named owner/name.{_near(path)}")
    return True


def no_dataset(name: str, error: Exception) -> CorpusError:
    """The error for a hub dataset that cannot be read."""
    cause = (shortened(str(error)) or type(error).__name__).rstrip(".")
    return CorpusError(
        f"There is no file {name}, and it cannot be read as a dataset of the hub: {cause}.{_near(Path(name))}"
    )


def _near(path: Path) -> str:
    """A sentence with similar names in the folder of `path`. Empty if there are none."""
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = [str(path.with_name(name)) for name in difflib.get_close_matches(path.name, siblings)]
    return f" Did you mean {' or '.join(near)}?" if near else ""


def shortened(text: str) -> str:
    """`text` on one line of at most 300 characters."""
    words = " ".join(text.split())
    return words if len(words) <= 300 else words[:299] + "…"


def require_no_split(path: str | Path, split: str) -> None:
    """Raises CorpusError if a split is asked of a single file."""
    if split not in ("train", "all"):
        raise CorpusError(f"{path} is one file, and a file has no splits. Leave out --split {split}.")


# --- the files of a directory ---


def origin_of(name: str) -> Origin:
    """Names of the rows of a single file."""
    return Origin(clean(name), clean(stem_of(name)))


def files_below(folder: Path) -> Iterator[str]:
    """All files below `folder`, also in linked folders. A link to a folder that it is in is not followed."""
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        above = {os.path.realpath(parent) for parent in (here, *here.parents)}
        folders[:] = [name for name in folders if not ((here / name).is_symlink() and _is_one_of(here / name, above))]
        yield from ((here / name).relative_to(folder).as_posix() for name in names)


def _is_one_of(folder: Path, others: set[str]) -> bool:
    return os.path.realpath(folder) in others


def origins_below(folder: Path, split: str = "train") -> tuple[list[tuple[str, Origin]], str]:
    """The files of a split below `folder`, in order of their names, and which these are, in one line.

    Raises CorpusError if one of them cannot be read, if there is none, or if the folder lacks the split.
    """
    return _origins(files_below(folder), folder, split)


def _origins(names: Iterable[str], folder: str | Path, split: str = "all") -> tuple[list[tuple[str, Origin]], str]:
    data = [str(path) for path in sorted(map(PurePosixPath, names)) if not _is_aside(path)]
    if not data:
        raise CorpusError(f"The directory {folder} contains no file that can be read ({READABLE}).")
    chosen = choose(data, split, str(folder))
    for name in chosen.names:
        if not format_of(PurePosixPath(name)):
            raise CorpusError(
                f"{unreadable(PurePosixPath(f'{folder}/{name}'))} If it is no part of the corpus, move it elsewhere, "
                "or start its name with a dot."
            )
    cleaned = [clean(name) for name in chosen.names]
    stems = Counter(map(stem_of, cleaned))
    origins = [Origin(name, stem_of(name) if stems[stem_of(name)] == 1 else name) for name in cleaned]
    return list(zip(chosen.names, origins, strict=True)), chosen.note


def _is_aside(relative: PurePosixPath) -> bool:
    """Whether a file in a data directory is hidden, or describes the data, such as a readme."""
    name = relative.name.lower()
    if any(part.startswith(".") for part in relative.parts):
        return True
    if format_of(relative):
        return name in ("readme.txt", "license.txt", "licence.txt", *ASIDE_JSON)
    return name.startswith(("_", *ASIDE_NAMES)) or relative.suffix.lower() in ASIDE_SUFFIXES


# --- files that are streamed ---


def find_source(source: str | Path, split: str = "train") -> Source:
    """The files of `source`: a path or URL of a file or directory, a glob, or a hub dataset with its `split`.

    Raises CorpusError if there is no file, if one has a format that cannot be streamed, or if it is unreachable.
    """
    text = str(source)
    if "::" in text:
        raise CorpusError(f"{text}: chained URLs (::) cannot be streamed. Unpack the files, and give their path.")
    if not is_url(source) and not has_magic(text) and is_dataset(source):
        return _dataset_files(text, split)
    system, path = filesystem_of(text)
    try:
        system.invalidate_cache()
        root, files, note = _listed(system, path, split)
    except CorpusError:
        raise
    except Exception as error:  # a file system may raise anything
        raise unreachable(text, error) from error
    if isinstance(system, LocalFileSystem):
        return Source(root=root, files=files, given=path, note=note)
    return Source(root=str(system.unstrip_protocol(root)), files=files, given=text, note=note)


def _listed(system: Any, path: str, split: str) -> tuple[str, tuple[SourceFile, ...], str]:
    """The root and the files at a path of a file system, and which files of a folder were chosen."""
    web = path.startswith(("http://", "https://"))  # ? and * may be part of a web address
    if system.isfile(path) or web:
        name = PurePosixPath(urlsplit(path).path if web else path).name
        require_no_split(path, split)
        return path, (_streamable(name, origin_of(name), ""),), ""
    if has_magic(path):
        split = "all"  # a pattern chooses the files
        root = path[: re.search(r"[*?\[]", path).start()].rpartition("/")[0]  # pyright: ignore[reportOptionalMemberAccess]
        found = [name for name, info in system.glob(path, detail=True).items() if info["type"] == "file"]
    elif isinstance(system, LocalFileSystem) and system.isdir(path):
        root, found = path, [f"{path}/{name}" for name in files_below(Path(path))]
    else:
        root, found = path.rstrip("/"), list(system.find(path))
    if not found:
        raise CorpusError(f"There is no file at {path}. Write a glob as {path.rstrip('/')}/*.parquet, in quotes.")
    names = [PurePosixPath(file).relative_to(root or "/").as_posix() for file in found]
    origins, note = _origins(names, root, split)
    return root, tuple(_streamable(name, origin, name) for name, origin in origins), note


def _streamable(called: str, origin: Origin, name: str) -> SourceFile:
    """A file of a streamed corpus. Raises CorpusError if single rows of the file named `called` cannot be read."""
    kind = format_of(PurePosixPath(called))
    if kind not in STREAMABLE or called.lower().endswith(COMPRESSED):
        raise CorpusError(
            f"{called} cannot be streamed: only Parquet and uncompressed JSONL ({', '.join(STREAMABLE)}) can, because "
            "single rows of other formats cannot be found. Convert it to Parquet, or copy it to this machine and into "
            "the run by leaving --stream out."
        )
    return SourceFile(name, kind, origin)


def _dataset_files(name: str, split: str) -> Source:
    """The files of a hub dataset, at its present revision."""
    import datasets

    repository, _, config = name.partition(":")
    try:
        found: Any = datasets.load_dataset_builder(repository, config or None).config.data_files
    except Exception as error:
        raise no_dataset(name, error) from None
    if not found or split not in found:
        splits = f"It has {', '.join(map(str, found))}." if found else "It lists no files."
        raise CorpusError(f"{name} has no files for the split {split!r} (--split). {splits}")
    urls = [str(url) for url in found[split]]
    root = _common_folder(urls)
    called = f"{repository}/{split}"
    names = [url.removeprefix(root).lstrip("/") if root else url for url in urls]
    files = tuple(_streamable(each, Origin(called, called), each) for each in names)
    return Source(root=root, files=files, given=name, as_one=True)


def _common_folder(urls: Sequence[str]) -> str:
    """The folder that contains all URLs. Empty if that is only a host."""
    parts = zip(*(url.split("/")[:-1] for url in urls), strict=False)
    common = [each[0] for each in takewhile(lambda each: len(set(each)) == 1, parts)]
    return "/".join(common) if len(common) > 3 else ""


def location(root: str, name: str) -> str:
    """Path or URL of a file of a source."""
    return f"{root.rstrip('/')}/{name}" if root and name else root or name


def filesystem_of(url: str) -> tuple[Any, str]:
    """The file system of a path or URL, and the path in it.

    Raises CorpusError if the package of the file system is not installed, and if its protocol is unknown.
    """
    try:
        return url_to_fs(url if is_url(url) else str(Path(url).expanduser().absolute()))
    except ImportError as error:
        protocol = url.partition("://")[0]
        known: Any = known_implementations.get(protocol, {})
        package = known.get("class", "").partition(".")[0]
        package = {"fsspec": "aiohttp requests"}.get(package, package)
        raise CorpusError(
            f"{url}: reading {protocol}:// needs a package that is missing. Install it with: pip install {package}"
        ) from error
    except ValueError as error:
        raise CorpusError(f"{url} cannot be read: {first_line(error)}.") from error


def mark_of(url: str) -> Mark:
    """The mark of the file at `url`. Raises CorpusError if the file does not exist or is unreachable."""
    system, path = filesystem_of(url)
    try:
        info: Any = system.info(path)
    except Exception as error:
        raise unreachable(url, error) from error
    tag = next((str(info[name]) for name in TAGS if info.get(name)), "")
    return Mark(int(info.get("size") or 0), tag)


def unreachable(url: str, error: Exception) -> CorpusError:
    """The error for a file that its file system does not return."""
    cause = "there is no such file" if isinstance(error, FileNotFoundError) else shortened(str(error)) or repr(error)
    return CorpusError(
        f"{url} cannot be read: {cause.rstrip('.')}. Check that it exists, that you may read it, and that the network "
        "works. Credentials come from where its file system looks for them."
    )


def rows_of(url: str, kind: str) -> Iterator[Row | Bad]:
    """The rows of a streamed file, from its beginning. Raises CorpusError if it cannot be read."""
    system, path = filesystem_of(url)
    try:
        with BufferedReader(system.open(path, "rb"), CHUNK) as file:
            yield from read_open(file, kind, url)
    except CorpusError:
        raise
    except Exception as error:
        raise unreachable(url, error) from error


def streamed_rows(source: Source) -> Iterator[tuple[Origin, Row | Bad]]:
    """The rows of all files of a source, in order."""
    before = 0
    for file in source.files:
        origin, row = replace(file.origin, before=before), None
        for row in rows_of(location(source.root, file.name), file.kind):
            yield origin, row
        before += row.number if row and source.as_one else 0
