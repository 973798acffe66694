"""Bounded lookups of host names: a dead name server does not block a command, a timeout or the shutdown.

``getaddrinfo`` of the C library cannot be interrupted. Its duration follows from resolv.conf(5): attempts × timeout ×
name servers × search domains, by default 10 s for each server and domain.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from functools import partial
from typing import Any

from flowmap.system.detached import DetachedCalls, call_within

THREADS = 2
"""Concurrent lookups, so that a domain without a live server does not block other names."""

LOOKUP_SECONDS = 4.0
"""Longest wait for a name in the event loop. A repeated request joins the running lookup, so that
a lookup of 5 s (dead first name server) succeeds at the second attempt."""

Found = list[tuple[Any, ...]]
"""Result of ``socket.getaddrinfo``."""

LOOKUPS: DetachedCalls[Found] = DetachedCalls("name-lookup", THREADS)
"""The lookups of this process."""


class LookupLoop(asyncio.SelectorEventLoop):
    """asyncio's event loop, with :data:`LOOKUPS` for names and a limit of :data:`LOOKUP_SECONDS` each."""

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Found:
        key = (host, port, family, type, proto, flags)
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                return await LOOKUPS.run(key, partial(socket.getaddrinfo, *key))
        except TimeoutError:
            raise socket.gaierror(socket.EAI_AGAIN, unanswered(LOOKUP_SECONDS)) from None


def run_loop() -> asyncio.Runner:
    """A runner like that of ``asyncio.run``, with a :class:`LookupLoop`."""
    return asyncio.Runner(loop_factory=LookupLoop)


def is_address(host: str) -> bool:
    """Whether ``host`` is an IP address, which needs no name server."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def is_being_looked_up(host: str) -> bool:
    """Whether a lookup of ``host`` is still running."""
    return any(isinstance(key, tuple) and _text(key[0]) == host.lower() for key in LOOKUPS.unfinished())


def look_up(host: str, port: int, *, within: float, flags: int = 0) -> Found:
    """``socket.getaddrinfo`` for TCP in at most ``within`` seconds, without the event loop; OSError or UnicodeError."""
    call = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, flags=flags)
    if is_address(host):
        return call()
    try:
        return call_within(within, call)
    except TimeoutError:
        raise socket.gaierror(socket.EAI_AGAIN, unanswered(within)) from None


def unanswered(seconds: float) -> str:
    """Error message of a lookup that still runs after so many seconds."""
    return f"no name server answered within {seconds:.1f} s; see /etc/resolv.conf"


def lookup_problem(error: BaseException | None) -> str:
    """Why a name has no address, if that caused ``error``; else empty."""
    while error is not None:
        if isinstance(error, socket.gaierror):
            return error.strerror or str(error)
        if isinstance(error, UnicodeError):
            return "not a host name"
        error = error.__cause__ or error.__context__
    return ""


def _text(host: object) -> str:
    return (host.decode(errors="replace") if isinstance(host, bytes) else str(host)).lower()
