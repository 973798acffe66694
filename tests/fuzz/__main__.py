"""``python -m tests.fuzz TARGET [--runs N]``: atheris on one target, a bounded number of times.

Needs ``pip install atheris``. Without a target it lists them. A finding ends the run with its input in a file.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

MODULES = ("http", "netlink")
"""Modules of this package with a table ``TARGETS``; add yours."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="?")
    parser.add_argument("--runs", type=int, default=100_000, help="how often; default: %(default)s")
    parser.add_argument("--seconds", type=int, default=600, help="how long at most; default: %(default)s")
    arguments = parser.parse_args()

    import atheris

    with atheris.instrument_imports(include=["flowmap", "h11"]):
        modules = [importlib.import_module(f"tests.fuzz.{name}") for name in MODULES]
    targets = {name: target for module in modules for name, target in module.TARGETS.items()}
    if arguments.target is None:
        print("\n".join(f"{name:<12} {target.meaning}" for name, target in targets.items()))
        return
    target = targets[arguments.target]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds()):
            (Path(corpus) / str(number)).write_bytes(seed)
        options = [f"-runs={arguments.runs}", f"-max_total_time={arguments.seconds}", "-max_len=4096"]
        atheris.Setup([sys.argv[0], *options, corpus], target.run)
        atheris.Fuzz()  # ends the process


if __name__ == "__main__":
    main()
