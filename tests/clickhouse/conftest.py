"""Fixtures: an engine with and without tables."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from flowmap.cli import command
from flowmap.clickhouse.reader import StoreReader
from tests.clickhouse.engine import Engine
from tests.clickhouse.hosts import Operator
from tests.clickhouse.stand_in import StandIn, standing_in
from tests.clickhouse.store import Ask, Store
from tests.clickhouse.test_schema import NOON


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
    """A store with two deployments, a host that is not behind, and no connections."""
    made = Store(tables)
    made.host("early", NOON + 1e6)
    return made


@pytest.fixture
def stand_in(tables: Engine) -> Iterator[StandIn]:
    """A server with every table and view."""
    with standing_in(tables) as made:
        yield made


@pytest.fixture
def ask(stand_in: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Runs a subcommand of ``flowmap fleet`` one minute after noon, with a configuration that names the server."""
    monkeypatch.setattr("flowmap.cli.fleet.store.StoreReader", partial(StoreReader, clock=lambda: NOON + 60))
    config = tmp_path / "flowmap.yaml"
    config.write_text(f"history: {{path: {tmp_path}/history.db, clickhouse: {{url: '{stand_in.url}'}}}}")

    def run(*words: str) -> tuple[int, str, str]:
        status = command.main(["fleet", *words, "-c", str(config)])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def operator(tmp_path: Path, engine: Engine, capsys: pytest.CaptureFixture[str]) -> Iterator[Operator]:
    with standing_in(engine) as stand_in:
        yield Operator(tmp_path, stand_in, capsys)
