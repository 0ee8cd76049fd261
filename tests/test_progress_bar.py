"""A bar is shown to a person in a terminal or notebook, unless it is told not to be, and nowhere else."""

from __future__ import annotations

import sys

import pytest

from headwater.base import progress_bar
from headwater.base.progress import Step, silent
from headwater.sweep.execution import LOCAL, Execution, visible


def test_no_bar_without_a_terminal() -> None:
    with visible(LOCAL) as execution:
        assert execution.report is silent


def test_a_bar_in_a_terminal_counts_the_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("headwater.sweep.execution.somebody_watches", lambda: True)
    with visible(LOCAL) as execution:
        assert execution.report is not silent
        execution.report(Step(stage="covariances", done=3, total=3, tokens=10))
    shown = capsys.readouterr().err
    assert "covariances" in shown
    assert "3/3" in shown


@pytest.mark.parametrize("progress", [True, False])
def test_a_report_that_was_given_is_kept_and_progress_false_shows_nothing(
    progress: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.sweep.execution.somebody_watches", lambda: True)
    steps: list[Step] = []
    with visible(Execution(report=steps.append), progress) as execution:
        execution.report(Step(stage="scores", done=1, total=1, tokens=0))
    assert [step.stage for step in steps] == ["scores"]
    with visible(LOCAL, False) as execution:
        assert execution.report is silent


def test_an_environment_variable_silences_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("HEADWATER_PROGRESS", raising=False)
    assert progress_bar.somebody_watches()
    monkeypatch.setenv("HEADWATER_PROGRESS", "0")
    assert not progress_bar.somebody_watches()
