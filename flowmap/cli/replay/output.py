"""Prints the result of a replay: a table, every flow, the metrics, or one connection."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from typing import Any, Protocol

from flowmap import __version__
from flowmap.cli.output import explaining, text
from flowmap.cli.output.answer import print_answer
from flowmap.cli.output.progress import Progress
from flowmap.cli.shared import options
from flowmap.cli.traffic import query
from flowmap.engine.accounting import FlowAccounting
from flowmap.export.exposition import Exposition
from flowmap.export.negotiation import Format
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.export.snapshot import Snapshot
from flowmap.flows.columns import IGNORED
from flowmap.flows.index.hash_index import Rows
from flowmap.model.address import Address, protocol_number
from flowmap.model.deployment import Owner, State
from flowmap.model.views import AttributionView, ByteCount, Connection, FlowView
from flowmap.query.live import LiveQueries
from flowmap.serve.api import models

EXIT_PARTIAL = 3
ABSENT = "no such connection in the file"
HEADER = ("DEPLOYMENT", "PEER", "PROTOCOL", "TRANSMIT", "RECEIVE", "CONNECTIONS", "OPEN", "STATE")


class Replayed(Protocol):
    """A replay in progress."""

    accounting: FlowAccounting
    queries: LiveQueries
    now: float
    """The time it has reached, in seconds since the epoch; -inf before the first event."""

    def run(self, until: float) -> Iterator[float]:
        """Replay up to ``until`` (seconds since the epoch). Yields the finished share, 0 to 1, frequently."""

    def snapshot(self) -> Snapshot:
        """The current series and totals."""

    def findings(self) -> list[str]:
        """Lines on missing or inconsistent parts, after the run."""


def show(replayed: Replayed, arguments: argparse.Namespace, *, deployment_labels: Iterable[str] = ()) -> int:
    """Run the replay and print its result as the arguments request; returns the exit status."""
    until = math.inf if arguments.until is None else arguments.until
    named = True
    if arguments.query is not None:
        named = _show_connection(replayed, arguments, until)
    elif (form := arguments.output or ("table" if sys.stdout.isatty() else "json")) == "json":
        _show_flows(replayed, until)
    else:
        _finish(replayed, until)
        if form == "prometheus":
            page = Exposition(SelfMetrics(__version__), deployment_labels=tuple(deployment_labels))
            text.print_bytes(page.traffic_page(replayed.snapshot(), Format.TEXT))
        else:
            _show_table(replayed)
    findings = replayed.findings()
    sys.stdout.flush()
    if replayed.now == -math.inf and until != math.inf:
        sys.stderr.write("flowmap: --until: the file has nothing before that time\n")
    for line in findings:
        sys.stderr.write(f"flowmap: {text.clean(line)}\n")
    return EXIT_PARTIAL if findings or not named else 0


def _finish(replayed: Replayed, until: float) -> None:
    with Progress() as progress:
        for share in replayed.run(until):
            progress.show(f"{share:4.0%}  {len(replayed.accounting.table)} flows")


def _show_connection(replayed: Replayed, arguments: argparse.Namespace, until: float) -> bool:
    source, destination = arguments.query
    wanted = Connection(
        Address.parse(source.ip),
        source.port,
        Address.parse(destination.ip),
        destination.port,
        protocol_number(arguments.protocol or "tcp"),
    )
    gone: list[AttributionView] = []

    def leaving(rows: Rows) -> None:
        for row in replayed.queries.matching(rows, wanted).tolist():
            gone[:] = [replayed.queries.explain(row, replayed.now, chain=arguments.explain)]

    replayed.accounting.on_leaving(leaving)
    _finish(replayed, until)
    found = replayed.queries.answer(wanted, replayed.now, explain=arguments.explain) or (gone[0] if gone else None)
    absent = found is None
    if found is None:  # show the evidence about the endpoints, but no owner
        asked, _ = replayed.queries.ask(wanted.lookup, replayed.now, stale_for=math.inf)
        found = replace(asked, state=State.PENDING, deployments=(), cause=ABSENT)
    answer = models.Attribution.of(found).as_json()
    if options.wants_table(arguments):
        print_answer(answer)
        if answer["explanation"]:
            explaining.print_explanation(answer["explanation"])
    else:
        text.print_json(answer)
    if absent:
        sys.stdout.flush()
        sys.stderr.write(f"flowmap: --query: {ABSENT}{' up to --until' if until != math.inf else ''}\n")
    return answer["state"] in query.NAMED


def _show_flows(replayed: Replayed, until: float) -> None:
    """Print each flow when it leaves the table, then the remaining ones, so that none has to be kept."""
    between = ""

    def show_flow(flow: FlowView) -> None:
        nonlocal between
        sys.stdout.write(between + _flow_json(flow))
        between = ",\n"

    def leaving(rows: Rows) -> None:
        for row in rows[replayed.accounting.table.columns.series[rows] != IGNORED].tolist():
            show_flow(replayed.queries.flow(row))

    sys.stdout.write('{"flows": [\n')
    replayed.accounting.on_leaving(leaving)
    _finish(replayed, until)
    leaving(replayed.accounting.table.live())
    sys.stdout.write("\n]}\n")


def _flow_json(flow: FlowView) -> str:
    return json.dumps(models.Flow.of(flow).as_json())


def _show_table(replayed: Replayed) -> None:
    snapshot = replayed.snapshot()
    text.print_table(HEADER, _rows(snapshot))
    print()
    print("bytes " + ", ".join(f"{name} {sum(count):,}" for name, count in _totals(snapshot)))
    kept = "yes" if snapshot.conserved() else "NO"
    print(f"conserved {kept}, {snapshot.pending_flows} flows pending, {snapshot.contradictions} contradictions")


def _totals(snapshot: Snapshot) -> list[tuple[str, ByteCount]]:
    totals = snapshot.byte_totals()
    return [(one.name, getattr(totals, one.name)) for one in fields(totals)]


def _rows(snapshot: Snapshot) -> list[tuple[Any, ...]]:
    rows = []
    for row, key in enumerate(snapshot.series_table.keys):
        if key is not None:
            traffic = snapshot.series_table.traffic(row)
            states = {"deployment": "attributed", "shared": "shared", "internal": "internal"}
            rows.append(
                (
                    ", ".join(_name(owner) for owner in key.owners) or "(no deployment)",
                    key.peer or None,
                    key.protocol or None,
                    text.amount(traffic.transmit_bytes),
                    text.amount(traffic.receive_bytes),
                    traffic.connections,
                    traffic.open_connections,
                    states.get(key.kind, key.reason),
                )
            )
    return sorted(rows, key=lambda row: (row[7], row[0], row[1] or "", row[2] or ""))


def _name(owner: Owner) -> str:
    return owner.name or owner.deployment_id or "-"
