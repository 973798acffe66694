"""``flowmap opener``: open sockets in other network namespaces for the daemon.

Only this process has CAP_SYS_ADMIN and CAP_SYS_PTRACE. Exit status 0 on SIGTERM or SIGINT, 78 if it cannot listen.
"""

from __future__ import annotations

import argparse
from pathlib import Path

DEFAULT = Path("/run/flowmap/opener.sock")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the socket and who may use it."""
    parser.add_argument(
        "--socket", metavar="PATH", type=Path, default=DEFAULT, help=f"socket for the daemon; default: {DEFAULT}"
    )
    parser.add_argument(
        "--allow",
        metavar="USER",
        action="append",
        default=[],
        help="user, by name or number, who may connect besides root and the opener's user; may be repeated",
    )


def run(arguments: argparse.Namespace) -> int:
    """Drop all other capabilities and serve."""
    from flowmap.daemon.opener import run as run_opener

    run_opener(arguments.socket, arguments.allow, level=getattr(arguments, "log_level", None) or "info")
    return 0
