"""reload: a running daemon reads its configuration again.

Exit status 0 if it took it over, 78 if it refused and goes on with the old one, 1 where neither is known.
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

PATIENCE = 20.0
"""Seconds to wait for what comes of it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which daemon."""
    options.add_daemon(parser)
    parser.add_argument(
        "--pid", type=options.positive, help="its process id; default: the one the daemon at --url tells"
    )


def run(arguments: argparse.Namespace) -> int:
    """Send SIGHUP, and wait for what the daemon says came of it."""
    from flowmap.cli.shared.client import connect

    with connect(arguments) as client:
        try:
            before = _configuration(client)
        except QueryError as error:
            if not arguments.pid:
                raise
            hang_up(arguments.pid)
            raise QueryError(
                f"process {arguments.pid} was told; its log says what came of it, since {error}"
            ) from error
        if arguments.pid and arguments.pid != before["pid"]:
            raise QueryError(f"the daemon at {arguments.url} is process {before['pid']}; name the other one with --url")
        hang_up(int(before["pid"]))
        after = _wait_for_more(client, before)
    if after["lastError"]:
        raise ConfigError(f"refused, the configuration in force stays:\n{after['lastError']}")
    print(f"process {after['pid']} has taken over {after['file'] or 'its environment'}")
    return 0


def _wait_for_more(client: DaemonClient, before: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while (after := _configuration(client))["reloads"] == before["reloads"]:
        if time.monotonic() > deadline:
            raise QueryError(f"process {before['pid']} does not say what came of it; see its log")
        time.sleep(0.05)
    return after


def _configuration(client: DaemonClient) -> dict[str, Any]:
    found = client.get("status").get("configuration")
    if not isinstance(found, dict) or "reloads" not in found:
        raise QueryError("this daemon is too old to reload; restart it")
    return found


def hang_up(pid: int) -> None:
    """SIGHUP for a daemon of flowmap; QueryError if ``pid`` is not one.

    The number came over HTTP, and to most programs SIGHUP is the end: so it must look like ours, and the descriptor
    holds the process that was looked at, whatever takes its number meanwhile.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except OSError as error:
        raise QueryError(f"there is no process {pid} here; is the daemon in a container or on another host?") from error
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"run" not in words or not any(os.path.basename(word) == b"flowmap" for word in words):
            raise QueryError(f"process {pid} is not `flowmap run`; send SIGHUP to the daemon yourself")
        signal.pidfd_send_signal(descriptor, signal.SIGHUP)
    except PermissionError as error:
        raise QueryError(f"process {pid} belongs to somebody else; run this as root or as its user") from error
    except FileNotFoundError as error:
        if not Path("/proc/self").exists():
            raise QueryError(
                f"cannot see whether process {pid} is `flowmap run`: /proc is not mounted; "
                "send SIGHUP to the daemon yourself"
            ) from error
        raise QueryError(f"process {pid} has just ended") from error
    finally:
        os.close(descriptor)
