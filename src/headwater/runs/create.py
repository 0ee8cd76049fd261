"""Creating a run: its corpus, copied into the run or catalogued in place, and its manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from headwater.base.lock import abandon, exclusive
from headwater.base.logs import tell
from headwater.base.progress import Report, Step, silent
from headwater.base.version import __version__
from headwater.corpus.catalogue import PART, catalogue, finished, publish, skipped_in
from headwater.corpus.chat import Note, renderer
from headwater.corpus.corpus import Corpus
from headwater.corpus.objects import CorpusSource, described, is_objects
from headwater.corpus.options import CorpusOptions, ReadOptions
from headwater.corpus.piped import is_piped
from headwater.corpus.read import Skipped, read_records, with_layout
from headwater.corpus.sources import find_source, streamed_rows, streams
from headwater.corpus.store import CorpusCounts, Cutting, fingerprint_records, write_corpus
from headwater.corpus.streamed import SourceReader, counts_of
from headwater.errors import FingerprintMismatch, HeadwaterError, ModelError
from headwater.lm.in_memory import model_in_memory
from headwater.lm.load import LanguageModel, load_model
from headwater.lm.options import Loading
from headwater.runs.manifest import CorpusEntry, Manifest, ModelEntry, loading_fields, read_manifest, require_same
from headwater.runs.paths import RunPaths

Model = str | Path | LanguageModel | PreTrainedModel | tuple[PreTrainedModel, PreTrainedTokenizerBase]
"""A model: its name or path, loaded by Headwater or by transformers, alone or with its tokenizer."""


def limit_of(options: CorpusOptions, lm: LanguageModel) -> int:
    """Maximum number of tokens of an example: that of the options, and at most the model's context."""
    return min(options.max_tokens or lm.max_positions, lm.max_positions)


def open_corpus(path: Path, lm: LanguageModel, entry: CorpusEntry) -> Corpus:
    """The corpus of the run at `path`. The texts of a streamed corpus can be read too."""
    if entry.root is None:
        return Corpus(RunPaths(path).corpus)
    options = ReadOptions(**entry.options)
    cutting = Cutting(lm.tokenizer, entry.max_tokens, entry.long_texts, entry.one_bos)
    return Corpus(
        RunPaths(path).corpus,
        _reader(entry.root, lm, options, cutting=cutting),
    )


def make_corpus(
    path: Path,
    lm: LanguageModel,
    corpus: CorpusSource,
    *,
    options: CorpusOptions,
    skipped: list[Skipped],
    report: Report = silent,
) -> Manifest:
    """Write the corpus and the manifest of the run at `path`. For an existing run, compare the fingerprints instead.

    `skipped` collects bad examples. Raises CorpusError for a bad corpus, and FingerprintMismatch if the existing run
    has another model, tokenizer or corpus.
    """
    known = read_manifest(path) if RunPaths(path).manifest.exists() else None
    streamed = isinstance(corpus, str | Path) and not is_piped(corpus) and streams(corpus, options.read.stream)
    if known is not None:
        _require_same_way(path, known, streamed)
    model = ModelEntry(
        name=lm.name,
        fingerprint=lm.fingerprint,
        tokenizer=lm.tokenizer_fingerprint,
        in_memory=lm.in_memory,
        **loading_fields(lm.loading),
    )
    with _tidied(path), exclusive(path):
        if not streamed or not isinstance(corpus, str | Path):
            entry = _copied(path, lm, corpus, options=options, skipped=skipped, known=known)
        else:
            entry = _streamed(path, lm, corpus, options=options, skipped=skipped, known=known, report=report)
        made = Manifest(version=__version__, model=model, corpus=entry)
        if known is not None:
            try:
                require_same_origin(path, known, made.binding())
            except FingerprintMismatch:
                shutil.rmtree(RunPaths(path).corpus_folder / PART, ignore_errors=True)
                raise
            made = replace(known, corpus=entry if streamed else known.corpus, model=_latest(known.model, lm))
        if (RunPaths(path).corpus_folder / PART).exists() and streamed:
            publish(RunPaths(path).corpus_folder)
        if made != known:
            made.write(path)
    return made


def model_of(model: Model, loading: Loading) -> LanguageModel:
    """The model of this name, or of this object. Raises ModelError if it cannot be loaded."""
    if isinstance(model, LanguageModel):
        return model
    if not isinstance(model, str | Path):
        return model_in_memory(model, loading)
    there = {name: absolute(value) for name in ("tokenizer", "base") if (value := getattr(loading, name)) is not None}
    return load_model(absolute(str(model)), replace(loading, **there))


def model_of_run(path: Path, manifest: Manifest, model: Model | None = None) -> LanguageModel:
    """The model of the run at `path`, loaded by its name unless it is given.

    Raises ModelError if it cannot be loaded, or if the run was made of a model in memory and none is given.
    """
    entry = manifest.model
    if model is not None:
        return model_of(model, entry.loading if isinstance(model, str | Path) else Loading())
    if entry.in_memory:
        raise ModelError(
            f"The run {path} was made of a model in memory ({entry.name}), which it does not keep. Pass it: "
            f"Run.open({str(path)!r}, model=(model, tokenizer)). For the command line, save both by "
            f"save_pretrained(FOLDER) and run: headwater fit {path} --model FOLDER"
        )
    return load_model(entry.name, entry.loading)


def keep_model(path: Path, model: Model, loading: Loading) -> LanguageModel:
    """Load the model of the run at `path` from another place, from which the run loads it from now on.

    Raises FingerprintMismatch if it is another model.
    """
    lm, manifest = model_of(model, loading), read_manifest(path)
    check_origin(path, manifest, lm)
    with exclusive(path):
        replace(manifest, model=replace(_latest(manifest.model, lm), name=lm.name)).write(path)
    return lm


def _latest(known: ModelEntry, lm: LanguageModel) -> ModelEntry:
    """The entry of a run's model with the latest settings of loading it, and a name, if it has had none."""
    if lm.in_memory:
        return known
    name = lm.name if known.in_memory else known.name
    return replace(known, name=name, in_memory=False, **loading_fields(lm.loading))


def require_same_origin(path: Path, manifest: Manifest, found: dict[str, str]) -> None:
    """Raises FingerprintMismatch if the model, tokenizer or corpus of a run differs from those `found`."""
    for what, expected in manifest.binding().items():
        require_same(
            f"The {what} of the run {path}",
            expected,
            found[what],
            fix="A run belongs to one model, tokenizer and corpus. Use another directory for a new run.",
        )


def check_origin(path: Path, manifest: Manifest, lm: LanguageModel) -> None:
    """Raises FingerprintMismatch if the run at `path` has another model, or its corpus has changed."""
    found = {
        "model": lm.fingerprint,
        "tokenizer": lm.tokenizer_fingerprint,
        "corpus": Corpus(RunPaths(path).corpus).base_fingerprint,
    }
    require_same_origin(path, manifest, found)


def absolute(name: str) -> str:
    """The absolute path of a local file, so that the run opens from every directory; a hub name unchanged."""
    local = Path(name).expanduser()
    return str(local.resolve()) if local.exists() else name


def _copied(
    path: Path,
    lm: LanguageModel,
    corpus: CorpusSource,
    *,
    options: CorpusOptions,
    skipped: list[Skipped],
    known: Manifest | None,
) -> CorpusEntry:
    """Copy the texts into the run. If it has them already, only count and fingerprint the texts of the source."""
    notes: list[str] = []
    layouts: list[ReadOptions] = []
    note = telling(notes)
    records = read_records(
        corpus,
        options.read,
        skipped.append,
        render=renderer(lm.tokenizer, note),
        note=note,
        on_layout=layouts.append,
    )
    limit, long, one_bos = limit_of(options, lm), options.long_texts, _one_bos(known)
    if known is None:
        counts = write_corpus(RunPaths(path).corpus, records, lm.tokenizer, max_tokens=limit, long_texts=long)
    else:
        like = known.corpus.counts.fingerprint
        counts = fingerprint_records(records, lm.tokenizer, limit, long_texts=long, one_bos=one_bos, like=like)
    _tell_bos(counts, lm, one_bos, note=telling(notes))
    source = described(corpus) if is_piped(corpus) or is_objects(corpus) else absolute(str(corpus))
    options = replace(options, read=layouts[-1])
    entry = _entry(source, None, lm, options=options, counts=counts, skipped=len(skipped))
    return replace(entry, notes=tuple(notes), one_bos=one_bos)


def _streamed(
    path: Path,
    lm: LanguageModel,
    corpus: str | Path,
    *,
    options: CorpusOptions,
    skipped: list[Skipped],
    known: Manifest | None,
    report: Report,
) -> CorpusEntry:
    """Catalogue the source. Files that are catalogued already and have not changed are not read again."""
    options = replace(options, read=replace(options.read, stream=True))
    source, notes = find_source(corpus, options.read.split), list[str]()
    if source.note:
        telling(notes)(source.note)
    one_bos = _one_bos(known)
    read, _ = with_layout(streamed_rows(source), options.read, telling(notes))
    options = replace(options, read=read)
    cutting = Cutting(lm.tokenizer, limit_of(options, lm), options.long_texts, one_bos)
    reader = _reader(source.root, lm, options.read, cutting=cutting, note=telling(notes))

    def progress(files: int, total: int, examples: int) -> None:
        report(Step(stage="catalogue", done=files, total=total, tokens=0, note=f"files; {examples:,} examples"))

    folder = RunPaths(path).corpus_folder
    if known is not None and known.corpus.root == source.root and finished(folder, source, reader):
        heads = [segment.header for segment in Corpus(RunPaths(path).corpus).streamed]
    else:
        like = None if known is None else known.corpus.counts.fingerprint
        heads = catalogue(folder, source, reader, progress=progress, like=like)
    count, first = skipped_in(heads)
    skipped += first
    counts = counts_of(heads)
    _tell_bos(counts, lm, one_bos, note=telling(notes))
    entry = _entry(source.given, source.root, lm, options=options, counts=counts, skipped=count)
    return replace(entry, notes=tuple(notes), one_bos=one_bos)


def telling(notes: list[str]) -> Callable[[str], None]:
    """What tells and keeps each note about how a corpus is read."""

    def note(text: str) -> None:
        notes.append(text)
        tell(text)

    return note


def _tell_bos(counts: CorpusCounts, lm: LanguageModel, one_bos: bool, *, note: Callable[[str], None]) -> None:
    """Tell how many texts begin with the BOS word, which the model reads once."""
    if one_bos and counts.wrote_bos:
        note(
            f"Texts that begin with {lm.tokenizer.bos_token}, which the tokenizer adds to every text: "
            f"{counts.wrote_bos:,} of {counts.records:,}. It is read once, not twice."
        )


def _entry(
    source: str, root: str | None, lm: LanguageModel, *, options: CorpusOptions, counts: CorpusCounts, skipped: int
) -> CorpusEntry:
    read = asdict(options.read)
    return CorpusEntry(
        source=source,
        max_tokens=limit_of(options, lm),
        long_texts=options.long_texts,
        options=read,
        counts=counts,
        skipped=skipped,
        root=root,
    )


def _one_bos(known: Manifest | None) -> bool:
    """How the examples of a run are cut (see Cutting). A run that exists is compared as it was cut."""
    return known is None or known.corpus.one_bos


def _reader(
    root: str, lm: LanguageModel, options: ReadOptions, *, cutting: Cutting, note: Note | None = None
) -> SourceReader:
    return SourceReader(
        root=root,
        options=options,
        cutting=cutting,
        tokenizer=lm.tokenizer_fingerprint,
        render=renderer(lm.tokenizer, note),
    )


def _require_same_way(path: Path, known: Manifest, streamed: bool) -> None:
    """Raises HeadwaterError if a run has its own texts and is now to be streamed, or the reverse."""
    if streamed and known.corpus.root is None:
        raise HeadwaterError(
            f"The run {path} has its own copy of the texts. Leave out --stream, or use another directory for a run "
            "that streams them."
        )
    if not streamed and known.corpus.root is not None:
        raise HeadwaterError(
            f"The run {path} streams its texts. Add --stream, or use another directory for a run with its own copy."
        )


@contextmanager
def _tidied(path: Path) -> Iterator[None]:
    """Remove empty directories of the run if the block fails."""
    try:
        yield
    except BaseException:
        for folder in (RunPaths(path).corpus_folder / PART, RunPaths(path).corpus_folder):
            with suppress(OSError):  # it fails if the directory is not empty
                folder.rmdir()
        with suppress(OSError):
            abandon(path)
        raise
