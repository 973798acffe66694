"""A host that sends its history to the store, and an operator who runs commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowmap.cli.command import main
from flowmap.clickhouse.bodies import Origin
from flowmap.clickhouse.sender import Sender
from flowmap.clickhouse.server import Server, ServerAddress
from flowmap.history.file import Limits
from flowmap.history.spool import Spool
from flowmap.history.store import HistoryStore
from tests.clickhouse.stand_in import StandIn
from tests.support.closed_flows import NOW, Flow, closed

LIMITS = Limits(retain=1e9, max_size=16 << 20)


class Host:
    """A host with a history file and a sender whose turns the test takes."""

    def __init__(self, path: Path, stand_in: StandIn, name: str = "web-1", limits: Limits = LIMITS) -> None:
        self.path, self.stand_in, self.name = str(path), stand_in, name
        self.store = HistoryStore(self.path, limits)
        self.store.open()
        self._servers: list[Server] = []
        self.sender = self.restarted()

    def restarted(self, password_file: str | None = None) -> Sender:
        """Another sender, as after a restart of the daemon."""
        address = ServerAddress(self.stand_in.url, self.stand_in.engine.database, password_file=password_file)
        self._servers.append(Server(address))
        self.sender = Sender(Spool(self.path), self._servers[-1], Origin(self.name), source="scripted")
        return self.sender

    def close(self) -> None:
        self.store.close()
        for server in self._servers:
            server.close()

    def write(self, *flows: Flow) -> None:
        self.store.write(closed(*flows), (), now=NOW)

    def ports(self) -> list[int]:
        """Client ports of all rows in the store."""
        rows = self.stand_in.engine.rows("SELECT client_port FROM ends ORDER BY client_port")
        return [port for (port,) in rows]


def flows(*ports: int) -> list[Flow]:
    return [Flow(client_port=port) for port in ports]


class Operator:
    """Runs commands with a configuration that names the stand-in."""

    def __init__(self, directory: Path, stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
        self.stand_in, self.capsys = stand_in, capsys
        self.file = directory / "flowmap.yaml"
        self.file.write_text(
            f"history: {{path: {directory / 'history.db'}, clickhouse: {{url: '{stand_in.url}', "
            f"database: {stand_in.engine.database}, host: web-1}}}}\n"
        )

    def run(self, *words: str) -> tuple[int, str]:
        """Exit status and output of ``flowmap fleet``."""
        status = main(["fleet", *words, "-c", str(self.file)])
        found = self.capsys.readouterr()
        return status, found.out + found.err
