"""The endpoints that belong to a cluster itself, and the addresses of the names that it gives."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from flowmap.control.clock import Clock
from flowmap.control.flink.records import Configured
from flowmap.errors import Transient
from flowmap.model.address import Address, Endpoint
from flowmap.system.names import is_address

RESOLVE_EVERY = 60.0
"""Seconds for which the address of a name is used."""


class OwnEndpoints(NamedTuple):
    """What belongs to a cluster besides its TaskManagers."""

    job_managers: frozenset[Address]
    services: frozenset[Endpoint]
    """RPC, blob and REST of JobManagers."""
    coordination: frozenset[Endpoint]
    """ZooKeeper, which others may use, too."""


class HostNames:
    """The addresses of the names that one cluster uses for hosts."""

    def __init__(self, cluster: str, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock
        self._known: dict[str, tuple[float, tuple[Address, ...]]] = {}

    async def addresses(self, host: str, *, needed: bool = True) -> tuple[Address, ...]:
        """The addresses of a host. Transient if its name has none and they are needed: its connections would be
        another program's."""
        if is_address(host):
            return (Address.parse(host.partition("%")[0]),)
        now = self._clock.monotonic()
        known = self._known.get(host)
        if known is not None and now - known[0] < RESOLVE_EVERY:
            return known[1]
        try:
            infos = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found = tuple(dict.fromkeys(Address.parse(str(info[4][0]).partition("%")[0]) for info in infos))
        except (OSError, UnicodeError) as error:
            if known is not None or not needed:
                return known[1] if known is not None else ()
            raise Transient(f"{self._cluster}: cannot resolve {host}: {error}", reason="dns") from error
        self._known[host] = (now, found)
        return found


async def resolve_own(
    names: HostNames, configured: Iterable[Configured], urls: Sequence[str], own_addresses: frozenset[Address]
) -> OwnEndpoints:
    """The endpoints of the JobManagers and of their coordination service.

    ``urls``: of their REST interfaces. ``own_addresses``: of this host; a JobManager on it connects from any of them.
    """
    hosts, services, coordination, ports = set[Address](), set[Endpoint](), set[Endpoint](), set[int]()
    for one in configured:
        ports |= one.ports
        hosts.update(await names.addresses(one.job_manager, needed=False) if one.job_manager else ())
        for host in one.coordination:
            coordination |= {Endpoint(at, host.port) for at in await names.addresses(host.name, needed=False)}
    for url in urls:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        services |= {Endpoint(at, port) for at in await names.addresses(parts.hostname or "", needed=False)}
    if not own_addresses.isdisjoint(hosts):
        hosts |= own_addresses
    services |= {Endpoint(address, port) for address in hosts for port in ports}
    return OwnEndpoints(frozenset(hosts), frozenset(services), frozenset(coordination))
