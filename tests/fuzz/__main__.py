"""``python -m tests.fuzz TARGET [--runs N]``: any bytes to one target, a bounded number of times.

With atheris (``pip install atheris``), which looks what the code does with them, or with ``--blind`` without, much
faster. Without a target it lists them. A finding ends the run: atheris leaves its input in a file, ``--blind`` prints.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.target import Target

MODULES = ("frames", "http", "netlink")
"""Modules of this package with a table ``TARGETS``; add yours."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="?")
    parser.add_argument("--runs", type=int, default=100_000, help="how often; default: %(default)s")
    parser.add_argument("--seconds", type=int, default=600, help="how long at most; default: %(default)s")
    parser.add_argument("--blind", action="store_true", help="without atheris")
    parser.add_argument("--seed", type=int, default=1, help="of chance, with --blind; default: %(default)s")
    arguments = parser.parse_args()
    if arguments.target is None:
        print("\n".join(f"{name:<12} {target.meaning}" for name, target in _targets().items()))
    elif arguments.blind:
        _blind(_targets()[arguments.target], arguments.runs, arguments.seconds, arguments.seed)
    else:
        _guided(arguments)


def _targets() -> dict[str, Target]:
    modules = [importlib.import_module(f"tests.fuzz.{name}") for name in MODULES]
    return {name: target for module in modules for name, target in module.TARGETS.items()}


def _blind(target: Target, runs: int, seconds: float, seed: int) -> None:
    """Seeds with a few bytes set, parts cut out, doubled, or put in from another."""
    chance, seeds, begun = random.Random(seed), list(target.seeds()), time.monotonic()
    for number in range(1, runs + 1):
        data = mutated(chance, seeds)
        try:
            target.run(data)
        except BaseException:
            print(f"after {number} runs: {data!r}")
            raise
        if time.monotonic() - begun > seconds:
            break
    took = time.monotonic() - begun
    print(f"{number:,} runs in {took:.0f} s, {number / took:,.0f} a second, no finding")


def mutated(chance: random.Random, seeds: list[bytes]) -> bytes:
    """One of ``seeds``, changed in up to four places."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randrange(5)):
        at, size = chance.randrange(len(data) + 1), chance.choice((1, 2, 4, 16, 64))
        kind = chance.randrange(5)
        if kind == 0:
            data[at : at + size] = chance.randbytes(size)
        elif kind == 1:
            del data[at : at + size]
        elif kind == 2:
            data[at:at] = data[max(0, at - size) : at]
        elif kind == 3:
            other = chance.choice(seeds)
            begin = chance.randrange(len(other) + 1)
            data[at : at + size] = other[begin : begin + size]
        elif at < len(data):
            data[at] = chance.choice((0, 1, 4, 0x7F, 0x80, 0xFF, data[at] ^ 1 << chance.randrange(8)))
    return bytes(data)


def _guided(arguments: argparse.Namespace) -> None:
    import atheris

    with atheris.instrument_imports(include=["flowmap", "h11"]):
        target = _targets()[arguments.target]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds()):
            (Path(corpus) / str(number)).write_bytes(seed)
        options = [f"-runs={arguments.runs}", f"-max_total_time={arguments.seconds}", "-max_len=4096"]
        atheris.Setup([sys.argv[0], *options, corpus], target.run)
        atheris.Fuzz()  # ends the process


if __name__ == "__main__":
    main()
