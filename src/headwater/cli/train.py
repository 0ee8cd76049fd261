"""`headwater train`: train a small model from scratch, so that it can be retrained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headwater.base.progress import Step
from headwater.cli import app
from headwater.cli.examples import examples
from headwater.cli.grouped import with_groups
from headwater.cli.progress import progress_report, say
from headwater.corpus.options import Limit, ReadOptions, TextField
from headwater.errors import HeadwaterError


@app.command(
    epilog=examples(
        "headwater train stories.jsonl runs/stories-model --checkpoints 4",
        "headwater fit runs/stories --model runs/stories-model --corpus stories.jsonl",
    )
)
@with_groups
def train(
    corpus: Annotated[
        str, typer.Argument(metavar="CORPUS", help="Training text, in any format that `headwater fit` reads.")
    ],
    out: Annotated[Path, typer.Argument(metavar="MODEL", help="Directory of the new model.")],
    recipe: Annotated[
        Path | None, typer.Option(help="Training recipe, a train.json. Default: the demo's recipe.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Architecture, a config.json of transformers. Default: a small GPT-Neo.", show_default=False),
    ] = None,
    vocabulary: Annotated[
        int, typer.Option(help="Maximum vocabulary of the tokenizer, which is trained on CORPUS.", min=257)
    ] = 2048,
    checkpoints: Annotated[int, typer.Option(help="Number of checkpoints to save during training.", min=0)] = 0,
    text_field: TextField = "text",
    limit: Limit = None,
) -> None:
    """Train a small model on CORPUS from scratch, with everything written down that retraining it needs.

    Its recipe, train.json, is kept beside it; `headwater evaluate` and `headwater verify --kind retrain` train it again
    on a part of the corpus.
    """
    from headwater.corpus.read import read_records
    from headwater.training.new_model import Design, make_model
    from headwater.training.recipe import Recipe, read_recipe
    from headwater.training.train import reporting

    if (out / "config.json").exists():
        raise HeadwaterError(f"{out} already contains a model. Use another directory, or delete it.")
    parsed = Recipe() if recipe is None else read_recipe(recipe)
    texts = [record.text for record in read_records(corpus, ReadOptions(text_field=text_field, limit=limit))]
    say(f"{len(texts):,} texts.")
    with progress_report() as report:
        watch = reporting(
            lambda step, steps, loss: report(
                Step(stage="training", done=step, total=steps, tokens=0, note=f"loss {loss:.2f}")
            )
        )
        made = make_model(texts, out, parsed, design=Design(config, vocabulary, checkpoints), watch=watch)
    say(
        f"Wrote a model of {made.parameters:,} parameters and {made.vocabulary:,} tokens to {out}: "
        f"{made.trained.steps:,} steps in {made.trained.seconds:.0f} s, final loss {made.trained.loss:.2f} nats per "
        "token."
    )
    say(f"Now fit: headwater fit RUN --model {out} --corpus {corpus}")
