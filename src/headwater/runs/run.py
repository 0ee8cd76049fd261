"""`Run`, the main class of the Python API: a directory with a model's corpus, curvature and index."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from headwater.attribution import ask, exact_scores, token_map
from headwater.attribution.answer import Answer, TokenMap
from headwater.attribution.context import AttributionContext
from headwater.attribution.exact_scores import ExactScoring
from headwater.attribution.index.build import Changes
from headwater.attribution.index.index import Index
from headwater.attribution.index.options import IndexOptions
from headwater.attribution.options import AskOptions, RankOptions, Sampling, ScanOptions
from headwater.attribution.query_file import QueryLine
from headwater.attribution.question import Question, Span
from headwater.attribution.ranking import Ranking, rank
from headwater.base.options import changed, changed_groups
from headwater.corpus.corpus import Corpus
from headwater.corpus.objects import CorpusSource
from headwater.corpus.options import CorpusOptions
from headwater.corpus.read import Skipped
from headwater.corpus.store import Example
from headwater.curvature.base import Curvature
from headwater.curvature.options import FitOptions
from headwater.curvature.refit import Refit
from headwater.lm.load import LanguageModel
from headwater.lm.options import Loading
from headwater.runs import asking, create, fitting, indexing, info, later_texts
from headwater.runs.create import Model
from headwater.runs.hub import fetch_run
from headwater.runs.manifest import Manifest, read_manifest
from headwater.runs.opened import Opened
from headwater.runs.paths import RunPaths
from headwater.sweep.execution import LOCAL, Execution, visible
from headwater.training.checkpoint_scan import history, scan_checkpoints
from headwater.training.options import CheckpointScanOptions
from headwater.training.retrain import Retraining, retraining_of
from headwater.verify import verify
from headwater.verify.options import VerifyOptions
from headwater.verify.verification import Verification

Prompt = asking.Prompt
Texts = later_texts.Texts


class Run:
    """A model, its training corpus and the curvature fitted on them, in one directory.

    `Run.create` makes a run, `Run.open` opens one, `Run.from_hub` downloads one. The options of a method are given as
    one object or field by field: `run.ask(prompt, k=5)` means `run.ask(prompt, options=AskOptions(k=5))`. Each method
    delegates to one module.
    """

    def __init__(self, path: Path, manifest: Manifest, lm: LanguageModel, *, execution: Execution = LOCAL) -> None:
        self.path = path
        self.paths = RunPaths(path)
        self.lm = lm
        self.execution = execution
        """The engine, the progress report and the size of a shard. `using` changes them."""
        self._opened = Opened(self.paths, manifest, lm)

    @classmethod
    def create(
        cls,
        path: str | Path,
        model: Model,
        corpus: CorpusSource,
        *,
        options: CorpusOptions = CorpusOptions(),
        loading: Loading = Loading(),
        skipped: list[Skipped] | None = None,
        execution: Execution = LOCAL,
        **changes: object,
    ) -> Run:
        """Read and tokenise `corpus` for `model` into a run directory. A streamed corpus is only catalogued.

        `model` is a name or path, a model of transformers, or (model, tokenizer); a model in memory is frozen. `corpus`
        is a path, `-` for standard input, a dataset's name or a URL; or texts in memory, which are copied into the run:
        a Dataset, IterableDataset or DatasetDict, a data frame, or an iterable of texts or of records
        [{"text": …}, …]. If the directory is a run of the same model and corpus, it is opened. `changes` are fields of
        Loading, CorpusOptions and ReadOptions: `Run.create(…, dtype="bf16", text_field="story", max_tokens=128)`.
        `skipped` collects the bad examples that `options.read.skip_bad` leaves out; for a streamed corpus, the first of
        each file. Raises CorpusError, ModelError or FingerprintMismatch.
        """
        loading, read, options = changed_groups(changes, loading, options.read, options)
        options = options if "read" in changes else replace(options, read=read)
        lm = create.model_of(model, loading)
        manifest = create.make_corpus(
            Path(path), lm, corpus, options=options, skipped=[] if skipped is None else skipped, report=execution.report
        )
        return cls(Path(path), manifest, lm, execution=execution)

    @classmethod
    def open(cls, path: str | Path, model: Model | None = None, *, execution: Execution = LOCAL) -> Run:
        """Open a run and load its model. `model` is needed for a run of a model in memory: see `create`.

        Raises HeadwaterError if `path` is not a run, and FingerprintMismatch if the model, tokenizer or corpus differs
        from that of the run.
        """
        manifest = read_manifest(Path(path))
        lm = create.model_of_run(Path(path), manifest, model)
        create.check_origin(Path(path), manifest, lm)
        return cls(Path(path), manifest, lm, execution=execution)

    @classmethod
    def from_hub(cls, name: str, path: str | Path, model: Model | None = None) -> Run:
        """Download the run of the hub repository `name` into `path`, or the files that it lacks, and open it.

        `name` is owner/name, or owner/name@revision. `model` is needed if the model of the run is not on the hub.
        Raises HeadwaterError for an unknown run, and FingerprintMismatch for another model.
        """
        return cls.open(fetch_run(name, path), model)

    def using(self, execution: Execution | None = None, **changes: Any) -> Run:
        """A view of this run with another engine, progress report or shard size. Both share everything loaded.

        `changes` are fields of Execution: `run.using(report=print).fit()`.
        """
        view = copy(self)
        view.execution = replace(execution or self.execution, **changes)
        return view

    @property
    def manifest(self) -> Manifest:
        return self._opened.manifest

    @property
    def corpus(self) -> Corpus:
        return self._opened.corpus

    @property
    def index(self) -> Index:
        """The index of the run, built or not."""
        return self._opened.index

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, model={self.lm.name!r})"

    def __str__(self) -> str:
        return info.summary(self.path)

    def fit(self, options: FitOptions = FitOptions(), *, progress: bool = True, **changes: object) -> Curvature:
        """Fit the curvature, or resume an interrupted fit. A finished one with the same settings is kept.

        In a terminal or notebook a bar shows the progress, unless `progress` is False. Raises HeadwaterError, like
        `build_index`, `add` and `remove`, if another process works on the run.
        """
        self.write_curvature(options, progress=progress, **changes)
        return self.curvature()

    def write_curvature(self, options: FitOptions = FitOptions(), *, progress: bool = True, **changes: object) -> Path:
        """Fit as `fit` does, but only write the curvature, which may be larger than memory. Returns its file."""
        options = changed(options, changes)
        with visible(self.execution, progress) as execution:
            self._opened.manifest = fitting.fit_curvature(
                self.paths, self.manifest, self.lm, corpus=self.corpus, options=options, execution=execution
            )
        return self.paths.curvature

    def curvature(self, damping: str | float | None = None) -> Curvature:
        """The fitted curvature with λ as given here (see parse_damping), or else as given to `fit`.

        Raises HeadwaterError if none is fitted.
        """
        return self._opened.curvature(damping)

    def question(
        self,
        prompt: Prompt,
        completion: str | None = None,
        span: Span | None = None,
        *,
        sampling: Sampling = Sampling(),
        contrast: str | None = None,
        raw: bool = False,
    ) -> Question:
        """A question about a completion, or about the model's own continuation of the prompt.

        `span` selects a part of the completion. With a `contrast`, the question is why the model says the completion
        rather than the contrast. A prompt [{"role", "content"}, …] goes through the tokenizer's chat template; if its
        last message is the assistant's, that is the completion. If the corpus holds conversations, a text is what a
        user says, and goes through the template too, unless it is `raw` or has the template's marks already.
        """
        chat = self.holds_conversations and not raw
        return asking.make(self.lm, prompt, completion, span=span, sampling=sampling, contrast=contrast, chat=chat)

    @property
    def holds_conversations(self) -> bool:
        """Whether the corpus was read as conversations."""
        return later_texts.read_options(self.manifest.corpus).messages_field is not None

    def questions(self, queries: str | Path | Sequence[QueryLine]) -> list[Question]:
        """The questions of a JSONL file, or of its parsed lines. Raises HeadwaterError with the line of a bad one."""
        return asking.make_all(self.lm, queries, chat=self.holds_conversations)

    def ask(
        self,
        prompt: Prompt | Question,
        completion: str | None = None,
        *,
        span: Span | None = None,
        contrast: str | None = None,
        raw: bool = False,
        options: AskOptions = AskOptions(),
        **changes: object,
    ) -> Answer:
        """Which training examples made the model say `completion` after `prompt`?

        The index, if there is one, finds candidates, and the most likely are scored exactly. Without an index, or with
        `exact=True`, every example is scored. Other arguments are those of `question`. Raises HeadwaterError for a
        Question that is given with a completion, span or contrast.
        """
        chat = self.holds_conversations and not raw
        question = asking.question_of(self.lm, prompt, completion, span=span, contrast=contrast, chat=chat)
        return self.ask_all([question], options, **changes)[0]

    def ask_all(
        self, questions: Sequence[Question], options: AskOptions = AskOptions(), **changes: object
    ) -> list[Answer]:
        """Answer several questions: one by one from the index, or all in one pass over the corpus."""
        options = changed(options, changes)
        return ask.ask(self._scoring(options.damping), self.index, asking.checked(questions), options=options)

    def ask_against(
        self, question: Question, texts: Texts, options: AskOptions = AskOptions(), **changes: object
    ) -> Answer:
        """The predicted effect of adding `texts`, which are not in the corpus, to the training data.

        They are tokenised and cut as the corpus was. Raises HeadwaterError for a text of fewer than two tokens.
        """
        options = changed(options, changes)
        context = self._scoring(options.damping).context
        (question,) = asking.checked([question])
        examples, name = later_texts.examples_of(self.lm, self.manifest.corpus, texts)
        return ask.ask_against(context, question, examples, name=name, options=options)

    def token_map(
        self,
        question: Question,
        example_id: str | None = None,
        damping: str | float | None = None,
        *,
        text: str | None = None,
        layers: tuple[str, ...] | None = None,
    ) -> TokenMap:
        """Token × token influence of one training example, or of a `text`, on the question.

        `layers` are globs of the layers that count. Raises HeadwaterError for an unknown id.
        """
        (question,) = asking.checked([question])
        example = later_texts.one_example(self.lm, self.manifest.corpus, self.corpus, id=example_id, text=text)
        return token_map.token_map(self._scoring(damping).context, question, example, layers=layers)

    def verify(
        self,
        answer: Answer,
        options: VerifyOptions = VerifyOptions(),
        *,
        recipe: str | Path | None = None,
        **changes: object,
    ) -> Verification:
        """Compare the effects that `answer` predicts for single examples with measured effects.

        Retraining needs a `recipe`, a train.json; None takes the one in the model's folder. Raises HeadwaterError if
        there is none, and for an answer of another run.
        """
        context = replace(self._scoring(answer.damping).context, lm=self.lm.float32_model)

        def retraining(question: Question) -> Retraining:
            given = None if recipe is None else Path(recipe)
            return retraining_of(
                self.lm, self.corpus, [question], recipe=given, folder=self.paths.retrained
            ).in_own_folder()

        return verify.verify(context, answer, changed(options, changes), retraining=retraining)

    def build_index(
        self, options: IndexOptions = IndexOptions(), *, progress: bool = True, **changes: object
    ) -> Changes:
        """Sketch every example that has no sketch yet, or resume. Questions then need no pass over the corpus."""
        options = changed(options, changes)
        self._opened.manifest = indexing.moved_to(self.paths, self.manifest, options.store)
        with visible(self.execution, progress) as execution:
            scoring = self.using(execution)._scoring()
            return indexing.build_index(self.paths, self.index, scoring, options=options)

    def add(self, texts: str | Path) -> int:
        """Append the examples of a file and return their number. `build_index` sketches them; the curvature stays."""
        before = len(self.corpus)
        entry = self.manifest.corpus
        self._opened.corpus = later_texts.add(self.path, self.corpus, self.lm, entry=entry, texts=texts)
        return len(self.corpus) - before

    def remove(self, ids: Sequence[str]) -> int:
        """Remove examples by their ids and return their number. `build_index` then deletes their rows."""
        before = len(self.corpus)
        self._opened.corpus = later_texts.remove(self.path, self.corpus, ids)
        return before - len(self.corpus)

    def example(self, example_id: str) -> Example:
        """The training example with that id. Raises HeadwaterError for an unknown id."""
        return later_texts.one_example(self.lm, self.manifest.corpus, self.corpus, id=example_id)

    def scan(
        self, questions: Sequence[Question], output: str | Path, options: ScanOptions = ScanOptions(), **changes: object
    ) -> Path:
        """Exact scores of the whole corpus for several questions, written to a Parquet file in constant memory.

        It has one row per example: `id`, and a float32 column for each question, named by its id; with `tokens=True`
        also `<question id>.tokens`, the influence of every token. After an interruption, the same call resumes.
        """
        options = changed(options, changes)
        scoring = self._scoring(options.damping)
        return exact_scores.scan(scoring, asking.checked(questions), Path(output), options=options)

    def scan_checkpoints(
        self,
        questions: Sequence[Question],
        output: str | Path,
        checkpoints: str | Path,
        *,
        options: CheckpointScanOptions = CheckpointScanOptions(),
        **changes: object,
    ) -> Path:
        """The effect of every example on several questions at each training checkpoint, written to a Parquet file.

        `checkpoints` is a folder of model folders named `step-<n>` or `checkpoint-<n>`, or a list of hub revisions with
        commas (`org/model@step1000,org/model@step2000`). The file has one row per example: `id`, and for each question
        a float32 column with the sum and one for each checkpoint, `<id>@<step>`. After an interruption, the same call
        resumes. Raises HeadwaterError if a checkpoint belongs to another model, or lacks what the method needs.
        """
        options = changed(options, changes)
        scoring = self._scoring(options.damping)
        refit = Refit(self.paths.curvature, self.corpus, self.execution)
        made = history(scoring, asking.checked(questions), checkpoints, refit=refit, folder=self.paths.checkpoints)
        return scan_checkpoints(scoring, made, Path(output), options=options)

    def rank(
        self, questions: Sequence[Question] | None = None, options: RankOptions = RankOptions(), **changes: object
    ) -> Ranking:
        """Every training example in the order of its effect on the questions, or without questions, on itself.

        A score is the mean, or the maximum, over the questions of I(q, z) / √I(q, q). Without questions it is I(z, z)
        per learned token, which is high for unusual or wrong texts. Scores are cached in the run, and an interrupted
        pass is resumed.
        """
        options = changed(options, changes)
        return rank(
            self._scoring(options.damping), questions, later_texts.read_options(self.manifest.corpus), options=options
        )

    def self_influence(self, curvature: Curvature) -> NDArray[Any]:
        """[N] I(z, z) of every example, computed once for a curvature and damping, then cached."""
        return exact_scores.self_influence(self._scoring(curvature))

    def _scoring(self, given: Curvature | str | float | None = None) -> ExactScoring:
        """The context of scores: the `given` curvature, or that of the run with the `given` damping."""
        curvature = self.curvature(given) if given is None or isinstance(given, str | int | float) else given
        context = AttributionContext(self.lm, self.corpus, curvature, self.execution)
        return ExactScoring(context, self.paths.scores, fitting.binding_at(self.paths))
