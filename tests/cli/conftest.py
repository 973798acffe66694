"""A sandbox that the tests of a module share, as new for each, and a shell at it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flowmap.sandbox.running import RunningSandbox, running_sandbox
from tests.support.shell import CATALOG, Shell


@pytest.fixture(scope="module")
def _running() -> Iterator[RunningSandbox]:
    with running_sandbox(CATALOG) as running:
        yield running


@pytest.fixture
def shell(_running: RunningSandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    _running.set_faults([])
    _running.set_catalog(CATALOG)
    _running.counts.clear()
    return Shell(_running, tmp_path, capsys)
