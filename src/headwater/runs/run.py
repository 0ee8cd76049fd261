"""Run: one directory, one manifest, and everything a person does with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.attribution import exact_scores
from headwater.attribution.aggregate import Aggregate
from headwater.attribution.answer import Answer, TokenMapAnswer
from headwater.attribution.ask import AskOptions, AttributionContext, ask_against, ask_everything, ask_index
from headwater.attribution.attribution import RankBy
from headwater.attribution.exact_scores import ExactScoring
from headwater.attribution.index.build import Changes, IndexWork, bring_up_to_date
from headwater.attribution.index.index import Index
from headwater.attribution.index.settings import IndexOptions, settings_for
from headwater.attribution.index.table import open_table
from headwater.attribution.query_file import QueryLine, read_queries
from headwater.attribution.question import (
    Question,
    Sampling,
    Span,
    continue_prompt,
    make_question,
)
from headwater.attribution.ranking import Ranking, learned_tokens
from headwater.attribution.token_map import token_map
from headwater.base.files import read_metadata
from headwater.base.lock import exclusive
from headwater.base.progress import Report, silent
from headwater.corpus.changes import add_examples, remove_examples
from headwater.corpus.chat import Messages, chat_prompt
from headwater.corpus.corpus import Corpus
from headwater.corpus.read import ReadOptions, Skipped
from headwater.corpus.store import Example
from headwater.curvature.base import Curvature
from headwater.curvature.damping import parse_damping
from headwater.curvature.fit import FitOptions, Workbench, labels_of, write_curvature
from headwater.curvature.refit import Refit
from headwater.curvature.store import curvature_files, load_curvature
from headwater.curvature.truncated import truncate
from headwater.errors import HeadwaterError
from headwater.lm.layers import choose_layers
from headwater.lm.load import LanguageModel, Loading, load_model
from headwater.runs.create import (
    CorpusOptions,
    absolute,
    corpus_path,
    examples_of,
    make_corpus,
    open_corpus,
    records_of,
    require_same_origin,
)
from headwater.runs.hub import fetch_run
from headwater.runs.manifest import Manifest, read_manifest, require_same
from headwater.sweep.sweep import LOCAL_ENGINE, Engine, Sweep
from headwater.training.checkpoint_scan import CheckpointScan, refit_at, scan_checkpoints
from headwater.training.checkpoints import read_checkpoints
from headwater.training.lookback import CheckpointMethod, TrainingHistory
from headwater.training.retrain import Retraining, retraining_of
from headwater.verify.options import VerifyOptions
from headwater.verify.verification import Verification
from headwater.verify.verify import verify


class Run:
    """A model, its training corpus and the curvature fitted on them, in one directory.

    Made with `Run.create`, opened with `Run.open`.
    """

    def __init__(self, path: Path, manifest: Manifest, lm: LanguageModel) -> None:
        self.path = path
        self.manifest = manifest
        self.lm = lm
        self.report: Report = silent
        """Called after every batch of the long work; the command line draws its progress bar with it."""
        self.engine: Engine = LOCAL_ENGINE
        """Who does the long work: this process, or a RayEngine."""
        self._curvature: tuple[tuple[int, str], Curvature] | None = None
        """The one last used, with the file's time and the damping it was read for."""

    @classmethod
    def create(
        cls,
        path: str | Path,
        model: str | LanguageModel,
        corpus: str | Path,
        *,
        options: CorpusOptions = CorpusOptions(),
        loading: Loading = Loading(),
        skipped: list[Skipped] | None = None,
        report: Report = silent,
        **changes: object,
    ) -> Run:
        """Read and tokenise `corpus` for `model` into a run directory; where it is streamed, only a catalogue of it.

        Where the directory already is a run it is opened, provided model and corpus are the same ones. `skipped`
        collects the bad examples that `options.read.skip_bad` left out; of a streamed corpus, the first of each file.
        Interrupted, a catalogue goes on with the first file that it lacks. `changes` are fields of Loading:
        `Run.create(…, dtype="bf16")`. Raises CorpusError, ModelError, or FingerprintMismatch.
        """
        path = Path(path)
        loading = replace(loading, **changes)  # pyright: ignore[reportArgumentType]
        lm = model if isinstance(model, LanguageModel) else load_model(absolute(model), loading)
        manifest = make_corpus(
            path, lm, corpus, options=options, skipped=[] if skipped is None else skipped, report=report
        )
        return cls(path, manifest, lm)

    @classmethod
    def open(cls, path: str | Path, model: LanguageModel | None = None) -> Run:
        """Open a run, loading its model unless one is given.

        Raises HeadwaterError where `path` is no run, and FingerprintMismatch where the model, tokenizer or corpus
        is not the one that the run was made from.
        """
        path = Path(path)
        manifest = read_manifest(path)
        entry = manifest.model
        lm = model or load_model(entry.name, entry.loading)
        found = {
            "model": lm.fingerprint,
            "tokenizer": lm.tokenizer_fingerprint,
            "corpus": Corpus(corpus_path(path)).base_fingerprint,
        }
        require_same_origin(path, manifest, found)
        return cls(path, manifest, lm)

    @classmethod
    def from_hub(cls, name: str, path: str | Path, model: str | LanguageModel | None = None) -> Run:
        """Fetch the run that the hub repository `name` holds into `path`, or what is missing of it, and open it.

        `name` is owner/name, with @revision where it is not the newest. `model` is needed where the run was made from
        one that is not on the hub. Raises HeadwaterError where there is no such run, and FingerprintMismatch where the
        model is not the one that it was made from.
        """
        entry = read_manifest(fetch_run(name, path)).model
        if isinstance(model, str):
            model = load_model(model, entry.loading)
        return cls.open(path, model)

    @cached_property
    def corpus(self) -> Corpus:
        return open_corpus(self.path, self.lm, self.manifest.corpus)

    # -- curvature

    @property
    def curvature_path(self) -> Path:
        return self.path / "curvature" / "curvature.safetensors"

    def fit(self, options: FitOptions = FitOptions(), **changes: object) -> Curvature:
        """Fit the curvature, or go on with an interrupted fit; a finished one with the same settings is kept.

        `changes` are fields of FitOptions: `run.fit(curvature="kfac", seed=1)`. Raises HeadwaterError where another
        process is at work on the run, as `build_index`, `add` and `remove` do.
        """
        self.write_curvature(options, **changes)
        return self.curvature()

    def write_curvature(self, options: FitOptions = FitOptions(), **changes: object) -> Path:
        """The same, but the curvature is left on disk, where it may be larger than memory."""
        options = replace(options, **changes)  # pyright: ignore[reportArgumentType]
        parse_damping(options.damping)
        layers = choose_layers(self.lm.model, options.layers)
        binding = self.manifest.binding() | {"settings": options.settings([layer.name for layer in layers])}
        if not self._is_fitted(binding):
            labels = labels_of(options.fisher, options.seed)
            sequences = self.corpus.base.sequences(options.chosen(self.corpus.counts.examples))
            sweep = Sweep(
                stage="curvature", lm=self.lm, layers=layers, sequences=sequences, labels=labels, engine=self.engine
            )
            bench = Workbench(self.path / "curvature", json.dumps(binding, sort_keys=True), self.report)
            with exclusive(self.path):
                write_curvature(self.curvature_path, options, sweep, bench=bench, binding=binding)
        if options.damping != self.manifest.damping:
            self.manifest = replace(self.manifest, damping=options.damping)
            self.manifest.write(self.path)
        return self.curvature_path

    def _is_fitted(self, binding: dict[str, str]) -> bool:
        """Whether all of the curvature is there, with these settings."""
        path = self.curvature_path
        if not path.exists() or _binding_of(read_metadata(path)) != binding:
            return False
        return all(file.exists() for file in curvature_files(path))

    def curvature(self, damping: str | float | None = None) -> Curvature:
        """The fitted curvature with λ as given (see parse_damping), or else as given to `fit`.

        Raises HeadwaterError where none is fitted.
        """
        if not self.curvature_path.exists():
            raise HeadwaterError(
                f"{self.path} has no curvature yet. Fit it with: headwater fit {self.path}"
                + (" (an interrupted fit goes on where it stopped)" if self.curvature_path.parent.exists() else "")
            )
        metadata = read_metadata(self.curvature_path)
        for what, expected in self.manifest.binding().items():
            require_same(
                f"The {what} that {self.curvature_path} was fitted on",
                expected,
                metadata.get(what, "none"),
                fix=f"Delete it and fit again: headwater fit {self.path}",
            )
        chosen = parse_damping(self.manifest.damping if damping is None else damping)
        key = (self.curvature_path.stat().st_mtime_ns, chosen.describe())
        if self._curvature is None or self._curvature[0] != key:
            self._curvature = (key, load_curvature(self.curvature_path, chosen, str(self.lm.device))[0])
        return self._curvature[1]

    # -- questions

    def question(
        self,
        prompt: str | Messages,
        completion: str | None = None,
        span: Span | None = None,
        *,
        sampling: Sampling = Sampling(),
        contrast: str | None = None,
    ) -> Question:
        """A query: the given completion, or the model's own continuation of the prompt; `span` narrows it.

        A conversation as the prompt, [{"role", "content"}, …], is written out by the tokenizer's chat template.
        With a `contrast`, another completion, the question is why the one rather than the other.
        """
        if not isinstance(prompt, str):
            prompt = chat_prompt(self.lm.tokenizer, prompt)
        if completion is None:
            question = continue_prompt(self.lm, prompt, sampling)
            if span is not None:
                question = replace(make_question(self.lm, prompt, question.completion, span=span), generated=True)
        else:
            question = make_question(self.lm, prompt, completion, span=span)
        if contrast is None:
            return question
        return replace(question, contrast=make_question(self.lm, prompt, contrast, id="contrast"))

    def questions(self, queries: str | Path | Sequence[QueryLine]) -> list[Question]:
        """The questions of a JSONL file, or of its lines. Raises HeadwaterError, naming the line, for a bad one."""
        lines = read_queries(Path(queries)) if isinstance(queries, str | Path) else queries
        return [
            replace(self.question(line.messages or line.prompt or "", line.completion, line.span), id=line.id)
            for line in lines
        ]

    def ask(
        self,
        prompt: str | Messages | Question,
        completion: str | None = None,
        *,
        span: Span | None = None,
        contrast: str | None = None,
        options: AskOptions = AskOptions(),
        **changes: object,
    ) -> Answer:
        """Which training examples made the model say `completion` after `prompt`?

        Where there is an index it finds the candidates, and the likeliest are scored exactly; without one, or with
        `exact=True`, every example is scored. Without a completion the model continues the prompt, and the
        continuation is explained; with a `contrast` the answer says why the one rather than the other. `changes` are
        fields of AskOptions: `run.ask(prompt, k=5, rank_by="relative")`.
        """
        question = (
            prompt if isinstance(prompt, Question) else self.question(prompt, completion, span, contrast=contrast)
        )
        return self.ask_all([question], options, **changes)[0]

    def ask_all(
        self, questions: Sequence[Question], options: AskOptions = AskOptions(), **changes: object
    ) -> list[Answer]:
        """Answer many questions: one by one from the index, or in one pass over the corpus."""
        options = replace(options, **changes)  # pyright: ignore[reportArgumentType]
        options.check()
        scene = self._scene(self.curvature(options.damping))
        among = self.index.matching(self.corpus, options.where, options.contains) if options.selection else None
        if self.index.exists and not options.exact:
            loaded = self.index.loaded(self.corpus, self._index_curvature(scene.curvature))
            return [ask_index(scene, question, options, loaded=loaded, among=among) for question in questions]
        norms = np.sqrt(self.self_influence(scene.curvature)) if options.rank_by == "relative" else None
        return ask_everything(scene, questions, options, norms=norms, among=among)

    def ask_against(
        self,
        question: Question,
        texts: str | Path | Sequence[str],
        options: AskOptions = AskOptions(),
        **changes: object,
    ) -> Answer:
        """What would `texts`, which are not in the corpus, do if they were added to it?

        They are the examples of a file, or are given themselves. They are tokenised and cut as the corpus was. Raises
        HeadwaterError where a text is too short to be learned from.
        """
        options = replace(options, **changes)  # pyright: ignore[reportArgumentType]
        options.check()
        if options.selection:
            raise HeadwaterError("--where and --contains choose among the corpus; --against takes other texts.")
        examples = examples_of(self.lm, self.manifest.corpus, texts)
        name = f"texts of {texts}" if isinstance(texts, str | Path) else "texts given with the question"
        return ask_against(self._scene(self.curvature(options.damping)), question, examples, name=name, options=options)

    def verify(
        self,
        answer: Answer,
        options: VerifyOptions = VerifyOptions(),
        *,
        recipe: str | Path | None = None,
        **changes: object,
    ) -> Verification:
        """Does the model do what `answer` predicts of single examples? `changes` are fields of VerifyOptions.

        To retrain it, the `recipe` is a train.json; None looks beside the model. Raises HeadwaterError where the answer
        is another model's or run's, or there is no recipe.
        """
        options = replace(options, **changes)  # pyright: ignore[reportArgumentType]
        scene = replace(self._scene(self.curvature(answer.damping)), lm=self.lm.float32_model)
        given = None if recipe is None else Path(recipe)

        def retraining(question: Question) -> Retraining:
            return retraining_of(self.lm, self.corpus, [question], recipe=given, folder=self.path / "retrained").apart()

        return verify(scene, answer, options, retraining=retraining)

    def _scene(self, curvature: Curvature) -> AttributionContext:
        return AttributionContext(
            lm=self.lm, corpus=self.corpus, curvature=curvature, report=self.report, engine=self.engine
        )

    # -- index

    @cached_property
    def index(self) -> Index:
        """The run's index, whether or not it has been built."""
        return Index(self.manifest.store or str(self.path / "index"))

    def build_index(self, options: IndexOptions = IndexOptions(), **changes: object) -> Changes:
        """Sketch every example that has no sketch yet, so that questions need no pass over the corpus.

        Interrupted, it goes on where it stopped. `changes` are fields of IndexOptions: `run.build_index(bytes=4096)`.
        """
        options = replace(options, **changes)  # pyright: ignore[reportArgumentType]
        if options.store not in (None, self.manifest.store):
            open_table(str(options.store))  # before anything is written: can it be reached?
            self.manifest = replace(self.manifest, store=options.store)
            self.manifest.write(self.path)
            self.index = Index(options.store or "")
        curvature = self.curvature()
        settings = settings_for(
            self._index_curvature(curvature),
            lambda k: truncate(curvature, k).dimensions,
            options,
            there=self.index.settings,
        )
        sketched = truncate(curvature, settings.directions)
        work = IndexWork(
            lm=self.lm,
            corpus=self.corpus,
            curvature=sketched,
            sketch=settings.sketch,
            url=self.index.url,
            binding=settings.to_json(),
        )
        with exclusive(self.path):
            return bring_up_to_date(replace(work, report=self.report, engine=self.engine))

    def _index_curvature(self, curvature: Curvature) -> dict[str, str]:
        """What an index must agree with: the curvature's fingerprints and settings, and its damping."""
        return _binding_of(read_metadata(self.curvature_path)) | {"damping": curvature.damping.describe()}

    def add(self, texts: str | Path) -> int:
        """Append the examples of a file to the corpus; returns how many. `build_index` then sketches them.

        The curvature stays that of the examples it was fitted on.
        """
        before = len(self.corpus)
        entry = self.manifest.corpus
        records = records_of(self.lm, entry, texts)
        with exclusive(self.path):
            self.corpus = add_examples(
                self.corpus, records, self.lm.tokenizer, max_tokens=entry.max_tokens, long_texts=entry.long_texts
            )
        return len(self.corpus) - before

    def remove(self, ids: Sequence[str]) -> int:
        """Take examples out of the corpus by their ids; returns how many. `build_index` then takes out their rows."""
        before = len(self.corpus)
        with exclusive(self.path):
            self.corpus = remove_examples(self.corpus, ids)
        return before - len(self.corpus)

    def token_map(
        self,
        question: Question,
        example_id: str | None = None,
        damping: str | float | None = None,
        *,
        text: str | None = None,
        layers: tuple[str, ...] | None = None,
    ) -> TokenMapAnswer:
        """Token × token influence of one example, or of a `text`: which of its tokens pushed which of the query's.

        `layers` are globs of those that count. Raises HeadwaterError for an unknown id.
        """
        assert (example_id is None) != (text is None), "give an example's id, or a text"
        example = (
            self.example(example_id)
            if example_id is not None
            else examples_of(self.lm, self.manifest.corpus, [text or ""])[0]
        )
        scene = self._scene(self.curvature(damping))
        counting = {layer.name for layer in scene.chosen(AskOptions(layers=layers))}
        return token_map(scene, question, example, layers=counting)

    def example(self, example_id: str) -> Example:
        """The training example of that id. Raises HeadwaterError where there is none."""
        if example_id not in self.corpus.position:
            raise HeadwaterError(f"No example of this run has the id {example_id!r}.")
        return self.corpus[self.corpus.position[example_id]]

    def scan(
        self,
        questions: Sequence[Question],
        output: str | Path,
        *,
        tokens: bool = False,
        damping: str | float | None = None,
        query_rank: int | None = None,
    ) -> Path:
        """Exact scores of the whole corpus for many queries, written to a Parquet file in constant memory.

        One row an example: `id`, and one float32 column a query, named by the query's id; with `tokens`, also
        `<query id>.tokens`, the influence of every token. Interrupted, the same call goes on where it stopped.
        `query_rank` reduces every query's gradient to that rank in each layer, which is cheaper where layers are wide.
        """
        exact_scores.scan(
            self._whole(self.curvature(damping)), questions, Path(output), tokens=tokens, query_rank=query_rank
        )
        return Path(output)

    def scan_checkpoints(
        self,
        questions: Sequence[Question],
        output: str | Path,
        checkpoints: str | Path,
        *,
        method: CheckpointMethod = "tracin",
        damping: str | float | None = None,
        query_rank: int | None = None,
    ) -> Path:
        """What every example did to many queries at each checkpoint of the training, written to a Parquet file.

        `checkpoints` is a folder of model folders named `step-<n>` or `checkpoint-<n>`, or revisions on the hub with
        commas between (`org/model@step1000,org/model@step2000`). `method` adds up gradient products by the learning
        rate (tracin), the same along Adam's steps (adam), influences by each checkpoint's own EK-FAC (ekfac, whose λ
        `damping` sets), or segments of unrolled training (source); see training.lookback. One row an example: `id`,
        one float32 column a query, the sum, and one a query and checkpoint, `<query id>@<step>`. Interrupted, the same
        call goes on where it stopped; curvatures fitted at checkpoints are kept in the run. Raises HeadwaterError
        where a checkpoint is another model's, or lacks what the method needs.
        """
        if damping is not None and method != "ekfac":
            raise HeadwaterError(f"--damping: {method} is not damped. Leave it out, or choose --method ekfac.")
        made = self._whole(self.curvature(damping))
        refit = Refit(self.curvature_path, self.corpus, self.engine, self.report)
        at = partial(refit_at, refit, self.path / "checkpoints", made.scene.curvature.damping)
        history = TrainingHistory(
            lm=self.lm,
            layers=made.scene.curvature.layers,
            sequences=self.corpus.sequences(),
            questions=questions,
            checkpoints=read_checkpoints(checkpoints),
            refit=at,
        )
        binding = made.asking(questions)
        scan_checkpoints(
            CheckpointScan(
                corpus=self.corpus,
                history=history,
                method=method,
                binding=binding,
                query_rank=query_rank,
                engine=self.engine,
                report=self.report,
            ),
            Path(output),
        )
        return Path(output)

    def rank(
        self,
        questions: Sequence[Question] | None = None,
        *,
        aggregate: Aggregate = "mean",
        rank_by: RankBy = "influence",
        lowest: bool = False,
        damping: str | float | None = None,
        query_rank: int | None = None,
    ) -> Ranking:
        """Every training example in the order of what it did to the questions; without any, of its self-influence.

        An example's score is the mean, or the maximum, over the questions of I(q, z) / √I(q, q); `relative` divides it
        by √I(z, z) too. Without questions it is I(z, z) a learned token: high where a text is unlike all others, or
        wrong. `lowest` begins with the lowest. Scores are kept in the run, and an interrupted pass goes on where it
        stopped. Raises HeadwaterError for an empty list of questions.
        """
        made = self._whole(self.curvature(damping))
        read = ReadOptions(**self.manifest.corpus.options)
        if questions is None:
            return Ranking(self.corpus, read, exact_scores.self_influence(made) / learned_tokens(self.corpus), lowest)
        if not questions:
            raise HeadwaterError("There is no question to rank the examples by.")
        scores = exact_scores.aggregate(made, questions, aggregate, query_rank=query_rank)
        if rank_by == "relative":
            scores = exact_scores.relative(scores, exact_scores.self_influence(made))
        return Ranking(self.corpus, read, scores, lowest)

    def self_influence(self, curvature: Curvature) -> NDArray[Any]:
        """[N] I(z, z) of every example; computed once for a curvature and damping, then kept."""
        return exact_scores.self_influence(self._whole(curvature))

    def _whole(self, curvature: Curvature) -> ExactScoring:
        """What exact scores of the whole corpus are made with."""
        return ExactScoring(self._scene(curvature), self.path / "scores", read_metadata(self.curvature_path))


def _binding_of(metadata: dict[str, str]) -> dict[str, str]:
    return {key: metadata.get(key, "") for key in ("model", "tokenizer", "corpus", "settings")}
