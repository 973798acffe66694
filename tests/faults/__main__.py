"""``python -m tests.faults``, as root: what each fault costs, kept for tests/README.md; ``--soak``: a long run."""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.faults.rows import ROWS, Row
from tests.faults.scene import Cost, scene
from tests.faults.table import RESULTS


def cost_of(row: Row) -> Cost:
    """Of one fault, alone."""
    with tempfile.TemporaryDirectory() as directory, scene(Path(directory), row.settings) as made:
        made.lasts(1)
        row.act(made)
        return made.cost()


def soak(seconds: float) -> None:
    """One fault after the other to one daemon under churn."""
    end, faults = time.monotonic() + seconds, itertools.cycle(row for row in ROWS if not row.alone and not row.loses)
    with tempfile.TemporaryDirectory() as directory, scene(Path(directory), {"history": {"retain": "1h"}}) as made:
        count = 0
        while time.monotonic() < end:
            next(faults).act(made)
            count += 1
            if count % 12 == 1:
                print(f"{count} faults; descriptors, threads, KiB: {made.resources()}", flush=True)
        print(f"{count} faults; descriptors, threads, KiB: {made.resources()}")
        print(made.cost(), "traceback" if "Traceback" in made.daemon.log.read_text() else "no traceback")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", help="faults; default: all, and the results are kept")
    parser.add_argument("--soak", type=float, metavar="SECONDS")
    arguments = parser.parse_args()
    if arguments.soak:
        soak(arguments.soak)
        return
    results = {}
    for row in ROWS:
        if not arguments.names or row.name in arguments.names:
            results[row.name] = asdict(cost_of(row))
            print(f"{row.name}: {results[row.name]}", flush=True)
    if not arguments.names:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
