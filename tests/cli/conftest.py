"""A sandbox that the tests of a module share, as new for each, and a shell at it; a cluster of open-source Flink."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.control.flink.fake import recorded
from tests.support.flink_cluster import flink_config
from tests.support.sandbox import RunningSandbox, running_sandbox
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


@pytest.fixture
def flink_answers() -> dict[str, Any]:
    """The answers of the recorded cluster, which a test may change."""
    return recorded("session-2.3")


@pytest.fixture
def flink(flink_answers: dict[str, Any], tmp_path: Path) -> Iterator[str]:
    """A configuration with the recorded cluster ``prod``, and ``down``, which does not answer."""
    with flink_config(flink_answers, tmp_path) as file:
        yield file
