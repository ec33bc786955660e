"""Runs that nobody interrupted, to compare with, and the process that starts others."""

from collections.abc import Iterator

import pytest
from global_batch import GlobalBatch
from launcher import Launcher
from same import prepare


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    with Launcher() as made:
        yield made


@pytest.fixture(scope="session")
def whole(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> GlobalBatch:
    folder = tmp_path_factory.mktemp("whole")
    prepare(folder / "prepared", launcher)
    return GlobalBatch(folder, launcher)
