"""systemd's side of a service: readiness, watchdog, state (sd_notify(3)) and sockets handed over (sd_listen_fds(3)).

The protocol is a datagram of ``KEY=value`` lines to the socket in ``NOTIFY_SOCKET``; nothing is answered.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Mapping

from flowmap.errors import ConfigError

log = logging.getLogger(__name__)

PATIENCE = 0.5
"""Seconds that a message may wait for room in systemd's queue, where a change of state would else go unheard."""

_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START


class Notifier:
    """Tells systemd; silent where nobody listens."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.watchdog = _watchdog(environ)
        """Seconds within which :meth:`alive` has to be called again; None without a watchdog."""
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        self._status = ""
        if self._address.startswith(("/", "@")):
            try:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            except OSError as error:
                log.warning("systemd cannot be told anything: no Unix socket: %s", error.strerror)
        if self._address.startswith("@"):  # an abstract name
            self._address = "\0" + self._address[1:]

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ready(self, status: str) -> None:
        """The service has started, or the reload is over."""
        self._send("READY=1", f"STATUS={_line(status)}", patience=PATIENCE)

    def reloading(self) -> None:
        """A reload begins. The time stamp is what ``Type=notify-reload`` (systemd 253) needs; others ignore it."""
        self._send(
            "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}", patience=PATIENCE
        )

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1", "STATUS=stopping", patience=PATIENCE)

    def status(self, text: str) -> None:
        """A line for ``systemctl status``; told only when it changed."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={_line(text)}")

    def alive(self) -> None:
        """Keep the watchdog quiet for another :attr:`watchdog` seconds."""
        if self.watchdog is not None:
            self._send("WATCHDOG=1")

    def _send(self, *lines: str, patience: float = 0.0) -> None:
        """Nothing may wait for long for whoever does not read; but some messages are not followed by others."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.settimeout(patience)
                self._socket.sendto("\n".join(lines).encode(), self._address)


def _line(text: str) -> str:
    return " ".join(text.split()).encode("ascii", "replace").decode()


def _watchdog(environ: Mapping[str, str]) -> float | None:
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isdecimal() and int(text) > 0 else None


def take_listener(environ: Mapping[str, str], host: str, port: int) -> socket.socket | None:
    """The listening socket systemd hands over, if it does; ConfigError unless it is the one that is configured.

    What may be served without login or TLS is judged by the configured address, so the socket must have it.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()) or environ.get("LISTEN_FDS", "0") == "0":
        return None
    if environ["LISTEN_FDS"] != "1":
        raise ConfigError(f"the socket unit hands over {environ['LISTEN_FDS']} sockets; flowmap takes one")
    try:
        listener = socket.socket(fileno=_FIRST_DESCRIPTOR)
    except OSError as error:
        raise ConfigError(
            f"LISTEN_FDS names a socket as descriptor {_FIRST_DESCRIPTOR}, and there is none: {error.strerror}"
        ) from error
    try:
        if listener.family not in (socket.AF_INET, socket.AF_INET6):
            raise ConfigError("the socket unit hands over a socket that is none of TCP")
        found = listener.getsockname()[:2]
        if found != (host, port):
            raise ConfigError(
                f"the socket unit listens on {found[0]} port {found[1]}, http.listen says {host} port {port};"
                " make them the same"
            )
        listener.set_inheritable(False)
        listener.setblocking(False)
    except ConfigError:
        listener.close()
        raise
    return listener
