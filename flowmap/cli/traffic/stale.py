"""``flowmap stale``: open connections left by an earlier run or an ended job, idle, or too many to one peer."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from flowmap.cli.output import text
from flowmap.cli.shared import options
from flowmap.cli.traffic.flows import endpoint

HEADER = ("REASON", "DEPLOYMENT", "CLIENT", "SERVER", "STARTED UTC", "RUN SINCE UTC", "IDLE")
ABOVE = ("REASON", "DEPLOYMENT", "PEER", "CONNECTIONS")
MOST = 1000
"""Connections in one answer; the most that the daemon lists."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the selection and the limits."""
    options.add_selection(parser)
    parser.add_argument(
        "--idle",
        metavar="DURATION",
        type=_span,
        help="also connections without traffic for longer, like 1h; default: expect.idle",
    )
    parser.add_argument(
        "--connections",
        metavar="N",
        type=options.positive,
        help="also deployments with more connections to one peer; default: expect.connections",
    )
    parser.add_argument(
        "--limit", metavar="N", type=options.positive, default=100, help="maximum number of connections; default: 100"
    )
    options.add_daemon(parser)
    options.add_output(parser)
    options.add_examples(
        parser,
        (
            "flowmap stale --idle 1h",
            "connections that are older than their job's run, of ended jobs, or idle for an hour",
        ),
        ("flowmap stale --label team=orders --peer 'mysql-*' --connections 20", "those of one team to its databases"),
    )


def run(arguments: argparse.Namespace) -> int:
    """Ask the daemon and print the connections."""
    from flowmap.cli.shared.client import connect

    asked = options.selection(arguments)
    asked |= {"idle": arguments.idle, "connections": arguments.connections, "limit": min(MOST, arguments.limit)}
    with connect(arguments) as client:
        answer = client.get("stale", {name: value for name, value in asked.items() if name not in ("from", "to")})
    if not options.wants_table(arguments):
        text.print_json(answer)
        return 0
    text.print_table(HEADER, [row(one) for one in answer["connections"]])
    if answer["aboveLimit"]:
        print()
        text.print_table(ABOVE, [_above(one) for one in answer["aboveLimit"]])
    for remark in remarks(answer):
        sys.stderr.write(f"flowmap: {remark}\n")
    return 0


def row(one: dict[str, Any]) -> tuple[object, ...]:
    """A row of the table."""
    flow = one["flow"]
    return (
        ", ".join(reason.replace("_", " ") for reason in one["reasons"]),
        ", ".join(deployment["name"] for deployment in flow["deployments"]),
        endpoint(flow["client"]),
        endpoint(flow["server"]),
        text.moment(flow["startedAt"]),
        text.moment(one["runStartedAt"]),
        None if one["idleSeconds"] is None else text.span(one["idleSeconds"]),
    )


def remarks(answer: dict[str, Any]) -> list[str]:
    """What the table does not show."""
    found = []
    if answer["total"] > len(answer["connections"]):
        found.append(f"the first {len(answer['connections'])} of {answer['total']}; use --limit")
    if answer["unjudged"]:
        unjudged = f"{answer['unjudged']} of {answer['checked']} open connections"
        found.append(f"the age of {unjudged} is not judged: the jobs of their deployments are not known well enough")
    if not answer["idleKnown"]:
        found.append("how long some connections had no traffic is not known, so these do not count as idle")
    return found


def _above(one: dict[str, Any]) -> tuple[object, ...]:
    names = ", ".join(deployment["name"] for deployment in one["deployments"])
    return "above limit", names, one["peer"], one["connections"]


def _span(given: str) -> str:
    options.duration(given)
    return given
