"""query: who owns a connection.

Exit status 0 if that is one deployment or a known set, 3 if nobody can say, 1 on an error.
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
    """The connection, and whom to ask."""
    parser.add_argument("source", metavar="SRC[:PORT]", type=options.end, help="the end that opened the connection")
    parser.add_argument("destination", metavar="DST[:PORT]", type=options.end, help="the end that accepted it")
    parser.add_argument("--protocol", type=options.protocol, default="tcp", help="name or number; default: tcp")
    parser.add_argument("--at", metavar="TIME", type=options.moment, help="a moment in the past; default: now")
    parser.add_argument("--explain", action="store_true", help="show everything that led to the answer")
    parser.add_argument("--direct", action="store_true", help="ask the control plane itself; needs -c, but no daemon")
    options.add_config(parser)
    options.add_daemon(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask the daemon or the control plane, and print the answer."""
    answer = _from_control_plane(arguments) if arguments.direct else _from_daemon(arguments)
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
    """The question in the words of the API."""
    return {
        "srcIp": arguments.source.ip,
        "srcPort": arguments.source.port,
        "dstIp": arguments.destination.ip,
        "dstPort": arguments.destination.port,
        "protocol": arguments.protocol,
        "at": None if arguments.at is None else f"{arguments.at:.3f}",
        "explain": 1 if arguments.explain else None,
    }
