"""``flowmap flows``: connections that a running daemon sees, with their deployments.

``--follow`` adds flows that are new, changed or gone until Ctrl-C. ``--by`` sums them up by deployment and peer.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flowmap.cli.output import text
from flowmap.cli.shared import options
from flowmap.cli.traffic import grouped
from flowmap.errors import QueryError
from flowmap.model.deployment import State

if TYPE_CHECKING:
    from flowmap.cli.shared.client import Client, DaemonClient

HEADER = ("STATE", "DEPLOYMENT", "CLIENT", "SERVER", "PROTOCOL", "TRANSMIT", "RECEIVE", "STARTED UTC", "LOCAL")

PAGE = 1000
"""Flows in one request; the most that the daemon allows."""

FOLLOW = 5.0
"""Seconds between two tables with ``--by`` and ``--follow``."""

KNOWN = 10_000
"""Printed flows that are remembered."""

NOT_GROUPED = ("client", "container", "unit", "netns", "protocol")
"""Filters of connections that deployments and peers do not have."""

FIGURES = ("transmitBytes", "receiveBytes", "transmitRate", "receiveRate", "connections", "openConnections")

EXIT_INCOMPLETE = 1

Flow = dict[str, Any]
Filters = dict[str, str | None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the filters, the limit, and the daemon to ask."""
    add_filters(parser, since="also closed flows that were open after this time, like 2h (two hours ago)")
    parser.add_argument("--follow", action="store_true", help="keep printing flows that are new, changed or gone")
    options.add_daemon(parser)
    options.add_output(parser)


def add_filters(parser: argparse.ArgumentParser, *, since: str) -> None:
    """Add the filters, the limit and the grouping of a listing of flows. ``since``: what ``--since`` does."""
    parser.add_argument("--deployment", metavar="D", help="id or name of a deployment")
    parser.add_argument("--peer", metavar="P", help="name of a peer, or address or address:port of a server")
    parser.add_argument("--client", metavar="C", help="address or address:port of a client")
    parser.add_argument(
        "--container", metavar="C", help="container at an endpoint: its name, or 12 characters of its id"
    )
    parser.add_argument("--unit", metavar="U", help="systemd unit at an endpoint, like kafka.service")
    options.add_netns(parser, "network namespace of the flow or of an endpoint: its name or inode, or host")
    parser.add_argument("--state", choices=[str(state) for state in State], help="attribution state")
    parser.add_argument("--protocol", type=options.protocol, help="protocol, by name or number")
    parser.add_argument("--since", metavar="TIME", type=options.moment, help=since)
    parser.add_argument(
        "--until", metavar="TIME", type=options.moment, help="also closed flows that were open before this time"
    )
    parser.add_argument(
        "--limit", metavar="N", type=options.positive, default=100, help="maximum number of flows; default: 100"
    )
    parser.add_argument(
        "--by", metavar="SIDES", type=grouped.by, help="traffic by deployment, by peer, or by deployment,peer"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the flows once, or follow them."""
    from flowmap.cli.shared.client import connect

    filters = filters_of(arguments)
    with connect(arguments) as client:
        if arguments.follow and arguments.by:
            while True:
                show_groups(client, arguments, filters)
                sys.stdout.flush()
                time.sleep(FOLLOW)
        if arguments.follow:
            follow(client, filters, arguments.limit, as_table=options.wants_table(arguments))
        return show(client, arguments, filters)


def filters_of(arguments: argparse.Namespace) -> Filters:
    """The parameters of the HTTP API for the arguments of :func:`add_filters`."""
    names = ("deployment", "peer", "client", "container", "unit", "netns", "state", "protocol")
    filters = {name: getattr(arguments, name) for name in names}
    for name, given in (("from", arguments.since), ("to", arguments.until)):
        if given is not None and arguments.follow:
            raise QueryError("--follow shows current flows only; leave out --since and --until")
        filters[name] = None if given is None else f"{given:.3f}"
    options.check_period(arguments.since, arguments.until)
    return filters


def show(client: Client, arguments: argparse.Namespace, filters: Filters) -> int:
    """Print the flows, or with ``--by`` their sums; returns the exit status."""
    if arguments.by:
        return show_groups(client, arguments, filters)
    flows, more, incomplete = fetch(client, filters, arguments.limit)
    if not options.wants_table(arguments):
        text.print_json({"flows": flows, "incomplete": incomplete})
        return report(incomplete)
    hosts = any(flow.get("observations") for flow in flows)
    rows = [(*row(flow), hosts_of(flow)) if hosts else row(flow) for flow in flows]
    text.print_table((*HEADER, "HOSTS") if hosts else HEADER, rows)
    if more:
        print(f"(the first {len(flows)}; use --limit for more)")
    return report(incomplete)


def fetch(client: Client, filters: Filters, limit: int) -> tuple[list[Flow], bool, list[str]]:
    """Read at most ``limit`` flows, page by page; the others: whether there are more, and what is missing."""
    flows: list[Flow] = []
    incomplete: dict[str, None] = {}
    cursor: str | None = None
    while True:
        page = client.get("flows", {**filters, "limit": min(PAGE, limit - len(flows)), "cursor": cursor})
        flows += page["flows"]
        incomplete |= dict.fromkeys(page.get("incomplete", ()))
        cursor = page["nextCursor"]
        if cursor is None or len(flows) >= limit:
            return flows[:limit], cursor is not None or len(flows) > limit, list(incomplete)


def follow(client: DaemonClient, filters: Filters, limit: int, *, as_table: bool) -> None:
    """Print flows that are new, changed or gone, as the daemon reports them. Does not return."""
    known: dict[str, str] = {}
    header = True
    while True:  # a stream lasts some minutes; the next one begins with flows that were printed
        for name, data in client.events("stream", {**filters, "events": "flows", "flowLimit": min(PAGE, limit)}):
            if name == "missed":
                note(f"{data['missed']} updates missed: this reader is too slow")
            if name != "flows":
                continue
            fresh = [flow for flow in data["flows"] if known.get(_identity(flow)) != _shown_state(flow)]
            gone = [
                flow for flow in data["gone"] if known.pop(_identity(flow), None) is not None and not flow["endedAt"]
            ]
            known.update((_identity(flow), _shown_state(flow)) for flow in fresh)
            while len(known) > KNOWN:
                del known[next(iter(known))]
            _print_changes(fresh, gone, as_table=as_table, header=header)
            header = False
            if data["leftOut"]:
                note(f"{data['leftOut']} more flows changed; use --limit for more")


def _print_changes(fresh: list[Flow], gone: list[Flow], *, as_table: bool, header: bool) -> None:
    if as_table:
        rows = [row(flow) for flow in fresh] + [("gone", *row(flow)[1:]) for flow in gone]
        lines = text.table(HEADER, rows, width=text.terminal_width())
        print("\n".join(lines[0 if header else 1 :]), end="\n" if rows or header else "", flush=True)
    else:
        for flow in (*fresh, *({**flow, "gone": True} for flow in gone)):
            print(json.dumps(flow), flush=True)


def note(line: str) -> None:
    """Print a line on stderr."""
    sys.stderr.write(f"flowmap: {line}\n")


def show_groups(client: Client, arguments: argparse.Namespace, filters: Filters) -> int:
    """Print the traffic by deployment, peer or both; returns the exit status."""
    for name in NOT_GROUPED:
        if filters[name] is not None:
            raise QueryError(f"--by counts whole deployments and peers; leave out --{name}")
    asked = {name: value for name, value in filters.items() if name not in NOT_GROUPED}
    answer = client.get("map", {**asked, "limit": min(arguments.limit, grouped.MOST_NODES)})
    rows = list(grouped.groups(answer, arguments.by))
    if options.wants_table(arguments):
        if arguments.follow:
            print(f"{text.moment(answer['to'])} UTC")
        live = arguments.since is None and arguments.until is None
        text.print_table(grouped.header(arguments.by, live=live), [grouped.row(one, live=live) for one in rows])
    else:
        print(json.dumps({"from": answer["from"], "to": answer["to"], "groups": [_group(one) for one in rows]}))
    return report(answer.get("incomplete", ()))


def report(incomplete: Iterable[str]) -> int:
    """Print on stderr what an answer lacks; returns the exit status."""
    lines = list(incomplete)
    for line in lines:
        note(line)
    return EXIT_INCOMPLETE if lines else 0


def _group(one: grouped.Group) -> dict[str, Any]:
    """A row of ``--by`` in JSON."""
    figures = {name: one.figures[name] for name in FIGURES}
    return {"state": one.state or None, "deployment": one.deployment, "peer": one.peer, **figures}


def _identity(flow: Flow) -> str:
    return json.dumps([flow.get(name) for name in ("protocol", "client", "server", "netns", "startedAt")])


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
        _place(flow),
    )


def _place(flow: Flow) -> str | None:
    """The workload of a flow, and its network namespace if it is not the host's."""
    return " in ".join(part for part in (workload(flow.get("local")), flow.get("netns")) if part) or None


def workload(local: dict[str, Any] | None) -> str | None:
    """A workload in few words: its unit or container, and its process."""
    if local is None:
        return None
    where = local["containerName"] or (local["container"][:12] if local["container"] else local["unit"])
    process = f"{local['command'] or '?'}[{local['pid']}]" if local["pid"] is not None else None
    return " ".join(part for part in (where, process) if part) or "unknown"


def hosts_of(flow: Flow) -> str:
    """The hosts that saw a flow: the client's, ``?`` for none, and the server's; then those at a side not known."""
    seen = {one["side"]: one["host"] for one in flow["observations"] if one["side"]}
    others = [one["host"] for one in flow["observations"] if not one["side"]]
    return ", ".join([f"{seen.get('client', '?')} > {seen.get('server', '?')}"] * bool(seen) + others)


def endpoint(value: dict[str, Any]) -> str:
    """``ip:port`` of an endpoint in JSON."""
    return str(options.EndpointArgument(value["ip"], value["port"]))
