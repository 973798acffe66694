"""``flowmap query``: which deployment owns a connection.

Exit status 0 for one deployment or a known set of deployments, 3 for no name, 1 on an error.
"""

from __future__ import annotations

import argparse
from typing import Any

from flowmap.cli.output import explaining, text
from flowmap.cli.output.answer import print_answer
from flowmap.cli.shared import options

NAMED = ("attributed", "shared")
EXIT_UNNAMED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the connection, and the daemon or control plane to ask."""
    add_connection(parser, now="now")
    options.add_netns(parser, "network namespace, by its name or inode, or host; only if several have the connection")
    parser.add_argument("--explain", action="store_true", help="show questions, answers and rules behind the result")
    parser.add_argument("--direct", action="store_true", help="ask the control plane instead of a daemon; needs -c")
    options.add_config(parser)
    options.add_daemon(parser)
    options.add_output(parser)


def add_connection(parser: argparse.ArgumentParser, *, now: str) -> None:
    """Add the endpoints, the protocol and the time; ``now``: what is meant without a time."""
    parser.add_argument(
        "source", metavar="SRC[:PORT]", type=options.endpoint, help="endpoint that opened the connection (client)"
    )
    parser.add_argument(
        "destination", metavar="DST[:PORT]", type=options.endpoint, help="endpoint that accepted it (server)"
    )
    parser.add_argument(
        "--protocol", type=options.protocol, default="tcp", help="protocol, by name or number; default: tcp"
    )
    parser.add_argument(
        "--at",
        metavar="TIME",
        type=options.moment,
        help=f"time of the connection, like 2h (two hours ago); default: {now}",
    )


def run(arguments: argparse.Namespace) -> int:
    """Query the daemon or the control plane and print the attribution."""
    return show(_from_control_plane(arguments) if arguments.direct else _from_daemon(arguments), arguments)


def show(answer: dict[str, Any], arguments: argparse.Namespace) -> int:
    """Print an attribution; returns the exit status."""
    if options.wants_table(arguments):
        print_answer(answer)
        if answer.get("explanation"):
            explaining.print_explanation(answer["explanation"])
    else:
        text.print_json(answer)
    return 0 if answer["state"] in NAMED else EXIT_UNNAMED


def _from_control_plane(arguments: argparse.Namespace) -> dict[str, Any]:
    from flowmap.cli.shared import direct

    return direct.answer(arguments)


def _from_daemon(arguments: argparse.Namespace) -> dict[str, Any]:
    from flowmap.cli.shared.client import connect

    with connect(arguments) as client:
        return client.get("attribution", parameters(arguments))


def parameters(arguments: argparse.Namespace) -> dict[str, str | int | None]:
    """Parameters of ``/api/v1/attribution``."""
    return {
        "srcIp": arguments.source.ip,
        "srcPort": arguments.source.port,
        "dstIp": arguments.destination.ip,
        "dstPort": arguments.destination.port,
        "protocol": arguments.protocol,
        "at": None if arguments.at is None else f"{arguments.at:.3f}",
        "netns": arguments.netns,
        "explain": 1 if arguments.explain else None,
    }
