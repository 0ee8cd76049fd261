"""Stopping long work in its middle, as a kill would."""

from __future__ import annotations

from collections.abc import Callable

from headwater.base.progress import Step


class KilledError(Exception):
    pass


def kill_at(step: int) -> Callable[[Step], None]:
    """A report that stands for a kill at the given step."""
    left = [step]

    def report(_: Step) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KilledError

    return report
