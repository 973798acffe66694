"""An embedded control plane that the tests of a module share, as new for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowmap.catalog_file.catalog import example_catalog
from tests.support.sandbox import RunningSandbox, running_sandbox


@pytest.fixture(scope="module")
def _running() -> Iterator[RunningSandbox]:
    with running_sandbox() as running:
        yield running


@pytest.fixture
def sandbox(_running: RunningSandbox) -> RunningSandbox:
    _running.set_faults([])
    _running.set_catalog(example_catalog())
    _running.counts.clear()
    _running.refused.clear()
    _running.recorded.clear()
    return _running
