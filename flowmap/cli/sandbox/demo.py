"""``flowmap demo``: run a control plane, jobs with real connections, and the daemon on this machine.

Needs neither root nor an account. At the end the bytes of the daemon are compared with those that the jobs counted.
With ``--flink`` a real Flink takes the place of the control plane.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flowmap.cli.output.progress import show_live, start_live
from flowmap.cli.output.text import amount, table, terminal_width
from flowmap.cli.shared import options

if TYPE_CHECKING:
    from flowmap.sandbox.demo.demo import Demo, DemoResult
    from flowmap.sandbox.demo.scenario import SeriesName
    from flowmap.sandbox.demo.scrape import Page

HEADER = ("DEPLOYMENT", "PEER", "TRANSMIT", "RECEIVE", "CONNECTIONS", "OPEN", "STATE")
FRAME = 1.0
"""Seconds between two tables on a terminal."""
QUIET_FRAME = 5.0
"""The same in a file or a pipe."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the duration and the address of the daemon."""
    parser.add_argument("--duration", type=options.duration, default="60s", help="how long the jobs run; default: 60s")
    parser.add_argument(
        "--listen",
        type=options.listen,
        default="127.0.0.1:10817",
        help="address of the daemon's HTTP server; default: 127.0.0.1:10817, port 0 for any",
    )
    parser.add_argument(
        "--flink",
        metavar="DIR",
        type=Path,
        help="an unpacked distribution of Apache Flink: a session cluster on loopback runs the jobs; needs a JDK",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the demo and print the comparison; returns 0 if every byte has the right owner."""
    with _started(arguments) as demo:
        _print_urls(demo)
        _watch(demo, arguments.duration)
        print("Stopping the jobs; waiting until every byte has its owner …", flush=True)
        outcome = demo.finish()
    _print_result(outcome)
    return 0 if outcome.good else 1


def _started(arguments: argparse.Namespace) -> Demo:
    if arguments.flink is None:
        from flowmap.sandbox.demo.demo import Demo

        print("Starting an embedded control plane, the daemon and nine sample jobs …", flush=True)
        return Demo(*arguments.listen)
    from flowmap.sandbox.demo.flink import FlinkDemo

    print("Starting a JobManager, three TaskManagers with a job each, a script and the daemon …", flush=True)
    return FlinkDemo(arguments.flink, *arguments.listen)


def _print_urls(demo: Demo) -> None:
    print(f"  page           {demo.url}/")
    print(f"  metrics        {demo.url}/metrics")
    print(f"  control plane  {demo.control_plane}")
    print(f"  ask            flowmap query 127.{demo.block}.0.11 127.{demo.block}.1.10:9092 --url {demo.url}")
    print(flush=True)


def _watch(demo: Demo, duration: float) -> None:
    with ExitStack() as stack:
        frame, show = QUIET_FRAME, partial(print, end="\n\n", flush=True)
        if sys.stdout.isatty():
            live = start_live(sys.stdout, transient=False)
            stack.callback(live.stop)
            frame, show = FRAME, partial(show_live, live)
        start = time.monotonic()
        while (elapsed := time.monotonic() - start) < duration:
            time.sleep(min(frame, duration - elapsed))
            page = demo.page()
            lines = [f"after {time.monotonic() - start:.0f} s, {amount(page.pending)} pending:"]
            show("\n".join([*lines, *table(HEADER, _rows(page), width=terminal_width())]))


def _rows(page: Page) -> list[tuple[object, ...]]:
    return [
        (
            _names(name),
            name.peer,
            amount(count.transmit),
            amount(count.receive),
            count.connections,
            page.open.get(name),
            name.state,
        )
        for name, count in sorted(page.rows.items(), key=lambda item: (item[0].state, item[0]))
    ]


def _names(name: SeriesName) -> str:
    return ", ".join(name.deployments) or "(no deployment)"


def _print_result(outcome: DemoResult) -> None:
    page, truth, verdict = outcome.page, outcome.truth, outcome.verdict
    rows = []
    for name in sorted(page.rows.keys() | truth.keys(), key=lambda name: (name.state, name)):
        found, real = page.rows.get(name), truth.get(name)
        same = found is not None and real is not None and found[:2] == real[:2]
        rows.append(
            (
                _names(name),
                name.peer,
                found.transmit if found else None,
                found.receive if found else None,
                real.transmit if real else None,
                real.receive if real else None,
                "equal" if same else "DIFFERENT",
            )
        )
    header = ("DEPLOYMENT", "PEER", "TRANSMIT", "RECEIVE", "SENT BY JOB", "RECEIVED BY JOB", "")
    print("\nBytes as counted by the daemon and by the jobs:")
    print("\n".join(table(header, rows, width=terminal_width())))
    facts = {
        "bytes with the right owner": f"{verdict.attributed:,}",
        "with a wrong owner": f"{verdict.misattributed:,}",
        "missing": f"{verdict.missing:,}",
        "pending": f"{page.pending:,}",
        "conserved": "yes" if page.conserved else "NO",
    }
    print("\n" + ", ".join(f"{name} {value}" for name, value in facts.items()))
    print("All bytes have the right owner." if outcome.good else "The demo failed: see the rows that differ.")
