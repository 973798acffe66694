"""``flowmap peers``: the peers of a deployment in a period; ``--compare``: which are new or gone."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from flowmap.cli.output import text
from flowmap.cli.shared import options
from flowmap.cli.traffic.flows import note, report
from flowmap.errors import QueryError

if TYPE_CHECKING:
    from flowmap.cli.shared.client import Client

HEADER = ("PEER", "PROTOCOL", "TRANSMIT", "RECEIVE", "CONNECTIONS", "FIRST UTC", "LAST UTC", "SHARED WITH")
DAY = 86400.0

Peer = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the deployment, the periods, and the daemon to ask."""
    add_question(parser)
    options.add_daemon(parser)
    options.add_output(parser)


def add_question(parser: argparse.ArgumentParser) -> None:
    """Add the deployment and the periods."""
    parser.add_argument("deployment", metavar="DEPLOYMENT", help="id or name of a deployment")
    parser.add_argument("--since", metavar="TIME", type=options.moment, help="start of the period; default: 24h ago")
    parser.add_argument("--until", metavar="TIME", type=options.moment, help="end of the period; default: now")
    parser.add_argument(
        "--compare",
        metavar="DURATION",
        type=options.duration,
        help="show peers that are new or gone, compared with a period of this length right before",
    )


def run(arguments: argparse.Namespace) -> int:
    """Query the daemon and print the peers."""
    from flowmap.cli.shared.client import connect

    with connect(arguments) as client:
        return show(client, arguments)


def show(client: Client, arguments: argparse.Namespace) -> int:
    """Print the peers; returns the exit status."""
    if not arguments.deployment.strip():
        raise QueryError("DEPLOYMENT: give the id or the name of a deployment")
    if arguments.compare is not None and arguments.compare <= 0:
        raise QueryError("--compare: give a period that is longer than 0, like 24h")
    since, until = period(arguments)
    window = {"from": f"{since:.3f}", "to": f"{until:.3f}"}
    path = f"deployments/{quote(arguments.deployment, safe='')}/peers"
    if arguments.compare is None:
        answer = client.get(path, window)
        found = [("", peer) for peer in answer["peers"]]
    else:
        answer = client.get(f"{path}/changes", window | {"beforeFrom": f"{max(0.0, since - arguments.compare):.3f}"})
        found = changes(answer)
    if options.wants_table(arguments):
        _print_table(found, arguments)
    else:
        text.print_json(answer)
    if not found and arguments.compare is None:
        note(f"no connection of a deployment with the id or name {arguments.deployment!r} is known in this period")
    if answer.get("sumsUntil"):
        note(f"connections that ended before {answer['sumsUntil']} are sums, by the hour or day in which they ended")
    return report(answer.get("incomplete", ()))


def _print_table(found: list[tuple[str, Peer]], arguments: argparse.Namespace) -> None:
    counts = any(peer.get("counts") for _, peer in found)
    before, after = () if arguments.compare is None else ("CHANGE",), ("BYTES",) if counts else ()
    rows = []
    for change, peer in found:
        cells = row(peer, arguments.deployment)
        rows.append((*(before and (change,)), *cells, *(after and (peer["counts"],))))
    text.print_table((*before, *HEADER, *after), rows)


def period(arguments: argparse.Namespace) -> tuple[float, float]:
    """The period in question, in seconds since the epoch."""
    options.check_period(arguments.since, arguments.until)
    until = time.time() if arguments.until is None else arguments.until
    return until - DAY if arguments.since is None else arguments.since, until


def changes(answer: dict[str, Any]) -> list[tuple[str, Peer]]:
    """New and vanished peers, each with the word for the table."""
    return [("new", peer) for peer in answer["new"]] + [("gone", peer) for peer in answer["vanished"]]


def row(peer: Peer, deployment: str) -> tuple[object, ...]:
    """A row of the table."""
    traffic = peer["traffic"]
    others = [one["name"] for one in peer["deployments"] if deployment not in (one["deploymentId"], one["name"])]
    return (
        peer["peer"],
        peer["protocol"],
        text.amount(traffic["transmitBytes"]),
        text.amount(traffic["receiveBytes"]),
        traffic["connections"],
        text.moment(peer["firstSeen"]),
        text.moment(peer["lastSeen"]),
        ", ".join(others) or None,
    )
