"""Serves the embedded control plane on a loopback socket."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from flowmap.catalog_file.catalog import CatalogFile
from flowmap.errors import ConfigError
from flowmap.model.address import format_endpoint
from flowmap.sandbox.plane import SandboxControlPlane
from flowmap.sandbox.verify import DEFAULT_KEYS, Keys

BACKLOG = 512


def serve(
    listen: str = "127.0.0.1:0",
    catalog_path: Path | None = None,
    *,
    catalog: CatalogFile | Mapping[str, Any] | None = None,
    keys: Keys = DEFAULT_KEYS,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve a control plane in the foreground until SIGINT or SIGTERM; prints nothing.

    ``on_ready`` is called with the URL once the port is open. ConfigError for a bad address or catalog.
    """
    plane = SandboxControlPlane(catalog, catalog_path=catalog_path, keys=keys)
    with open_listener(listen) as listener:
        if on_ready is not None:
            on_ready(url_of(listener))
        run_server(make_server(plane), listener)


def run_server(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve until ``server.should_exit``. Open requests are then aborted."""
    asyncio.run(server.serve(sockets=[listener]))


class _Server(uvicorn.Server):
    """Stops on a signal without raising it again, so that the caller can finish."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True


def make_server(plane: SandboxControlPlane) -> uvicorn.Server:
    """A server without log and Date header: the plane sets the date, which a fault may falsify."""
    return _Server(
        uvicorn.Config(
            plane.app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=0,
        )
    )


def open_listener(address: str) -> socket.socket:
    """A listening socket at ``ip:port``; ConfigError unless it is loopback, since requests are not encrypted."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        parsed = ipaddress.ip_address(host)
        number = int(port)
    except ValueError as error:
        raise ConfigError(f"listen: {address!r} is not ip:port") from error
    if not parsed.is_loopback or not 0 <= number <= 65535:
        raise ConfigError(f"listen: {address!r}: the sandbox listens on loopback only")
    family = socket.AF_INET6 if parsed.version == 6 else socket.AF_INET
    try:
        listener = socket.create_server((host, number), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(f"listen: {address!r}: {error.strerror}") from error
    # Accepted sockets inherit it. asyncio sets it only on sockets made with an explicit protocol; without it every
    # answer waits 40 ms for a delayed ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{format_endpoint(host, port)}"
