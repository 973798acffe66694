"""What a check asks the server: it runs every command of an exchange, and leaves nothing."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from flowmap.errors import FleetError
from flowmap.fleet.server import connection
from flowmap.fleet.server.connection import Script, Server, ServerAddress
from flowmap.fleet.server.probe import CHECK, probe
from tests.support.fleet import SCOPE
from tests.support.valkey import running


def test_the_check_runs_every_command_of_an_exchange() -> None:
    needed = set(re.findall(r"call\('([A-Z]+)'", connection.SCRIPT.read_text()))
    assert set(re.findall(r"try\('([A-Z]+)'", CHECK.text)) == needed


def test_a_server_without_state(tmp_path: Path) -> None:
    async def main(server: Server) -> None:
        seen = await probe(server, SCOPE)
        assert (seen.version, seen.rate, seen.hosts, seen.missing, seen.denied) == ("", None, 0, 0, ())
        assert seen.now > 1e9 and not seen.answer
        await server.aclose()

    with running(tmp_path) as valkey:
        asyncio.run(main(Server(valkey.address)))
        assert not valkey.command("KEYS", "*")


def test_a_host_that_was_restarted_is_one(tmp_path: Path) -> None:
    async def main(server: Server) -> None:
        seen = await probe(server, SCOPE)
        assert (seen.hosts, seen.missing) == (2, 1)
        await server.aclose()

    with running(tmp_path) as valkey:
        now = int(valkey.command("TIME")[0])
        for name, ago in (("a/0/x", 50), ("a/0/y", 10), ("a/0/z", 1), ("b/0/x", 2), ("c/0/x", 90), ("c/0/y", 60)):
            valkey.command("ZADD", SCOPE.keys()[-1], str(now - ago), name)
        asyncio.run(main(Server(valkey.address)))


class Odd(Server):
    """Replies with something else."""

    async def run(self, script: Script, keys: Any, arguments: Any) -> list[Any]:
        return [b"x"] * 8


def test_a_reply_of_another_script_is_an_error() -> None:
    with pytest.raises(FleetError, match="not one of flowmap's script"):
        asyncio.run(probe(Odd(ServerAddress("127.0.0.1")), SCOPE))
