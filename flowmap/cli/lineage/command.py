"""``flowmap lineage``: what each deployment reads from and writes to, and how that differs from declared lineage.

Exit status 3 if ``--diff`` finds differences.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from flowmap.cli.output import text
from flowmap.cli.shared import options

HEADER = ("DEPLOYMENT", "DIRECTION", "PEER", "TRANSMIT", "RECEIVE", "LAST UTC")
DIFFERENCES = ("DIFFERENCE", "DEPLOYMENT", "DIRECTION", "PEER")
EXIT_DIFFERS = 3
LOOKUP = 2.0
"""Seconds to resolve one host name of declared lineage."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the selection, the window, and the forms of output."""
    options.add_selection(parser)
    options.add_window(parser, default="the time since the daemon started")
    parser.add_argument("--diff", metavar="FILE", help="compare with declared lineage: events of OpenLineage")
    parser.add_argument(
        "--job-namespace", metavar="N", help="namespace of the jobs in events; default: that of the deployment"
    )
    parser.add_argument(
        "-o",
        "--output",
        choices=("table", "json", "openlineage"),
        help="output format; openlineage: one event a line; default: table on a terminal, otherwise json",
    )
    options.add_daemon(parser)
    options.add_examples(
        parser,
        (
            "flowmap lineage --since 7d -o openlineage > events.ndjson",
            "the last 7 days as events for a lineage service",
        ),
        ("flowmap lineage --diff declared.ndjson", "what is not declared, or not seen; exit status 3 if there is any"),
    )


def run(arguments: argparse.Namespace) -> int:
    """Ask the daemon, and print or compare."""
    from flowmap.cli.shared.client import connect

    with connect(arguments) as client:
        answer = client.get("lineage", options.selection(arguments))
    if arguments.diff is not None:
        return _print_differences(arguments, answer)
    if arguments.output == "openlineage":
        _print_events(answer, arguments.job_namespace)
    elif options.wants_table(arguments):
        text.print_table(HEADER, [row(edge) for edge in answer["edges"]])
    else:
        text.print_json(answer)
    return 0


def row(edge: dict[str, Any]) -> tuple[object, ...]:
    """A row of the table."""
    return (
        " | ".join(one["name"] or one["deploymentId"] for one in edge["deployments"]),
        edge["direction"] + (" (guessed)" if edge["guessed"] else ""),
        edge["peer"],
        text.amount(edge["traffic"]["transmitBytes"]),
        text.amount(edge["traffic"]["receiveBytes"]),
        text.moment(edge["lastSeen"]),
    )


def _print_events(answer: dict[str, Any], namespace: str | None) -> None:
    from flowmap.cli.lineage.openlineage import events

    found, left_out = events(answer, namespace)
    for event in found:
        print(json.dumps(event))
    if left_out:
        what = "edges of deployments that cannot be told apart are in no event; -o json has them"
        sys.stderr.write(f"flowmap: {left_out} {what}\n")


def _print_differences(arguments: argparse.Namespace, answer: dict[str, Any]) -> int:
    from flowmap.cli.lineage.declared import differences, read_declared

    found = differences(answer["edges"], read_declared(arguments.diff), endpoints_of)
    if options.wants_table(arguments):
        text.print_table(DIFFERENCES, found)
    else:
        text.print_json({"differences": [one._asdict() for one in found]})
    return EXIT_DIFFERS if found else 0


def endpoints_of(authority: str) -> list[str]:
    """The endpoints (``ip:port``) that ``host:port`` stands for; none if the name cannot be resolved."""
    from flowmap.model.address import Address, format_endpoint
    from flowmap.system.names import look_up

    host, _, port = authority.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        return []
    try:
        found = look_up(host.strip("[]"), int(port), within=LOOKUP)
        return sorted({format_endpoint(str(Address.parse(one[4][0])), int(port)) for one in found})
    except (OSError, ValueError):
        return []
