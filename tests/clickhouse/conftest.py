"""Fixtures: an engine with and without tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clickhouse.engine import Engine


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An empty database."""
    made = Engine()
    yield made
    made.close()


@pytest.fixture
def tables(engine: Engine) -> Engine:
    """A database with every table and view."""
    engine.make_tables()
    return engine
