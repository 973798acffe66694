"""``python -m tests.ground_truth``: how often is flowmap wrong? As root; see ``--help``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from flowmap.cli.output.text import amount, table
from tests.ground_truth.modes import MODES
from tests.ground_truth.series import SUMS, Options, Result, carry_out_all, sums

HEADER = (
    "SEED", "MODE", "FLOWS", "RIGHT", "WRONG", "SHARED", "NO NAME", "ATTRIBUTABLE", "SHARE %", "TIES", "UNTIED",
    "SNAPSHOTS", "BYTES", "LOST", "UDP %", "CALLS", "ALLOWED", "TIE CALLS", "MEDIAN s", "99 % s",
)  # fmt: skip
FEW = 30
"""Runs of which each has a row in the table at the end."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.ground_truth", description=__doc__)
    parser.add_argument("--seed", type=int, help="one seed; what failed can be repeated")
    parser.add_argument(
        "--seeds", type=_seeds, default=range(1, 2), metavar="N|A-B", help="seeds 1 to N, or A to B; default: 1"
    )
    parser.add_argument(
        "--mode",
        action="append",
        choices=tuple(MODES),
        metavar="MODE",
        dest="modes",
        help="may be repeated; default: each of " + "; ".join(f"{name}: {mode.what}" for name, mode in MODES.items()),
    )
    parser.add_argument("--quick", action="store_true", help="questions, reads and time-outs of 1 s, for short runs")
    parser.add_argument("--duration", type=float, help="seconds of traffic; default: 60, with --quick 10")
    parser.add_argument("--clients", type=int, default=24, help="client addresses; default: 24")
    parser.add_argument("--rate", type=float, default=0.6, help="connections a second from each; default: 0.6")
    parser.add_argument("--grace", type=float, default=2.0, help="attribute.grace in seconds; default: 2")
    parser.add_argument("--slack", type=float, default=2.5, help="seconds an answer may take to count; default: 2.5")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each in a process of its own; default: 1")
    parser.add_argument(
        "--results", type=Path, help="add a line of JSON a run to this file; runs that are in it are not repeated"
    )
    parser.add_argument(
        "--keep", type=Path,
        help="directory for the daemon's log and what is needed to look into a fault; with --results, of faulty runs",
    )  # fmt: skip
    arguments = parser.parse_args()
    options = Options(
        arguments.quick, arguments.duration or (10.0 if arguments.quick else 60.0), arguments.clients, arguments.rate,
        arguments.grace, arguments.slack, arguments.keep, keep_faulty=arguments.results is not None,
    )  # fmt: skip
    seeds = arguments.seeds if arguments.seed is None else [arguments.seed]
    runs = [(seed, mode) for seed in seeds for mode in arguments.modes or MODES]
    results = []
    for result in carry_out_all(runs, options, jobs=arguments.jobs, file=arguments.results):
        results.append(result)
        _tell(result)
    if len(results) <= FEW:
        print("\n".join(table(HEADER, map(_row, results))))
    print("\n".join(table(SUMS, sums(results))))
    return 1 if any(result.failures for result in results) else 0


def _seeds(text: str) -> range:
    first, _, last = text.rpartition("-")
    return range(int(first or 1), int(last) + 1)


def _row(result: Result) -> tuple[object, ...]:
    return (
        result.seed, result.mode, result.flows, result.right, result.wrong, result.shared,
        sum(result.unnamed.values()), result.attributable, round(result.share, 2), result.tied, result.untied,
        result.snapshots, result.bytes, result.missing, round(result.udp_share, 1), result.calls,
        round(result.allowed), result.narrowing_calls, *(f"≤ {bound:g}" for bound in result.named_within),
    )  # fmt: skip


def _tell(result: Result) -> None:
    print(f"seed {result.seed}, mode {result.mode}: {result.connections}", flush=True)
    print(f"  {result.wrong} wrong, {result.right} right; {result.share:.2f} % of {result.attributable} named")
    without = ", ".join(f"{count} {state}" for state, count in result.unnamed.items())
    print(f"  without a name: {without or 'none'}; {result.overruns} overruns; load {result.load:g}")
    print(f"  {amount(result.bytes)} in {result.snapshots} snapshots, each exact: "
          f"{'no' if result.inexact else 'yes'}; {result.faulty_calls} calls met a fault")  # fmt: skip
    for number, used in enumerate(result.used):
        print(f"  daemon {number}: {used}")
    if any(result.by_process):
        print("  {} connections named by their process, {} questions saved".format(*result.by_process))
    if result.counted_once is not None:
        print(f"  each connection counted at one daemon: {sum(result.counted_once)} bytes, "
              f"{result.bytes + result.missing} were forwarded")  # fmt: skip
    for failure in result.failures:
        print(f"  FAILED: {failure}", flush=True)


sys.exit(main())
