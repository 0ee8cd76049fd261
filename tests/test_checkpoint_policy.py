"""What is saved on the way of long work, and when."""

from __future__ import annotations

import time

import pytest
import torch

from headwater.sweep.checkpoint_policy import BYTES_A_SECOND, QUICK, WORK_TO_SAVING, CheckpointPolicy

SMALL = {"sums": torch.empty(int(BYTES_A_SECOND * QUICK / 8), dtype=torch.float32)}
LARGE = {"sums": torch.empty(BYTES_A_SECOND // 4, dtype=torch.float32)}


def test_a_small_state_is_saved_after_every_shard() -> None:
    pace = CheckpointPolicy()
    assert pace.is_due(SMALL)
    pace.saved()
    assert pace.is_due(SMALL)


def test_a_large_state_is_saved_once_the_work_since_is_several_times_what_saving_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = CheckpointPolicy(since=now)
    now += WORK_TO_SAVING - 0.1
    assert not pace.is_due(LARGE)
    now += 0.2
    assert pace.is_due(LARGE)
    pace.saved()
    assert not pace.is_due(LARGE)
