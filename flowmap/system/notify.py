"""The systemd protocol of a service: readiness, watchdog, status (sd_notify(3)) and passed sockets (sd_listen_fds(3)).

A notification is a datagram of ``KEY=value`` lines to the socket in ``NOTIFY_SOCKET``. There is no answer.
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

TIMEOUT = 0.5
"""Seconds that a change of state may wait for room in systemd's queue."""

_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START


class Notifier:
    """Sends notifications to systemd; does nothing without ``NOTIFY_SOCKET``."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.watchdog = _watchdog(environ)
        """Seconds within which :meth:`alive` must be called again; None without a watchdog."""
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        self._status = ""
        if self._address.startswith(("/", "@")):
            try:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            except OSError as error:
                log.warning("systemd is not notified: cannot open a Unix socket: %s", error.strerror)
        if self._address.startswith("@"):  # an abstract name
            self._address = "\0" + self._address[1:]

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ready(self, status: str) -> None:
        """Report that the service has started, or that a reload has ended."""
        self._send("READY=1", f"STATUS={_line(status)}", timeout=TIMEOUT)

    def reloading(self) -> None:
        """Report a reload. ``Type=notify-reload`` (systemd 253) needs the timestamp; others ignore it."""
        self._send(
            "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}", timeout=TIMEOUT
        )

    def stopping(self) -> None:
        """Report that the service is stopping."""
        self._send("STOPPING=1", "STATUS=stopping", timeout=TIMEOUT)

    def status(self, text: str) -> None:
        """Report a line for ``systemctl status``, if it changed."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={_line(text)}")

    def alive(self) -> None:
        """Reset the watchdog for another :attr:`watchdog` seconds."""
        if self.watchdog is not None:
            self._send("WATCHDOG=1")

    def _send(self, *lines: str, timeout: float = 0.0) -> None:
        """Waits at most ``timeout`` seconds for room; messages that others follow do not wait."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.settimeout(timeout)
                self._socket.sendto("\n".join(lines).encode(), self._address)


def _line(text: str) -> str:
    return " ".join(text.split()).encode("ascii", "replace").decode()


def _watchdog(environ: Mapping[str, str]) -> float | None:
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isdecimal() and int(text) > 0 else None


def take_listener(environ: Mapping[str, str], host: str, port: int) -> socket.socket | None:
    """The listening socket passed by systemd, or None; ConfigError if it has another address than configured.

    The configured address decides what may be served without login or TLS, so the socket must have that address.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()) or environ.get("LISTEN_FDS", "0") == "0":
        return None
    if environ["LISTEN_FDS"] != "1":
        raise ConfigError(
            f"systemd passed {environ['LISTEN_FDS']} sockets: flowmap accepts one; correct the socket unit"
        )
    try:
        listener = socket.socket(fileno=_FIRST_DESCRIPTOR)
    except OSError as error:
        raise ConfigError(
            f"LISTEN_FDS announces a socket as descriptor {_FIRST_DESCRIPTOR}, which is none: {error.strerror}"
        ) from error
    try:
        if listener.family not in (socket.AF_INET, socket.AF_INET6):
            raise ConfigError("systemd passed a non-TCP socket: correct the socket unit")
        found = listener.getsockname()[:2]
        if found != (host, port):
            raise ConfigError(
                f"the socket unit listens on {found[0]} port {found[1]}, http.listen says {host} port {port};"
                " use the same address"
            )
        listener.set_inheritable(False)
        listener.setblocking(False)
    except ConfigError:
        listener.close()
        raise
    return listener
