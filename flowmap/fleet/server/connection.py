"""The connection to Valkey or Redis. Only this module knows the client, which is imported when it is used."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from flowmap.control.http.own_calls import OWN_CALLS
from flowmap.errors import FleetError
from flowmap.fleet.requests import PARTS

if TYPE_CHECKING:
    from redis.asyncio import Redis

TIMEOUT = 1.0
"""Seconds for one exchange, and for a connection: then the server counts as away."""

SILENCE = 30.0
"""Seconds without a message after which the server must show that it still has the subscription."""

ANSWERED = frozenset(("full", "keys", "read_only", "version", "script", "denied", "loading"))
"""Reasons of failures that a working server answers with: its connection can be used again, and time does not help."""

SCRIPT = Path(__file__).with_name("exchange.lua")
"""The one script that changes the shared state."""

DENIED = re.compile("NOPERM|ACL failure|user executing", re.IGNORECASE)
"""What Valkey and Redis reply where the user may not run a command; within a script they say it otherwise."""

Argument = str | int | float | bytes


class Script:
    """A script that the server runs."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text()
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where the server is and how to log in."""

    host: str
    port: int = 6379
    database: int = 0
    username: str | None = None
    password_file: str | None = None
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def __str__(self) -> str:
        return f"{'rediss' if self.tls else 'redis'}://{self.host}:{self.port}/{self.database}"


class Connection(Protocol):
    """What a member needs of a server."""

    async def exchange(self, keys: Sequence[str], arguments: Sequence[Argument]) -> list[Any]:
        """Run the script."""

    async def answers(self, key: str, questions: Sequence[str]) -> list[bytes | None]:
        """The stored answers."""

    def messages(self, channel: str) -> AsyncGenerator[bytes | None]:
        """What the server passes on a channel."""

    async def aclose(self) -> None:
        """Close it."""


class Server:
    """One connection, made again after a failure. Used in one event loop; every failure is a FleetError."""

    def __init__(self, address: ServerAddress) -> None:
        self.address = address
        self._exchange = Script(SCRIPT)
        self._client: Redis | None = None

    async def exchange(self, keys: Sequence[str], arguments: Sequence[Argument]) -> list[Any]:
        """Run the script that changes the shared state; see its heading."""
        assert len(keys) == len(PARTS)
        return await self.run(self._exchange, keys, arguments)

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> list[Any]:
        """Run a script once."""
        return list(await self._run("EVALSHA", script.sha, len(keys), *keys, *arguments, text=script.text))

    async def answers(self, key: str, questions: Sequence[str]) -> list[bytes | None]:
        """The stored answers to these questions."""
        return list(await self._run("HMGET", key, *questions))

    async def messages(self, channel: str) -> AsyncGenerator[bytes | None]:
        """What the server passes on a channel, over a connection of its own; None first, once it is subscribed.

        Ends with FleetError only. A message is lost if it was sent while nothing was subscribed.
        """
        client = None
        try:
            client = connect(self.address)
            subscription = client.pubsub()
            async with asyncio.timeout(2 * TIMEOUT):
                await subscription.subscribe(channel)
            silent = False
            while True:
                message = await subscription.get_message(timeout=SILENCE)
                if message is None and silent:
                    raise FleetError(f"{self.address}: the server does not answer", reason="timeout")
                silent = message is None
                if message is None:
                    await subscription.ping()
                elif message["type"] == "subscribe":
                    yield None
                elif message["type"] == "message":
                    yield message["data"]
        except Exception as error:
            raise error if isinstance(error, FleetError) else failure(error, self.address) from error
        finally:
            if client is not None:
                with contextlib.suppress(Exception):
                    await client.aclose()

    async def info(self, section: str) -> dict[str, str]:
        """A section of the server's description; empty if this user may not read it."""
        try:
            found = await self._run("INFO", section)
        except FleetError:
            return {}
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}

    async def aclose(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _run(self, *command: Argument, text: str = "") -> Any:
        try:
            async with asyncio.timeout(2 * TIMEOUT):
                return await self._send(text, *command)
        except Exception as error:
            failed = error if isinstance(error, FleetError) else failure(error, self.address)
            if failed.reason not in ANSWERED:
                await self._drop()
            raise failed from error

    async def _send(self, text: str, *command: Argument) -> Any:
        from redis.exceptions import NoScriptError

        if self._client is None:
            self._client = connect(self.address)
        # Commands as such: their wrappers have other forms and types in every version of the client.
        try:
            return await self._client.execute_command(*command)  # type: ignore[no-untyped-call]
        except NoScriptError:  # the server was restarted, or is another one
            return await self._client.execute_command("EVAL", text, *command[2:])  # type: ignore[no-untyped-call]

    async def _drop(self) -> None:
        """Close a connection that may hold a late reply."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):  # it is broken already
                await client.aclose()


def connect(address: ServerAddress) -> Redis:
    """A client for one connection; it repeats nothing itself. FleetError without the library or the password."""
    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        raise FleetError("the library redis is missing: pip install 'flowmap[fleet]'", reason="library") from None
    try:
        password = None if address.password_file is None else Path(address.password_file).read_text().strip()
    except OSError as error:
        raise FleetError(f"fleet.password_file: {address.password_file}: {error.strerror}", reason="auth") from error
    encrypted: dict[str, Any] = {}
    if address.tls:
        _readable("ca_file", address.ca_file)
        _readable("cert_file", address.cert_file)
        _readable("key_file", address.key_file)
        encrypted = {
            "ssl": True,
            "ssl_ca_certs": address.ca_file,
            "ssl_certfile": address.cert_file,
            "ssl_keyfile": address.key_file,
            "ssl_check_hostname": True,
        }
    return Redis(
        host=address.host,
        port=address.port,
        db=address.database,
        username=address.username,
        password=password,
        protocol=2,
        single_connection_client=False,
        max_connections=2,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
        redis_connect_func=_connected,
        **encrypted,
    )


async def _connected(connection: Any) -> None:
    """Called by the client for a connection that was just made."""
    stream = connection._writer
    OWN_CALLS.note(stream.get_extra_info("sockname"), stream.get_extra_info("peername"))
    await connection.on_connect()


def _readable(name: str, path: str | None) -> None:
    """FleetError if a file for TLS cannot be read: the client's own error does not name it."""
    if path is None:
        return
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise FleetError(f"fleet.tls.{name}: {path}: {error.strerror}", reason="tls") from error


def failure(error: Exception, address: ServerAddress) -> FleetError:
    """The error for an exception of the client, with a reason that serves as a metric label."""
    import ssl

    from redis import exceptions

    text = str(error).splitlines()[0][:200].rstrip(".: ") if str(error) else type(error).__name__
    chain = [error, error.__cause__, error.__context__]
    unknown = isinstance(error, exceptions.AuthenticationError) or "NOAUTH" in text or "WRONGPASS" in text
    if "unauthenticated" in text:  # what a server with a password replies to a long command
        text, unknown = "Authentication required", True
    if "FLEETVERSION" in text:
        return other_version(address)
    reasons: list[tuple[bool, str]] = [
        (any(isinstance(one, ssl.SSLError) for one in chain), "tls"),
        (unknown or "Authentication required" in text, "auth"),
        (isinstance(error, exceptions.NoPermissionError) or DENIED.search(text) is not None, "denied"),
        (isinstance(error, exceptions.BusyLoadingError), "loading"),
        (isinstance(error, exceptions.ReadOnlyError) or "READONLY" in text, "read_only"),
        (isinstance(error, exceptions.OutOfMemoryError), "full"),
        (isinstance(error, exceptions.TimeoutError | TimeoutError), "timeout"),
        (isinstance(error, exceptions.ConnectionError | OSError), "connect"),
        ("WRONGTYPE" in text or "wrong kind of value" in text, "keys"),
        (isinstance(error, exceptions.ResponseError), "script"),
    ]
    reason = next((name for holds, name in reasons if holds), "error")
    if address.tls and reason == "timeout":
        text += "; a port without TLS does not answer either"
    return FleetError(f"{address}: {text}", reason=reason)


def other_version(address: ServerAddress) -> FleetError:
    """The error where the state on the server is of another version."""
    return FleetError(
        f"{address}: the hosts of the fleet run a flowmap of another version: they share nothing with this one until "
        "they are upgraded",
        reason="version",
    )
