"""replay: who owned what in a file of what happened, attributed again without daemon and control plane.

Exit status 0; 3 if a part of the file could not be used, if this flowmap comes to something else than the one that
recorded, or, with --query, if nobody can say; 1 on an error.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from flowmap.cli import options
from flowmap.cli.run import ENVIRONMENT
from flowmap.errors import DecodeError

FIRST_BYTES = 64

Kind = tuple[Callable[[bytes], bool], Callable[[argparse.Namespace], int]]
"""Whether a file that begins so is of the kind, and what replays it; the exit status comes back."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, what to show of it, and how far to go."""
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        help="a capture (pcap, pcapng, also gzip), or what flowmap run --record wrote",
    )
    parser.add_argument(
        "-o",
        "--output",
        "--format",
        choices=("table", "json", "prometheus"),
        help="deployments and peers, every flow, or the page as it was in the end; default: table on a terminal, "
        "else json",
    )
    parser.add_argument(
        "--query",
        metavar=("SRC[:PORT]", "DST[:PORT]"),
        nargs=2,
        type=options.end,
        help="show who owns this connection in the end, as flowmap query does, instead",
    )
    parser.add_argument("--protocol", type=options.protocol, default="tcp", help="of that connection; default: tcp")
    parser.add_argument("--explain", action="store_true", help="show everything that led to that answer")
    parser.add_argument("--until", metavar="TIME", type=options.moment, help="go no further than this moment")
    parser.add_argument(
        "--dry-run", action="store_true", help="instead, tell how many calls it would cost; with the settings of -c"
    )
    captures = parser.add_argument_group("for captures")
    captures.add_argument(
        "--catalog",
        metavar="FILE",
        type=Path,
        help="who had which address when, in the form of flowmap sandbox --catalog, instead of the control plane",
    )
    captures.add_argument(
        "--assume-current",
        action="store_true",
        help="ask the control plane, which knows only now, and take its answers for the capture's time",
    )
    captures.add_argument(
        "--tunnels",
        choices=("outer", "inner"),
        default="outer",
        help="count packets of tunnels (VXLAN, Geneve, GRE, IP in IP) as themselves, or as the packet inside",
    )
    options.add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    """Find out what kind of file it is, and replay it."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with arguments.file.open("rb") as file:
        first = file.read(FIRST_BYTES)
    for recognises, replay in kinds():
        if recognises(first):
            return replay(arguments)
    raise DecodeError(f"{arguments.file}: neither a capture (pcap, pcapng) nor a recording of flowmap run --record")


def kinds() -> tuple[Kind, ...]:
    """Every kind of file that can be replayed."""
    from flowmap.cli import replay_capture, replay_recording
    from flowmap.collect.capture_file import is_capture
    from flowmap.record.reader import is_recording

    return ((is_recording, replay_recording.replay), (is_capture, replay_capture.replay))
