"""``flowmap flows``: connections that a running daemon sees, with their deployments.

``--follow`` adds flows that are new or changed until Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

from flowmap.cli.output import text
from flowmap.cli.shared import options
from flowmap.errors import QueryError

if TYPE_CHECKING:
    from flowmap.cli.shared.client import DaemonClient

HEADER = ("STATE", "DEPLOYMENT", "CLIENT", "SERVER", "PROTOCOL", "TRANSMIT", "RECEIVE", "STARTED UTC", "LOCAL")

PAGE = 1000
"""Flows in one request; the most that the daemon allows."""

FOLLOW = 1.0
"""Seconds between two requests with ``--follow``."""

STATES = ("attributed", "shared", "unknown", "ambiguous", "pending", "failed")

Flow = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the filters and the limit."""
    parser.add_argument("--deployment", metavar="D", help="id or name of a deployment")
    parser.add_argument("--peer", metavar="P", help="name of a peer, or address or address:port of a server")
    parser.add_argument("--client", metavar="C", help="address or address:port of a client")
    parser.add_argument(
        "--container", metavar="C", help="container at an endpoint: its name, or 12 characters of its id"
    )
    parser.add_argument("--unit", metavar="U", help="systemd unit at an endpoint, like kafka.service")
    parser.add_argument("--state", choices=STATES, help="attribution state")
    parser.add_argument("--protocol", type=options.protocol, help="protocol, by name or number")
    parser.add_argument(
        "--since",
        metavar="TIME",
        type=options.moment,
        help="also closed flows that were open after this time, like 2h (two hours ago)",
    )
    parser.add_argument(
        "--until", metavar="TIME", type=options.moment, help="also closed flows that were open before this time"
    )
    parser.add_argument(
        "--limit", metavar="N", type=options.positive, default=100, help="maximum number of flows; default: 100"
    )
    parser.add_argument("--follow", action="store_true", help="keep printing flows that are new or changed")
    options.add_daemon(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the flows once, or follow them."""
    from flowmap.cli.shared.client import connect

    names = ("deployment", "peer", "client", "container", "unit", "state", "protocol")
    filters = {name: getattr(arguments, name) for name in names}
    for name, given in (("from", arguments.since), ("to", arguments.until)):
        if given is not None and arguments.follow:
            raise QueryError("--follow shows current flows only; leave out --since and --until")
        filters[name] = None if given is None else f"{given:.3f}"
    with connect(arguments) as client:
        if arguments.follow:
            follow(client, filters, arguments.limit, as_table=options.wants_table(arguments))
        flows, more = fetch(client, filters, arguments.limit)
    if options.wants_table(arguments):
        text.print_table(HEADER, [row(flow) for flow in flows])
        if more:
            print(f"(the first {len(flows)}; use --limit for more)")
    else:
        text.print_json({"flows": flows})
    return 0


def fetch(client: DaemonClient, filters: dict[str, str | None], limit: int) -> tuple[list[Flow], bool]:
    """Read at most ``limit`` flows, page by page; the second value: whether there are more."""
    flows: list[Flow] = []
    cursor: str | None = None
    while True:
        page = client.get("flows", {**filters, "limit": min(PAGE, limit - len(flows)), "cursor": cursor})
        flows += page["flows"]
        cursor = page["nextCursor"]
        if cursor is None or len(flows) >= limit:
            return flows[:limit], cursor is not None or len(flows) > limit


def follow(client: DaemonClient, filters: dict[str, str | None], limit: int, *, as_table: bool) -> None:
    """Print flows that are new or changed since the previous request. Does not return."""
    before: dict[str, str] = {}
    first = True
    while True:
        flows, _ = fetch(client, filters, limit)
        now = {_identity(flow): _shown_state(flow) for flow in flows}
        fresh = [flow for flow in flows if before.get(_identity(flow)) != now[_identity(flow)]]
        if as_table:
            lines = text.table(HEADER, [row(flow) for flow in fresh], width=text.terminal_width())
            print("\n".join(lines[0 if first else 1 :]), end="\n" if fresh or first else "", flush=True)
        else:
            for flow in fresh:
                print(json.dumps(flow), flush=True)
        before, first = now, False
        time.sleep(FOLLOW)


def _identity(flow: Flow) -> str:
    return json.dumps([flow[name] for name in ("protocol", "client", "server", "startedAt")])


def _shown_state(flow: Flow) -> str:
    names = [deployment["deploymentId"] for deployment in flow["deployments"]]
    return json.dumps([flow["state"], flow["endedAt"], names])


def row(flow: Flow) -> tuple[object, ...]:
    """A row of the table."""
    return (
        flow["state"],
        ", ".join(deployment["name"] for deployment in flow["deployments"]) or None,
        endpoint(flow["client"]),
        endpoint(flow["server"]),
        flow["protocol"],
        text.amount(flow["transmitBytes"]),
        text.amount(flow["receiveBytes"]),
        text.moment(flow["startedAt"]),
        workload(flow.get("local")),
    )


def workload(local: dict[str, Any] | None) -> str | None:
    """A workload in few words: its unit or container, and its process."""
    if local is None:
        return None
    where = local["container"][:12] if local["container"] else local["unit"]
    process = f"{local['command'] or '?'}[{local['pid']}]" if local["pid"] is not None else None
    return " ".join(part for part in (where, process) if part) or "unknown"


def endpoint(value: dict[str, Any]) -> str:
    """``ip:port`` of an endpoint in JSON."""
    return str(options.EndpointArgument(value["ip"], value["port"]))
