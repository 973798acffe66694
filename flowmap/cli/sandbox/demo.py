"""demo: everything on this machine: control plane, jobs with real connections, and the daemon that names them.

No root and no account are needed. In the end the daemon's figures are compared with what the jobs really sent.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from functools import partial
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
"""The same where the output is a file or a pipe."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How long, and where the daemon listens."""
    parser.add_argument("--duration", type=options.duration, default="60s", help="how long the jobs run; default: 60s")
    parser.add_argument(
        "--listen",
        type=options.listen,
        default="127.0.0.1:10817",
        help="address of the daemon's HTTP server; default: 127.0.0.1:10817, port 0 for any",
    )


def run(arguments: argparse.Namespace) -> int:
    """Start everything, watch it, and say how it went: 0 if every byte was named right."""
    from flowmap.sandbox.demo.demo import Demo

    print("Starting an embedded control plane, the daemon and nine sample jobs …", flush=True)
    with Demo(*arguments.listen) as demo:
        _say_where(demo)
        _watch(demo, arguments.duration)
        print("The jobs stop; waiting until every byte has its owner …", flush=True)
        outcome = demo.finish()
    _conclude(outcome)
    return 0 if outcome.good else 1


def _say_where(demo: Demo) -> None:
    print(f"  page           {demo.url}/")
    print(f"  metrics        {demo.url}/metrics")
    print(f"  control plane  {demo.control_plane}")
    print(f"  ask            flowmap query 127.{demo.block}.0.11 127.{demo.block}.1.10:9092 --url {demo.url}")
    print(flush=True)


def _watch(demo: Demo, duration: float) -> None:
    start = time.monotonic()
    with ExitStack() as stack:
        frame, show = QUIET_FRAME, partial(print, end="\n\n", flush=True)
        if sys.stdout.isatty():
            live = start_live(sys.stdout, transient=False)
            stack.callback(live.stop)
            frame, show = FRAME, partial(show_live, live)
        while (elapsed := time.monotonic() - start) < duration:
            time.sleep(min(frame, duration - elapsed))
            page = demo.page()
            lines = [f"after {time.monotonic() - start:.0f} s, {amount(page.pending)} waiting for an owner:"]
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


def _conclude(outcome: DemoResult) -> None:
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
    header = ("DEPLOYMENT", "PEER", "TRANSMIT", "RECEIVE", "REALLY SENT", "REALLY RECEIVED", "")
    print("\nBytes by the daemon, and by the jobs themselves:")
    print("\n".join(table(header, rows, width=terminal_width())))
    facts = {
        "bytes named right": f"{verdict.attributed:,}",
        "misattributed": f"{verdict.misattributed:,}",
        "missing": f"{verdict.missing:,}",
        "waiting": f"{page.pending:,}",
        "conserved": "yes" if page.conserved else "NO",
    }
    print("\n" + ", ".join(f"{name} {value}" for name, value in facts.items()))
    print("Everything is as it should be." if outcome.good else "Something is wrong: see the rows that differ.")
