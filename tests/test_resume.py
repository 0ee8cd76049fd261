"""Every command that can be interrupted: killed with SIGKILL inside its work, and run again.

The resumed result is that of an uninterrupted run, byte by byte, and no finished shard or training is computed again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from headwater.base.progress import Report, Step
from headwater.cli import app, evaluate, fit, index, rank, scan, verify
from headwater.runs.run import Run
from headwater.training.recipe import Recipe
from headwater.training.retrain import STAGE
from tests.checkpoints import STEPS, write_checkpoint
from tests.killing import Host
from tests.works import SHARD, everything, index_rows, new_run, write_sources

COMMANDS = (evaluate, fit, index, rank, scan, verify)
QUERIES = [
    {"id": "key", "prompt": "Once upon a time, Lily", "completion": " found a shiny key."},
    {"id": "hat", "prompt": "Tom the otter lost", "completion": " his red hat", "stories": ["s1", "s5"]},
]


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line, where what it has finished lies, and what it makes."""

    arguments: str
    """{run} and {sources} stand for folders."""
    begins_with: str
    """What was done before: "nothing", "fit" or "index"."""
    parts: str
    """Pattern of the files of unfinished work, in the run."""
    result: Callable[[Path], bytes]
    """The contents of the result in a run."""
    retrains: bool = False
    """Whether its work is trainings, and not shards of a sweep."""
    left: str = ""
    """Pattern of files that may not be there any more when everything is finished."""


def contents(name: str) -> Callable[[Path], bytes]:
    return lambda run: (run / name).read_bytes()


def scores(run: Path) -> bytes:
    (path,) = (run / "scores").glob("rank-*.parquet")
    return path.read_bytes() + (run / "kept.jsonl").read_bytes()


def rows(run: Path) -> bytes:
    opened = Run.open(run)
    return index_rows(opened) + opened.corpus.fingerprint.encode()


def outcomes(run: Path) -> bytes:
    """What all retrained models say; how long each training took differs."""
    found = {path.name: json.loads(path.read_text()) for path in run.glob("**/retrained/**/*-*.json")}
    assert found
    return json.dumps([(name, one["losses"], one["correct"]) for name, one in sorted(found.items())]).encode()


def board(run: Path) -> bytes:
    table = pq.read_table(run / "evaluate" / "results.parquet").drop_columns("cpu_seconds")
    return json.dumps(table.to_pylist()).encode() + outcomes(run)


PIECES = f"--shard-examples {SHARD}"
SCAN = f"scan {{run}} {{sources}}/queries.jsonl -o {{run}}/s.parquet {PIECES}"
LOOK_BACK = f"{SCAN} --checkpoints {{sources}}/checkpoints --method"
RANK = f"rank {{run}} -o {{run}}/kept.jsonl --keep 5 {PIECES}"
CHANGE = "--add {sources}/more.jsonl --remove {sources}/ids.txt"
RETRAIN = "--recipe {sources}/train.json --jobs 1"

KILLED: dict[str, Command] = {
    "fit": Command(
        arguments=f"fit {{run}} --model {{sources}}/model --corpus {{sources}}/corpus.jsonl {PIECES}",
        begins_with="nothing",
        parts="curvature/*.checkpoint.safetensors",
        result=contents("curvature/curvature.safetensors"),
        left="curvature/[!cf]*",
    ),
    "index": Command(
        arguments=f"index {{run}} --bytes 256 {PIECES}",
        begins_with="fit",
        parts="index/examples.lance/data/*",
        result=rows,
    ),
    "add and remove": Command(
        arguments=f"index {{run}} {CHANGE} {PIECES}",
        begins_with="index",
        parts="index/examples.lance/data/*",
        result=rows,
    ),
    "scan": Command(
        arguments=f"{SCAN} --tokens",
        begins_with="fit",
        parts="*.parts/*.parquet",
        result=contents("s.parquet"),
        left="*.parts",
    ),
    "rank": Command(
        arguments=f"{RANK} --queries {{sources}}/queries.jsonl",
        begins_with="fit",
        parts="scores/*.checkpoint.safetensors",
        result=scores,
        left="scores/*.safetensors",
    ),
    "rank by self-influence": Command(
        arguments=f"{RANK} --by self-influence",
        begins_with="fit",
        parts="scores/*.checkpoint.safetensors",
        result=contents("kept.jsonl"),
        left="scores/*.safetensors",
    ),
    "verify": Command(
        arguments=f"verify {{run}} {{sources}}/answer.json --kind retrain -k 1 --random 1 --seeds 2 {RETRAIN}",
        begins_with="fit",
        parts="retrained/*/*-*.json",
        result=outcomes,
        retrains=True,
    ),
    "evaluate": Command(
        arguments="evaluate {run} --queries {sources}/queries.jsonl --method ekfac --method dot --metric lds "
        f"--subsets 5 {RETRAIN} {PIECES}",
        begins_with="fit",
        parts="evaluate/retrained/*-*.json",
        result=board,
        retrains=True,
    ),
    **{
        f"scan of checkpoints, {method}": Command(
            arguments=f"{LOOK_BACK} {method}",
            begins_with="fit",
            parts="s.parquet.checkpoints/**/*" if method != "ekfac" else "checkpoints/**/*",
            result=contents("s.parquet"),
            left="*.checkpoints",
        )
        for method in ("tracin", "adam", "ekfac", "source")
    },
}
CASES = [
    *((name, point) for name in KILLED for point in ("early", "late", "end")),
    ("fit", "middle"),
    ("fit", "between sweeps"),
    ("index", "middle"),
]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a corpus and everything else that the command lines name."""
    folder = write_sources(tmp_path_factory.mktemp("sources"))
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, QUERIES)))
    more = [{"id": f"m{k}", "text": f"Mia and the moon saw {k} stars."} for k in range(4 * SHARD)]
    (folder / "more.jsonl").write_text("\n".join(map(json.dumps, more)))
    (folder / "ids.txt").write_text("s3\ns9\n")
    Recipe(epochs=1, learning_rate=1e-3, end=False).save(folder)
    for step in STEPS:
        write_checkpoint(folder / "checkpoints", step)
    return folder


@pytest.fixture(scope="module")
def begun(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs to begin with, by what was done in them."""
    folder = tmp_path_factory.mktemp("begun")
    fitted = new_run(sources, folder / "fit")
    fitted.fit()
    query = QUERIES[0]
    answer = fitted.ask(query["prompt"], query["completion"], k=2, exact=True)  # pyright: ignore[reportArgumentType]
    (sources / "answer.json").write_text(answer.to_json())
    indexed = new_run(sources, folder / "index")
    everything(indexed)
    return {"fit": folder / "fit", "index": folder / "index"}


@dataclass
class World:
    """Everything that the commands work on, and what each comes to where nobody kills it."""

    sources: Path
    begun: dict[str, Path]
    folder: Path
    whole: dict[str, tuple[bytes, Sequence[Step]]] = field(default_factory=dict[str, tuple[bytes, Sequence[Step]]])

    def begin(self, command: Command, run: Path) -> Sequence[str]:
        """Make what the command begins with; its command line for that run."""
        if command.begins_with != "nothing":
            shutil.copytree(self.begun[command.begins_with], run)
        return command.arguments.format(run=run, sources=self.sources).split()

    def uninterrupted(self, name: str) -> tuple[bytes, Sequence[Step]]:
        """The result and the steps of a command that nobody kills."""
        if name not in self.whole:
            run = self.folder / str(len(self.whole))
            steps = headwater(self.begin(KILLED[name], run))
            self.whole[name] = KILLED[name].result(run), steps
        return self.whole[name]


@pytest.fixture(scope="module")
def world(sources: Path, begun: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(sources, begun, tmp_path_factory.mktemp("whole"))


def headwater(arguments: Sequence[str]) -> Sequence[Step]:
    """Run a command line in this process; the steps that it reports."""
    steps: list[Step] = []

    @contextmanager
    def progress_report() -> Iterator[Report]:
        yield steps.append

    with pytest.MonkeyPatch.context() as patch:
        for command in COMMANDS:
            patch.setattr(command, "progress_report", progress_report)
        result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.exception
    return steps


def computed(command: Command, steps: Sequence[Step]) -> list[int]:
    """The places of the steps at which a shard or a training was finished."""
    if not command.retrains:
        return [place for place, step in enumerate(steps) if step.tokens > 0]
    told = [(place, step) for place, step in enumerate(steps) if step.stage == STAGE]
    return [place for (_, before), (place, step) in pairwise(told) if step.done > before.done]


def place_of(point: str, command: Command, steps: Sequence[Step]) -> int:
    """The step at which to kill, counted from one."""
    done = computed(command, steps)
    assert len(done) >= 4, "there is enough to do"
    gap = max(pairwise(done), key=lambda ends: ends[1] - ends[0])
    places = {
        "early": done[1],
        "middle": done[len(done) // 2],
        "between sweeps": sum(gap) // 2,
        "late": done[-1],
        "end": len(steps) - 1,
    }
    return 1 + places[point]


@pytest.mark.parametrize(("name", "point"), CASES)
def test_a_killed_command_goes_on(name: str, point: str, world: World, host: Host, tmp_path: Path) -> None:
    command, run = KILLED[name], tmp_path / "run"
    expected, steps = world.uninterrupted(name)
    arguments = world.begin(command, run)
    at = place_of(point, command, steps)
    killed = host.run(*arguments, at=at)
    assert killed.status == -9, killed.output
    assert len(killed.steps) == at, "it was killed at this step"
    assert list(run.glob(command.parts)), "something was finished, and is on disk"
    again = headwater(arguments)
    assert command.result(run) == expected
    before, after, whole = (len(computed(command, one)) for one in (killed.steps, again, steps))
    assert before >= 2
    assert after < whole, "what was finished is not computed again"
    assert whole <= before + after <= whole + 1, "only the shard in which it was killed is computed twice"
    assert not command.left or not list(run.glob(command.left))
    if point == "early":
        assert computed(command, headwater(arguments)) == [], "the same command finds everything done"
        assert command.result(run) == expected
