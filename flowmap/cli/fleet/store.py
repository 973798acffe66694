"""Asks the store of the fleet, and answers as a daemon would: so commands print the same for both."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from flowmap.clickhouse.reader import StoreReader
from flowmap.config import load
from flowmap.daemon.clickhouse import server_of
from flowmap.errors import ConfigError
from flowmap.query.fleet import FleetAnswers, FleetQueries
from flowmap.serve.api.backend import PastBackend
from flowmap.serve.api.in_process import answer
from flowmap.system.names import run_loop


@contextmanager
def connect(arguments: argparse.Namespace) -> Iterator[StoreClient]:
    """A client of the store in ``history.clickhouse``; ConfigError if none is configured."""
    config = load(arguments.config, os.environ)
    if config.history.clickhouse.url is None:
        raise ConfigError("history.clickhouse.url: not set; give the URL of your ClickHouse")
    reader = StoreReader(server_of(config), translated_ends=config.attribute.nat == "translated")
    queries = FleetQueries(reader, owners_limit=config.attribute.owners_limit)
    with run_loop() as runner, closing(queries):  # it waits for the question under way, so that is cancelled first
        yield StoreClient(FleetAnswers(queries), runner)


class StoreClient:
    """Implements ``flowmap.cli.shared.client.Client`` from the store."""

    def __init__(self, backend: PastBackend, runner: asyncio.Runner) -> None:
        self._backend = backend
        self._runner = runner

    def get(self, path: str, parameters: Mapping[str, str | int | None] | None = None) -> dict[str, Any]:
        """What a daemon answers to ``GET /api/v1/<path>``. QueryError, HistoryError or ConfigError on failure."""
        given = {name: str(value) for name, value in (parameters or {}).items() if value is not None}
        return self._runner.run(answer(self._backend, path, given))
