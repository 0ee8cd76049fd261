from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import Phase, settings

from headwater import configure_process
from tests.killing import Host, killing_host

pytest_plugins = ["tests.browsing"]  # the fixtures of the tests of the page
configure_process()  # reused memory makes the tests faster
os.environ["HF_HUB_OFFLINE"] = "1"  # tests never reach for the network
# Shrinking a failing example of a model test takes minutes and rarely tells more than the example itself.
settings.register_profile("headwater", phases=[Phase.explicit, Phase.reuse, Phase.generate], deadline=None)
settings.load_profile("headwater")
torch.set_num_threads(1)  # the models of the tests are too small for a second thread to help


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    """A process that runs command lines in children, which are killed or short of room."""
    with killing_host() as made:
        yield made


SLOWEST = ("test_examples.py", "test_ray_engine.py", "test_faults.py")
"""These begin first, so that no process is left with one of them at the end."""
FAST = (
    *("test_answer", "test_byte_sizes", "test_checkpoint_policy", "test_cloud", "test_contamination", "test_corpus"),
    *("test_curvature", "test_duplicates", "test_gradient", "test_guard", "test_head", "test_house", "test_influence"),
    *("test_options", "test_paper", "test_progress_bar", "test_public_errors", "test_read", "test_render"),
    *("test_sketch", "test_solvers", "test_truncated", "test_world"),
)
"""What `make test-fast` runs: files that neither train, serve, kill nor open a browser."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in SLOWEST)
    for item in items:
        if item.path.stem not in FAST:
            item.add_marker("slow")
