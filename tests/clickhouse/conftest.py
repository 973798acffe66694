"""Fixtures: an engine with and without tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clickhouse.engine import Engine
from tests.clickhouse.store import TABLES, Store


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


@pytest.fixture(scope="module")
def full_engine() -> Iterator[Engine]:
    """One database with all tables for the tests of a file: it takes a second to make them."""
    made = Engine()
    made.make_tables()
    yield made
    made.close()


@pytest.fixture
def store(full_engine: Engine) -> Store:
    """A store with two deployments and no connections."""
    for table in TABLES:
        full_engine.execute(f"TRUNCATE TABLE {table}")
    return Store(full_engine)
