"""What a run is made of, as the command line says it: a model, a corpus, and how the curvature is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from headwater.base.byte_sizes import parse_bytes
from headwater.base.choices import DeviceMap, Dtype, Fisher, LongTexts
from headwater.cli.options import (
    BlockWidthOption,
    CurvatureOption,
    DampingOption,
    FitExamplesOption,
    LayersOption,
    MemoryOption,
    SeedOption,
    TextFieldOption,
    TrustOption,
)

if TYPE_CHECKING:
    from headwater.lm.load import Loading
    from headwater.runs.run import CorpusOptions, FitOptions


@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """Which model, and how it is loaded."""

    panel: ClassVar = "Model"
    model: Annotated[str | None, typer.Option(help="Path or hub name of a causal language model.")] = None
    dtype: Annotated[
        Dtype,
        typer.Option(help="What the model runs in, int8 and nf4 its linears alone; sums are in float32 all the same."),
    ] = "fp32"
    gradient_checkpointing: Annotated[
        bool,
        typer.Option(
            "--gradient-checkpointing",
            help="Run each block again on the way back: less memory, the same results, more time.",
        ),
    ] = False
    device_map: Annotated[
        DeviceMap | None, typer.Option(help="Spread the model over all devices there are. Default: one device.")
    ] = None
    trust_remote_code: TrustOption = False

    def loading(self) -> Loading:
        from headwater.lm.load import Loading

        return Loading(self.trust_remote_code, self.dtype, self.gradient_checkpointing, self.device_map)


@dataclass(frozen=True, kw_only=True)
class CorpusFlags:
    """Which corpus, and how it is read and cut."""

    panel: ClassVar = "Corpus"
    corpus: Annotated[
        str | None,
        typer.Option(
            help="Training text: JSONL, Parquet, CSV, plain text (or .gz), a directory of these, a dataset's name, "
            "or a URL, which is streamed."
        ),
    ] = None
    max_tokens: Annotated[
        int | None, typer.Option(help="Longest example in tokens. Default: what the model can read.")
    ] = None
    long: Annotated[
        LongTexts, typer.Option(help="Longer texts keep only their beginning, or are split into windows.")
    ] = "truncate"
    text_field: TextFieldOption = "text"
    id_field: Annotated[
        str | None,
        typer.Option(help="Field that holds the id. Default: 'id' where there is one, else file:line."),
    ] = None
    prompt_field: Annotated[
        str | None,
        typer.Option(help="Field of what the model was given before the text; only the text is learned."),
    ] = None
    messages_field: Annotated[
        str | None,
        typer.Option(help="Field of a conversation; only what the assistant says is learned."),
    ] = None
    separator: Annotated[
        str | None, typer.Option(help="What parts the documents packed into one record, such as '<|endoftext|>'.")
    ] = None
    offsets_field: Annotated[
        str | None, typer.Option(help="Field that lists where in the text each packed document begins.")
    ] = None
    split: Annotated[str, typer.Option(help="Split of a dataset read by name.")] = "train"
    limit: Annotated[int | None, typer.Option(help="Read at most this many examples.")] = None
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad examples out, with a count and a list.")] = (
        False
    )
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Copy no texts into RUN, but read Parquet and JSONL from where they are. Takes globs.",
        ),
    ] = False

    def options(self) -> CorpusOptions:
        from headwater.corpus.read import ReadOptions
        from headwater.runs.run import CorpusOptions

        read = ReadOptions(
            text_field=self.text_field,
            id_field=self.id_field,
            limit=self.limit,
            skip_bad=self.skip_bad,
            split=self.split,
            prompt_field=self.prompt_field,
            messages_field=self.messages_field,
            separator=self.separator,
            offsets_field=self.offsets_field,
            stream=self.stream,
        )
        return CorpusOptions(read, self.max_tokens, self.long)


@dataclass(frozen=True, kw_only=True)
class FitFlags:
    """Which curvature is fitted, and on what."""

    panel: ClassVar = "Curvature"
    curvature: CurvatureOption = "ekfac"
    layers: LayersOption = None
    fit_examples: FitExamplesOption = None
    fisher: Annotated[
        Fisher, typer.Option(help="Labels of the Fisher: sampled from the model, or the text's own (empirical).")
    ] = "sampled"
    damping: DampingOption = None
    seed: SeedOption = 0
    memory: MemoryOption = None
    block_width: BlockWidthOption = None

    def options(self) -> FitOptions:
        """Raises HeadwaterError where the curvature is of no known kind, or the memory is no number of bytes."""
        from headwater.curvature.registry import kind_of
        from headwater.runs.run import FitOptions

        kind_of(self.curvature)  # before a corpus is read, which may take long
        most = None if self.memory is None else parse_bytes(self.memory)
        layers = tuple(self.layers) if self.layers else None
        return FitOptions(
            curvature=self.curvature,
            layers=layers,
            fit_examples=self.fit_examples,
            fisher=self.fisher,
            seed=self.seed,
            damping=self.damping,
            block_width=self.block_width,
            memory=most,
        )
