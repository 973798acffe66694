"""The connection to a real server: TLS, a user with few rights, and a reason for every failure."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowmap.control.http.own_calls import OWN_CALLS
from flowmap.errors import FleetError
from flowmap.fleet.server.connection import Server, ServerAddress
from flowmap.fleet.server.exchange import VERSION, Exchange, Reply
from flowmap.fleet.waiting import Report
from tests.support.certificates import Authority
from tests.support.fleet import SCOPE, settled
from tests.support.valkey import ValkeyServer, free_port, running

RIGHTS = (
    *("~flowmap:*", "&flowmap:*", "+eval", "+evalsha", "+hmget", "+info", "+ping", "+select", "+subscribe", "+time"),
    *("+del", "+expire", "+hdel", "+hget", "+hgetall", "+hlen", "+hset", "+publish", "+zadd", "+zcard", "+zcount"),
    *("+zincrby", "+zrange", "+zrangebylex", "+zrangebyscore", "+zrem", "+zremrangebylex", "+zremrangebyscore"),
    *("+zrevrange", "+zscore"),
)
"""As in the README of the room."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    with running(tmp_path) as one:
        settled(one)
        yield one


def exchange(address: ServerAddress, **changes: Any) -> Reply:
    """The reply to one exchange over a connection of its own."""

    async def main() -> Reply:
        server = Server(address)
        try:
            values: dict[str, Any] = {"host": "h", "epoch": "e", "rate": 10.0, "burst": 5, "size": 3}
            values |= {"recheck": 1.0, "lease": 9.0}
            raw = await server.exchange(SCOPE.keys(), Exchange(**(values | changes)).arguments())
            assert await server.answers(SCOPE.answers_key, ["none"]) == [None]
            assert "maxmemory_policy" in await server.info("memory")
            return Reply.parse(raw)
        finally:
            await server.aclose()

    return asyncio.run(main())


def reason_of(address: ServerAddress, **changes: Any) -> str:
    with pytest.raises(FleetError) as failed:
        exchange(address, **changes)
    assert str(failed.value).count("\n") == 0
    return failed.value.reason


def test_an_exchange(server: ValkeyServer) -> None:
    reply = exchange(server.address)
    assert (reply.epoch, reply.hosts, reply.missing, reply.queued, reply.tickets) == ("e", 1, 0, 0, ())
    assert reply.rate == 10.0 and reply.token_in == 0.0


def test_its_connections_are_known_as_flowmaps_own(server: ValkeyServer) -> None:
    list(OWN_CALLS.take())
    exchange(server.address)
    ((local, remote),) = OWN_CALLS.take()
    assert str(remote) == f"127.0.0.1:{server.port}" and local.port


def test_a_user_limited_to_the_prefix_can_do_everything(server: ValkeyServer, tmp_path: Path) -> None:
    server.command("ACL", "SETUSER", "flowmap", "on", ">secret", "resetkeys", "-@all", *RIGHTS)
    password = tmp_path / "password"
    password.write_text("secret\n")
    address = ServerAddress("127.0.0.1", server.port, 0, "flowmap", str(password))
    assert exchange(address).hosts == 1
    text = (Path(__file__).parents[3] / "flowmap/fleet/README.md").read_text()
    assert set(re.findall(r"[+][a-z]+", text)) == set(RIGHTS[2:])
    password.write_text("wrong")
    assert reason_of(address) == "auth"
    server.command("ACL", "SETUSER", "flowmap", "-zadd")
    password.write_text("secret")
    assert reason_of(address) == "denied"
    server.command("ACL", "SETUSER", "flowmap", "+zadd", "resetkeys", "~other:*")
    assert reason_of(address) == "denied"
    assert reason_of(ServerAddress("127.0.0.1", server.port, 0, "flowmap", str(tmp_path / "none"))) == "auth"


def test_a_host_whose_exchange_fails_on_the_server_counts_as_missing_for_a_minute(server: ValkeyServer) -> None:
    """Hosts of another version use their own share of the rate. Gone for good, they cost the others nothing."""
    server.command("HSET", SCOPE.keys()[0], "version", "99")
    assert reason_of(server.address, host="other") == "version"
    seconds = int(server.command("TIME")[0])
    assert seconds - 86400 < float(server.command("ZSCORE", SCOPE.keys()[-1], "other")) <= seconds - 86400 + 61
    server.command("HSET", SCOPE.keys()[0], "version", str(VERSION))
    reply = exchange(server.address)
    assert (reply.hosts, reply.missing) == (1, 1)
    server.command("HDEL", SCOPE.keys()[0], "missing")  # counted anew
    assert exchange(server.address, host="other").hosts == 2
    server.command("HSET", SCOPE.keys()[0], "version", "99")
    asyncio.run(left(server.address, "other"))
    assert server.command("ZRANGE", SCOPE.keys()[-1], "0", "-1") == [b"h"]


async def left(address: ServerAddress, host: str) -> None:
    """Take leave."""
    server = Server(address)
    leave = Exchange(host=host, epoch="e", rate=1.0, burst=1, size=1, recheck=1.0, lease=1.0, notice="leave")
    await server.exchange(SCOPE.keys(), leave.arguments())
    await server.aclose()


@pytest.mark.parametrize(("seconds", "granted"), [(2, 5), (30, 1)])
def test_a_fleet_that_was_silent_has_used_its_calls(server: ValkeyServer, seconds: int, granted: int) -> None:
    """Its hosts may all have used their own shares until now. One call is granted ahead."""
    now = int(server.command("TIME")[0])
    server.command("HSET", SCOPE.keys()[0], "last", str(now - seconds), "filled", str(now - seconds))
    assert len(exchange(server.address, repeats=5, rate=0.5).granted) == granted


@pytest.mark.parametrize("place", [0, 1, 5, 6, 9])
def test_keys_that_another_program_changed(server: ValkeyServer, place: int) -> None:
    server.command("DEL", SCOPE.keys()[place])
    server.command("SET", SCOPE.keys()[place], "x")
    assert reason_of(server.address) == "keys"


FIELDS = [
    *("version", "epoch", "last", "tokens", "filled", "turn"),
    *("ticket", "rate", "lowered", "tidied", "live", "missing"),
]
NUMBERS = ["-1", "-1e300", "1e300", "9" * 20, "nan", "inf", "-inf", "0.5"]
GARBAGE: list[str | bytes] = ["", "garbage", *NUMBERS, "\n", "x" * 5000, b"\xff\x00"]


@pytest.mark.parametrize("field", FIELDS)
def test_garbage_in_a_field_of_the_state_is_gone_at_once(server: ValkeyServer, field: str) -> None:
    """No exchange fails, no call too many is granted, and the bucket fills again."""
    state = SCOPE.keys()[0]
    server.command("HSET", state, "live", "1", "missing", "0", "ticket", "7", "turn", "1")
    exchange(server.address)
    written = {one.decode() for one in server.command("HGETALL", state)}
    assert written == set(FIELDS)
    question = Report("owners ws ns 10.0.0.1:0 -", 1.0, "0", 0.0)
    for garbage in GARBAGE:
        server.command("HSET", state, field, garbage)
        reply = exchange(server.address, repeats=20, slots=1, wants=(question,))
        assert (reply.hosts, reply.missing) == (1, 0), garbage
        assert len(reply.granted) + len(reply.tickets) <= 6, garbage
        assert 0 <= reply.token_in <= 70 and 0 < reply.rate <= 10, garbage
        assert all(ticket.number.isdigit() for ticket, _ in reply.tickets), garbage
        assert server.command("HGET", state, field) != garbage or (field, garbage) in ALLOWED
        server.command("DEL", *SCOPE.keys()[1:-1])
        settled(server)


ALLOWED = {("tokens", "-1"), ("tokens", "0.5"), ("rate", "0.5"), ("lowered", "0.5"), ("last", "0.5"), ("filled", "0.5")}
"""Values that an exchange can write."""


@pytest.mark.parametrize("arguments", [1, 2000])
def test_a_server_that_wants_a_password(server: ValkeyServer, arguments: int) -> None:
    """It breaks off a command that is too long for a host that did not log in."""
    server.command("CONFIG", "SET", "requirepass", "secret")
    with pytest.raises(FleetError, match="Authentication required") as failed:
        asyncio.run(Server(server.address).answers(SCOPE.answers_key, ["x" * 100] * arguments))
    assert failed.value.reason == "auth"
    assert reason_of(server.address) == "auth"


def test_files_for_tls_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match=r"fleet.tls.ca_file: .*/none: No such file") as failed:
        exchange(ServerAddress("127.0.0.1", free_port(), tls=True, ca_file=str(tmp_path / "none")))
    assert failed.value.reason == "tls"


def test_tls_with_a_server_without_tls(server: ValkeyServer) -> None:
    with pytest.raises(FleetError, match="TLS"):
        exchange(replace(server.address, tls=True))


def test_a_server_that_is_not_there(server: ValkeyServer) -> None:
    assert reason_of(ServerAddress("127.0.0.1", free_port())) == "connect"
    assert reason_of(ServerAddress("host.invalid")) == "connect"
    server.pause()
    assert reason_of(server.address) == "timeout"
    server.resume()
    assert exchange(server.address).hosts == 1


def test_a_server_that_forgot_the_script_gets_it_again(server: ValkeyServer) -> None:
    async def main() -> None:
        connection = Server(server.address)
        leave = Exchange(
            host="h", epoch="e", rate=1.0, burst=1, size=1, recheck=1.0, lease=1.0, notice="leave"
        ).arguments()
        for _ in range(2):
            await connection.exchange(SCOPE.keys(), leave)
            server.command("SCRIPT", "FLUSH")
        await connection.aclose()

    asyncio.run(main())


@pytest.mark.parametrize(
    "raw",
    [
        [],
        [b"1"],
        [b"x"] * 15,
        [b"1", b"e", b"1", b"odd", b"", b"", b"", b"", 0, b"0", 1, 0, b"0", b"1", b""],
        ["1"] * 15,
    ],
)
def test_a_reply_of_another_script_is_an_error(raw: list[object]) -> None:
    with pytest.raises(FleetError) as failed:
        Reply.parse(raw)
    assert failed.value.reason == "protocol"


def test_tls(tmp_path: Path) -> None:
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("needs a server with TLS (Debian: redis-server)")
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    chain, key = authority.issue("server", "localhost", "127.0.0.1")
    client_chain, client_key = authority.issue("client", "flowmap")
    port = free_port()
    options = ("--tls-port", str(port), "--tls-cert-file", chain, "--tls-key-file", key)
    with running(tmp_path, *options, "--tls-ca-cert-file", str(authority.file), program=program) as server:
        settled(server)
        trusting = ServerAddress(
            "localhost", port, tls=True, ca_file=str(authority.file), cert_file=client_chain, key_file=client_key
        )
        assert exchange(trusting).hosts == 1
        assert reason_of(replace(trusting, ca_file=str(other.file))) == "tls"
        assert reason_of(replace(trusting, cert_file=None, key_file=None)) in ("tls", "connect")
        assert reason_of(replace(trusting, host="127.0.0.2")) in ("tls", "connect")
        assert reason_of(ServerAddress("localhost", port)) in ("connect", "timeout", "error")
