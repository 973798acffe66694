"""``flowmap reload``: make a running daemon reload its configuration.

Exit status 0 if the daemon applied it, 78 if the daemon rejected it and keeps the running one, 1 if the outcome is not
known.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowmap.cli.shared import options
from flowmap.errors import ConfigError, QueryError

if TYPE_CHECKING:
    from flowmap.cli.shared.client import DaemonClient

TIMEOUT = 20.0
"""Seconds to wait for the outcome."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the daemon."""
    options.add_daemon(parser)
    parser.add_argument(
        "--pid", type=options.positive, help="process id of the daemon; default: as reported by the daemon at --url"
    )


def run(arguments: argparse.Namespace) -> int:
    """Send SIGHUP and wait until the daemon reports the outcome."""
    from flowmap.cli.shared.client import connect

    with connect(arguments) as client:
        try:
            before = _configuration(client)
        except QueryError as error:
            if not arguments.pid:
                raise
            send_hangup(arguments.pid)
            raise QueryError(
                f"SIGHUP sent to process {arguments.pid}, outcome not known: {error}; see its log"
            ) from error
        if arguments.pid and arguments.pid != before["pid"]:
            raise QueryError(
                f"the daemon at {arguments.url} is process {before['pid']}; give the URL of the other one with --url"
            )
        send_hangup(int(before["pid"]))
        after = _wait_for_more(client, before)
    if after["lastError"]:
        raise ConfigError(f"reload rejected, the daemon keeps the running configuration:\n{after['lastError']}")
    print(f"process {after['pid']} reloaded {after['file'] or 'its environment'}")
    return 0


def _wait_for_more(client: DaemonClient, before: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + TIMEOUT
    while (after := _configuration(client))["reloads"] == before["reloads"]:
        if time.monotonic() > deadline:
            raise QueryError(f"process {before['pid']} did not report the outcome within {TIMEOUT:.0f} s; see its log")
        time.sleep(0.05)
    return after


def _configuration(client: DaemonClient) -> dict[str, Any]:
    found = client.get("status").get("configuration")
    if not isinstance(found, dict) or "reloads" not in found:
        raise QueryError("this daemon is too old to reload its configuration; restart it")
    return found


def send_hangup(pid: int) -> None:
    """Send SIGHUP to a flowmap daemon; QueryError if ``pid`` is another process.

    The pid came over HTTP and SIGHUP terminates most programs, so the command line is checked first. The pidfd refers
    to the checked process even if its pid is reused.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except OSError as error:
        raise QueryError(f"no process {pid} on this host; is the daemon in a container or on another host?") from error
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"run" not in words or not any(os.path.basename(word) == b"flowmap" for word in words):
            raise QueryError(f"process {pid} is not `flowmap run`; send SIGHUP to the daemon yourself")
        signal.pidfd_send_signal(descriptor, signal.SIGHUP)
    except PermissionError as error:
        raise QueryError(f"process {pid} belongs to another user; run this as root or as that user") from error
    except FileNotFoundError as error:
        if not Path("/proc/self").exists():
            raise QueryError(
                f"cannot check whether process {pid} is `flowmap run`: /proc is not mounted; "
                "send SIGHUP to the daemon yourself"
            ) from error
        raise QueryError(f"process {pid} has just exited") from error
    finally:
        os.close(descriptor)
