"""Pictures draw the numbers of the run they are of, say them in words, reproduce, and refuse what cannot be drawn."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner

from headwater.attribution.answer import TokenMap
from headwater.attribution.index.recall import recall_of
from headwater.cli import app
from headwater.errors import HeadwaterError
from headwater.render import plots
from headwater.render.palette import PALETTES
from headwater.render.plots import sheet
from headwater.render.plots.by_rank import drawn_ranks, fewest_for_half
from headwater.render.plots.power_law import fit_power_law
from headwater.runs.run import Run
from headwater.sweep.execution import Execution
from headwater.verify.verification import Verification
from tests.answers import HOSTILE
from tests.models import TEXT, plain_model, tiny_tokenizer

ASKED = ("Once upon a time, Lily", " found a shiny key.")
QUERIES = [
    {"id": "q1", "prompt": ASKED[0], "completion": ASKED[1]},
    {"id": "q2", "prompt": "Tom the otter lost", "completion": " his red hat"},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Sixty stories and a model of random weights, with a fitted curvature; two queries beside it."""
    folder = tmp_path_factory.mktemp("plots")
    plain_model("gpt_neo", torch.float32).save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    stories = [f"{TEXT[k % 4][: 20 + k % 30]} And they saw {k} stars." for k in range(60)]
    lines = [json.dumps({"id": f"s{k}", "text": text}) for k, text in enumerate(stories)]
    (folder / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, QUERIES)), encoding="utf-8")
    tens = Execution(shard_examples=10)
    made = Run.create(folder / "run", str(folder / "model"), folder / "corpus.jsonl", execution=tens)
    made.fit()
    return made


@pytest.fixture(scope="module")
def scan(run: Run) -> Path:
    """Exact scores of both queries, as `headwater scan` writes them."""
    return run.scan(run.questions(run.path.parent / "queries.jsonl"), run.path.parent / "scores.parquet")


def plot(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["plot", *map(str, arguments)])


def refusal(*arguments: str | Path) -> str:
    mistake = plot(*arguments).exception
    assert isinstance(mistake, HeadwaterError)
    return str(mistake)


def points(axes: Any, label: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What is drawn under a label."""
    (line,) = [line for line in axes.lines if str(line.get_label()).startswith(label)]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


# -- results are data


def test_computing_results_loads_no_renderer_and_each_shows_itself(run: Run) -> None:
    """In a process of its own, where nothing else has loaded one."""
    script = (
        "import sys\n"
        "from headwater.runs.run import Run\n"
        "run = Run.open(sys.argv[1])\n"
        f"question = run.question(*{ASKED!r})\n"
        "answer = run.ask(question, k=2)\n"
        "found = [answer, run.verify(answer, k=1, random=1), run.token_map(question, 's7'), run.rank([question])]\n"
        "lines = [repr(one) for one in (*found, question, run.curvature())]\n"
        "rendering = [name for name in sys.modules if name.startswith('headwater.render')]\n"
        "assert not rendering, rendering\n"
        "assert not any('\\n' in line for line in lines)\n"
        "print(*lines, sep='\\n')\n"
        "print(*map(str, found), sep='\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(run.path)], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    heads = ["Answer(", "Verification(", "TokenMap(", "Ranking(", "Question(", "Curvature(ekfac, 4 layers, "]
    assert all(line.startswith(head) for line, head in zip(lines, heads, strict=False)), lines[:6]
    for words in ("Raised its likelihood", "measured nats per predicted nat", "training tokens of s7", "rank  score"):
        assert any(words in line for line in lines[6:]), words
    assert max(map(len, lines[6:])) <= 100
    assert "\x1b" not in done.stdout


# -- the tail


def test_the_tail_is_the_exact_scores_by_size(run: Run, scan: Path, tmp_path: Path) -> None:
    scores = pq.read_table(scan)["q1"].to_numpy().astype(np.float64)
    picture = plots.tail(plots.exact_scores(run, [run.question(*ASKED)])[:, 0])
    (axes,) = picture.figure().axes
    for label, sign in (("raised", 1), ("lowered", -1)):
        ranks, sizes = points(axes, label)
        expected = sorted((sign * scores[sign * scores > 0]).tolist(), reverse=True)
        assert ranks.tolist() == list(range(1, len(expected) + 1))
        assert sizes == pytest.approx(expected, rel=1e-4, abs=1e-4)
    raised = np.sort(scores[scores > 0])[::-1]
    fewest = next(n for n in range(1, len(raised) + 1) if raised[:n].sum() >= raised.sum() / 2)
    assert f"Half of all positive influence comes from {fewest} of 60 examples" in picture.meaning
    by_run = plot("tail", run.path, *ASKED, "-o", tmp_path / "run.svg")
    by_file = plot("tail", scan, "--query", "q1", "-o", tmp_path / "scan.svg")
    assert by_run.stdout == by_file.stdout == picture.meaning + "\n"


def test_of_a_large_corpus_the_strongest_are_all_drawn_and_the_others_thinly() -> None:
    ranks = drawn_ranks(1_000_000)
    assert len(ranks) <= 100
    assert ranks[:40].tolist() == list(range(1, 41))
    assert ranks[-1] == 1_000_000
    assert (np.diff(ranks) > 0).all()
    assert np.diff(np.log(ranks[40:])).max() < 0.2


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=40))
def test_half_is_held_by_the_fewest_that_can_hold_it(values: list[float]) -> None:
    falling = np.sort(np.array(values))[::-1]
    count, enough = fewest_for_half(falling), falling.sum() / 2
    assert falling[:count].sum() >= enough * (1 - 1e-12)
    assert falling[: count - 1].sum() < enough


def test_an_exponent_is_given_where_there_is_a_power_law_and_not_elsewhere() -> None:
    """Numbers drawn from laws that are known: heavy tails, above a body of something else too, and thin ones."""
    random = np.random.default_rng(0)
    pareto = 3.0 * (1 - random.random(800)) ** (-1 / 1.5)
    for heavy in (pareto, np.concatenate([pareto, 3 * random.random(800)])):
        found = fit_power_law(heavy)
        assert found is not None
        assert found.plausible
        assert found.alpha == pytest.approx(2.5, abs=0.25)
        tail = np.sort(heavy)[-found.tail :]
        assert found.start == tail[0]
        assert found.alpha == pytest.approx(1 + len(tail) / np.log(tail / tail[0]).sum()), "the likeliest there is"
        assert f"rank^−{1 / (found.alpha - 1):.2f}" in plots.tail(heavy).meaning
    for thin in (random.exponential(size=800), random.random(800)):
        found = fit_power_law(thin)
        assert found is not None
        assert not found.plausible
        assert "no exponent is given" in plots.tail(thin).meaning
    assert fit_power_law(np.arange(1.0, 30.0)) is None
    assert fit_power_law(np.ones(100)) is None


# -- layers


def test_layers_are_shares_of_what_the_proponents_did(run: Run, tmp_path: Path) -> None:
    answers = run.ask_all(run.questions(run.path.parent / "queries.jsonl"), k=3, fold=False)
    picture = plots.layers(answers, k=3)
    for shares, answer in zip(picture.shares, answers, strict=True):
        parts = np.array([list(example.layers.values()) for example in answer.proponents])
        assert shares == pytest.approx(parts.sum(0) / sum(example.influence for example in answer.proponents), rel=1e-3)
    assert [(layer.block, layer.kind) for layer in picture.layers] == [
        (block, kind) for block in (0, 1) for kind in ("c_fc", "c_proj")
    ]
    written = [text.get_text().replace("−", "-") for text in picture.figure().axes[0].texts]
    assert written == [f"{100 * share:.0f}" for share in picture.shares.ravel()]
    (tmp_path / "answer.json").write_text(answers[0].to_json(), encoding="utf-8")
    one = plots.layers(answers[:1])
    bars = {round(bar.get_x() + 0.36): bar.get_height() for bar in one.figure().axes[0].patches}
    assert [bars[n] for n in range(4)] == pytest.approx((100 * one.shares[0]).tolist())
    drawn = plot("layers", tmp_path / "answer.json", "-o", tmp_path / "layers.png")
    assert drawn.stdout == one.meaning + "\n"


# -- tokens


def test_the_map_is_drawn_token_by_token_and_its_strongest_cell_at_full_strength(run: Run) -> None:
    question = run.question(*ASKED)
    found = run.token_map(question, "s7")
    picture = plots.tokens(found)
    values, shown = np.array(found.values), [t for strip in picture.strips for t in strip]
    assert [t for t in range(len(found.example_tokens)) if t in shown] == shown
    peak = np.abs(values).max()
    assert all(np.abs(values[:, t]).max() < peak * 0.04 for t in range(values.shape[1]) if t not in shown)
    fills = [sheet_colour(cell) for axes in picture.figure().axes for cell in axes.patches]
    assert len(fills) == len(shown) * (len(values) + 1)
    strongest = values.ravel()[np.abs(values).argmax()]
    assert (PALETTES["light"].raises if strongest > 0 else PALETTES["light"].lowers) in fills
    place = int(np.abs(values.sum(axis=0)).argmax())
    assert f"enters at “{found.example_tokens[place].strip()}”" in picture.meaning


def sheet_colour(patch: Any) -> str:
    return "#" + "".join(f"{round(255 * part):02X}" for part in patch.get_facecolor()[:3])


def test_of_a_long_example_the_strips_with_shades_are_drawn_and_any_text_can_be(tmp_path: Path) -> None:
    tokens = [*HOSTILE, *("x" for _ in range(600))]
    values = np.zeros((2, len(tokens)))
    values[0, ::40] = np.arange(1, 1 + len(values[0, ::40]))
    picture = plots.tokens(
        TokenMap(
            example_id="<b>$\\frac$</b>\x00",
            query_tokens=["$a_", "--> $"],
            example_tokens=tokens,
            values=values.tolist(),
            contrast_tokens=1,
        )
    )
    assert len(picture.strips) == 8
    shown = {t for strip in picture.strips for t in strip}
    assert int(np.argmax(values[0])) in shown
    assert [strip.start for strip in picture.strips] == sorted(strip.start for strip in picture.strips)
    assert f"Its other {len(tokens) - len(shown)} tokens" in picture.figure().texts[1].get_text().replace("\n", " ")
    ElementTree.fromstring(picture.save(tmp_path / "tokens.svg").read_bytes())


# -- predicted and measured


def test_verifications_are_drawn_as_they_were_measured(run: Run, tmp_path: Path) -> None:
    found = run.verify(run.ask(*ASKED), k=3, random=2)
    assert Verification.from_json(found.to_json()) == found
    (axes,) = plots.verified([found]).figure().axes
    for label, group in (("raised it", "proponent"), ("lowered it", "opponent"), ("random", "random")):
        x, y = points(axes, label)
        checks = [check for check in found.checks if check.group == group]
        assert x.tolist() == [check.predicted for check in checks]
        assert y.tolist() == [check.measured for check in checks]
    x, y = points(axes, "slope")
    assert y / x == pytest.approx(found.slope)
    (tmp_path / "step.json").write_text(found.to_json(), encoding="utf-8")
    drawn = plot("verified", tmp_path / "step.json", tmp_path / "step.json", "-o", tmp_path / "two.pdf")
    assert drawn.exit_code == 0
    assert drawn.stdout.count(f"slope {found.slope:.2f}, correlation {found.correlation:.2f}") == 2


# -- recall


def test_recall_is_what_an_index_of_that_width_finds(run: Run, tmp_path: Path) -> None:
    """Against an index that is built and asked, and a scan of everything."""
    questions, k = plots.own_questions(run, 3), 4
    exact = plots.exact_scores(run, questions)
    found = plots.recall(run, questions, k, widths=(64, 256))
    assert all(width <= wanted for width, wanted in zip(found.widths, (64, 256), strict=True))
    for width, row in zip((64, 256), found.asked, strict=True):
        run.build_index(bytes=width)
        answers = run.ask_all(questions, k=k, fold=False)
        for q, answer in enumerate(answers):
            ends = [
                [run.corpus.position[example.id] for example in end] for end in (answer.proponents, answer.opponents)
            ]
            assert row[q] == recall_of(ends, exact[:, q], k)
    (axes,) = found.figure().axes
    widths, means = points(axes, "the sketches alone")
    assert widths.tolist() == found.widths
    assert means == pytest.approx(100 * found.alone.mean(axis=1))
    assert f"{found.asked[1].mean():.1%}" in found.meaning or f"{found.asked[0].mean():.1%}" in found.meaning


def test_recall_counts_the_exact_strongest_of_both_ends() -> None:
    strengths = np.array([5.0, -3.0, 4.0, 0.0, -9.0, 1.0])
    assert recall_of([[0, 2], [4, 1]], strengths, 2) == 1
    assert recall_of([[0, 5], [4, 3]], strengths, 2) == 0.5
    assert recall_of([[4, 1], [0, 2]], strengths, 2) == 0


# -- files, and what cannot be drawn


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_the_same_numbers_are_the_same_bytes(ending: str, tmp_path: Path) -> None:
    made = [plots.tail(np.array([3.0, 1.0, -2.0]), "a $1 key").save(tmp_path / f"{n}.{ending}") for n in range(2)]
    assert made[0].read_bytes() == made[1].read_bytes()
    assert sorted(tmp_path.iterdir()) == made
    assert plots.tail(np.array([1.0]))._repr_svg_().startswith("<?xml")


def test_without_matplotlib_it_is_said_how_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "find_spec", lambda _: None)
    assert 'pip install "headwater[plots]"' in refusal("tail", run.path, *ASKED)
    with pytest.raises(HeadwaterError, match=r"headwater\[plots\]"):
        plots.tail(np.array([1.0])).figure()


def test_what_cannot_be_drawn_is_refused_in_words(run: Run, scan: Path, tmp_path: Path) -> None:
    queries, nothing = run.path.parent / "queries.jsonl", tmp_path / "nothing.json"
    nothing.write_text("{}", encoding="utf-8")
    assert "has to end in .svg, .png, .pdf" in refusal("tail", run.path, "-o", "tail.jpg")
    assert "Give a question" in refusal("tail", run.path)
    assert "holds several queries" in refusal("tail", scan)
    assert "It has 2: q1, q2" in refusal("tail", scan, "--query", "q3")
    assert "cannot be read as a Parquet file" in refusal("tail", queries)
    assert "either a prompt or --queries" in refusal("layers", run.path, "Once", "--queries", queries)
    assert "not an answer" in refusal("layers", nothing)
    assert "not a verification of Headwater: kind: Field required" in refusal("verified", nothing)
    assert "gone.json cannot be read" in refusal("verified", tmp_path / "gone.json")
    assert "Measure methods first: headwater evaluate RUN" in refusal("cost", run.path)
    assert "not a result of headwater evaluate" in refusal("cost", scan)
    assert "at least 100 examples" in refusal("recall", run.path, "-k", "50")
    assert "No example of this run has the id" in refusal("tokens", run.path, *ASKED, "--id", "s99")
    with pytest.raises(HeadwaterError, match="from 1 to 4 stand side by side"):
        plots.verified([])
    with pytest.raises(HeadwaterError, match="infinite or NaN"):
        plots.tail(np.array([1.0, np.nan]))
