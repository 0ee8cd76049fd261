"""`headwater demo`: build a tiny world and its model, and answer three questions about it."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from headwater.cli import app
from headwater.cli.examples import examples
from headwater.cli.grouped import with_groups
from headwater.cli.options import SeedOption
from headwater.cli.progress import progress_report, say
from headwater.cli.serve import require_extra
from headwater.errors import HeadwaterError
from headwater.serve.settings import DEFAULT_PORT, Port, Settings, token_from_environment

if TYPE_CHECKING:
    from headwater.demo.build import Learned


@app.command(epilog=examples("headwater demo"))
@with_groups
def demo(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of the demo's run.")] = Path("runs/demo"),
    stories: Annotated[int, typer.Option(help="Number of stories in its world.")] = 3000,
    seed: SeedOption = 0,
    no_serve: Annotated[
        bool, typer.Option("--no-serve", help="Stop after the answers instead of serving the page.")
    ] = False,
    port: Port = DEFAULT_PORT,
) -> None:
    """Build a tiny world of stories, train a tiny model on it, fit EK-FAC, index the stories, answer three questions,
    and serve the page on which to ask more.

    The first time takes a few minutes, later times take seconds, because every step is kept in RUN. Without a terminal
    it stops after the answers.
    """
    # Imported here: training code takes two seconds to import, and other commands do not need it.
    from headwater.demo.build import SHOWN, Demo, answers, build, count_stating, examples, write_questions

    where = Demo(run, stories, seed)
    with progress_report() as report:
        built = build(where, report)
        world, learned = built.world, built.learned
        facts = examples(world, learned)
        answered = answers(where, facts, built.run)
        write_questions(where, facts)
    _say_accuracy(learned, len(world.stories))
    screen = Console()
    for fact, answer in zip(facts, answered, strict=True):
        screen.print(replace(answer, proponents=answer.proponents[:SHOWN], opponents=answer.opponents[:SHOWN]))
        ranked = [example.id for example in answer.proponents]
        screen.print(
            f"[bold]Checked against the world:[/] {fact.times} of the {len(world.stories):,} stories state this fact; "
            f"{count_stating(fact, ranked)} of them are among the {len(ranked)} that raised it most; by chance it "
            f"would be {fact.times * len(ranked) / len(world.stories):.2f}.\n",
            highlight=False,
        )
    prompt, completion = facts[0].prompt, facts[0].completion
    say(
        f"""Try next:
  headwater ask {run} "Once upon a time"                 explain the model's own continuation
  headwater ask {run} "{prompt}" "{completion}" --rank-by relative
  headwater ask {run} "{prompt}" "{completion}" --contains "{_longest_word(prompt)}"
  headwater ask {run} "{prompt}" "{completion}" --html answer.html
  headwater serve {run}                                  ask on a web page
  headwater fit runs/mine --model MODEL --corpus TEXT    fit your own model on its training text""",
    )
    if not no_serve and sys.stdout.isatty():
        _serve(run, port)


def _serve(run: Path, port: int) -> None:
    try:
        require_extra()
    except HeadwaterError as missing:
        say(f"\n{missing}")
        return
    from headwater.serve.server import serve

    say("")
    serve(run, Settings(port=port, token=token_from_environment(), open=True), say)


def _longest_word(text: str) -> str:
    """The longest word of a text, which few stories contain by chance."""
    return max(re.findall(r"\w+", text), key=len)


def _say_accuracy(learned: Learned, stories: int) -> None:
    shares = ", ".join(f"{share:.0%} of those stated {times}×" for times, share in learned.accuracy().items())
    say(
        f"A model of {learned.report.parameters:,} parameters, trained on {stories:,} stories for "
        f"{learned.report.epochs} epochs ({learned.report.seconds:.0f} s, final loss {learned.report.final_loss:.2f} "
        f"nats a token). Facts it completes correctly: {shares}.",
    )
