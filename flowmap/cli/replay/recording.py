"""``flowmap replay`` of recordings made by ``flowmap run --record``."""

from __future__ import annotations

import argparse
import os
import sys

from flowmap.cli.output import text
from flowmap.cli.output.progress import Progress
from flowmap.cli.replay import output
from flowmap.cli.shared import options
from flowmap.errors import QueryError
from flowmap.recording.reader import RecordingReader
from flowmap.replay.dry_run import Cost, DryRun
from flowmap.replay.recording import Replay


def replay(arguments: argparse.Namespace) -> int:
    """Replay the recording, or count the calls it would cost; returns the exit status."""
    if arguments.catalog is not None or arguments.assume_current or arguments.tunnels is not None:
        raise QueryError(
            "--catalog, --assume-current, --tunnels: work only with captures; a recording has its own answers"
        )
    if arguments.dry_run:
        return _dry_run(arguments)
    if arguments.config is not None:
        raise QueryError("-c: a recording is replayed with its own settings; -c works only with --dry-run")
    with RecordingReader(arguments.file) as reader:
        labels = reader.begin.config.export.deployment_labels
        return output.show(Replay(reader), arguments, deployment_labels=labels)


def _dry_run(arguments: argparse.Namespace) -> int:
    from flowmap.config import load

    config = None if arguments.config is None else load(arguments.config, os.environ)
    dry_run = DryRun(arguments.file, config)
    with Progress() as progress:
        for share in dry_run.run():
            progress.show(f"{share:4.0%}  {dry_run.calls} calls")
    cost = dry_run.cost()
    if options.wants_table(arguments):
        _print_cost(cost)
    else:
        text.print_json(cost.facts())
    if dry_run.missing:
        sys.stdout.flush()
        sys.stderr.write(f"flowmap: {text.clean(dry_run.missing)}\n")
    return output.EXIT_PARTIAL if dry_run.missing else 0


def _print_cost(cost: Cost) -> None:
    text.print_table(("SHAPE", "CALLS"), sorted(cost.by_shape.items()))
    print()
    print(f"{cost.calls:,} calls, {cost.per_1000_flows:.1f} per 1,000 flows ({cost.flows:,} in {cost.seconds:,.0f} s);")
    print(f"the recording has {cost.recorded:,} answered questions.")
    states = ", ".join(f"{count:,} {state}" for state, count in sorted(cost.states.items()))
    print(f"Flows: {states or 'none'}.")
    if cost.unknown:
        print(f"{cost.unknown:,} calls are not in the recording; they were answered with no deployment.")
