"""``python -m tests.ground_truth``: how often is flowmap wrong? As root; see ``--help``."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from flowmap.cli.output.text import amount, table
from tests.ground_truth.modes import MODES
from tests.ground_truth.run import Outcome, carry_out
from tests.ground_truth.schedule import make_plan
from tests.ground_truth.truth import QUICK, Timing, summary
from tests.ground_truth.verdict import Wrong, explain

HEADER = (
    "SEED", "MODE", "FLOWS", "RIGHT", "WRONG", "SHARED", "NO NAME", "ATTRIBUTABLE", "SHARE %", "TIES", "UNTIED",
    "SNAPSHOTS", "BYTES", "LOST", "UDP %", "CALLS", "ALLOWED", "TIE CALLS", "CALLS/1000", "MEDIAN s", "99 % s",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.ground_truth", description=__doc__)
    parser.add_argument("--seed", type=int, help="one seed; what failed can be repeated")
    parser.add_argument("--seeds", type=int, default=1, help="seeds 1 to N; default: 1")
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
    parser.add_argument(
        "--keep", type=Path, help="directory for the daemon's log and what is needed to look into a fault"
    )
    arguments = parser.parse_args()
    failed = False
    rows = []
    for seed in [arguments.seed] if arguments.seed is not None else range(1, arguments.seeds + 1):
        for mode in arguments.modes or MODES:
            outcome = _run(arguments, seed, mode)
            rows.append(_row(outcome))
            failures = outcome.failures(share=MODES[mode].share)
            failed |= bool(failures)
            _tell(outcome, failures)
    print("\n".join(table(HEADER, rows)))
    return 1 if failed else 0


def _run(arguments: argparse.Namespace, seed: int, mode: str) -> Outcome:
    duration = arguments.duration or (10.0 if arguments.quick else 60.0)
    plan = make_plan(
        seed, duration=duration, mode=mode, clients=arguments.clients, rate=arguments.rate,
        grace=arguments.grace,
    )  # fmt: skip
    directory = arguments.keep and arguments.keep / f"{seed}-{mode}"
    if directory:
        directory.mkdir(parents=True, exist_ok=True)
    timing = replace(QUICK if arguments.quick else Timing(), slack=arguments.slack)
    outcome = carry_out(plan, timing, directory=directory)
    if directory:
        _dump(outcome, directory / "faults.json")
    return outcome


def _row(outcome: Outcome) -> tuple[object, ...]:
    verdict, calls = outcome.verdict, outcome.calls
    return (
        outcome.plan.seed, outcome.plan.mode, verdict.flows, verdict.right, len(verdict.wrong), verdict.shared,
        sum(verdict.states.values()), verdict.attributable, round(verdict.share, 2), verdict.tied, verdict.untied,
        outcome.bytes.snapshots, sum(outcome.bytes.observed), outcome.bytes.missing, round(outcome.bytes.udp_share, 1),
        calls.asked,
        round(calls.allowed), calls.ties, round(outcome.flow_calls),
        *(f"≤ {bound:g}" for bound in outcome.named_within),
    )  # fmt: skip


def _tell(outcome: Outcome, failures: list[str]) -> None:
    plan, verdict = outcome.plan, outcome.verdict
    print(f"seed {plan.seed}, mode {plan.mode}: {summary(outcome.record.connections)}", flush=True)
    print(f"  {len(verdict.wrong)} wrong, {verdict.right} right; {verdict.share:.2f} % of {verdict.attributable} named")
    without = ", ".join(f"{count} {state}" for state, count in verdict.states.most_common())
    print(f"  without a name: {without or 'none'}; {outcome.overruns} overruns")
    print(f"  {amount(sum(outcome.bytes.observed))} in {outcome.bytes.snapshots} snapshots, each exact: "
          f"{'no' if outcome.bytes.imbalances else 'yes'}; {outcome.calls.faulty} calls met a fault")  # fmt: skip
    for failure in failures:
        print(f"  FAILED: {failure}", flush=True)


def _dump(outcome: Outcome, file: Path) -> None:
    changes = outcome.record.changes
    missed = [
        explain(Wrong(one, last, "it has no name, and must have one"), changes) for one, last in outcome.verdict.missed
    ]
    wrong = [explain(one, changes) for one in outcome.verdict.wrong]
    report = {"wrong": wrong, "missed": missed, "evidence": outcome.evidence, "blind": outcome.record.blind}
    file.write_text(json.dumps(report, indent=1, default=str))


sys.exit(main())
