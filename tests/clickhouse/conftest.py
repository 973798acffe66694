"""Fixtures: an engine with and without tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clickhouse.engine import Engine
from tests.clickhouse.stand_in import StandIn, standing_in
from tests.clickhouse.store import Store


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An empty database."""
    made = Engine()
    yield made
    made.close()


@pytest.fixture(scope="session")
def made_tables() -> Iterator[Engine]:
    """One database for all tests: making the tables takes longer than most of them."""
    made = Engine()
    made.make_tables()
    yield made
    made.close()


@pytest.fixture
def tables(made_tables: Engine) -> Engine:
    """A database with every table and view, without rows."""
    made_tables.use()
    made_tables.empty()
    return made_tables


@pytest.fixture
def store(tables: Engine) -> Store:
    """A store with two deployments and no connections."""
    return Store(tables)


@pytest.fixture
def stand_in(tables: Engine) -> Iterator[StandIn]:
    """A server with every table and view."""
    with standing_in(tables) as made:
        yield made
