"""replay: who owned what in a file of what happened, attributed again without daemon and control plane.

Exit status 0; 3 if a part of the file could not be used, if this flowmap comes to something else than the one that
recorded, or, with --query, if nobody can say; 1 on an error.
"""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Callable
from pathlib import Path

from flowmap.cli.shared import options
from flowmap.cli.shared.environment import ENVIRONMENT
from flowmap.errors import DecodeError, QueryError, SourceError

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
    parser.add_argument("--protocol", type=options.protocol, help="of that connection; default: tcp")
    parser.add_argument("--explain", action="store_true", help="show everything that led to that answer")
    parser.add_argument(
        "--until",
        metavar="TIME",
        type=options.instant,
        help="go no further than this moment, like 2026-11-21T20:16:07Z",
    )
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
        help="count packets of tunnels (VXLAN, Geneve, GRE, IP in IP) as themselves, or as the packet inside; default: "
        "collect.capture.tunnels",
    )
    options.add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    """Find out what kind of file it is, and replay it."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _check(arguments)
    _check_kind(arguments.file)
    with arguments.file.open("rb") as file:
        first = file.read(FIRST_BYTES)
    if not first:
        raise DecodeError(f"{arguments.file}: the file is empty")
    for recognises, replay in kinds():
        if recognises(first):
            return replay(arguments)
    raise DecodeError(f"{arguments.file}: neither a capture (pcap, pcapng) nor a recording of flowmap run --record")


def _check(arguments: argparse.Namespace) -> None:
    """QueryError for options that would have no effect."""
    if arguments.query is None:
        for name in ("explain", "protocol"):
            if getattr(arguments, name):
                raise QueryError(f"--{name}: is for one connection; give it with --query")
    elif arguments.output == "prometheus":
        raise QueryError("--query: is shown as a table or json; -o prometheus is the page of all flows")


def _check_kind(path: Path) -> None:
    """SourceError for what is no file on disk: it may be read once only, or never end."""
    mode = path.stat().st_mode
    if stat.S_ISFIFO(mode):
        raise SourceError(f"{path}: a pipe cannot be replayed; write it to a file first")
    if stat.S_ISDIR(mode):
        raise SourceError(f"{path}: a directory cannot be replayed, only a file in it")
    if not stat.S_ISREG(mode):
        raise SourceError(f"{path}: a device or socket cannot be replayed, only a file")


def kinds() -> tuple[Kind, ...]:
    """Every kind of file that can be replayed."""
    from flowmap.cli.replay import capture, recording
    from flowmap.recording.reader import is_recording
    from flowmap.replay.capture_file import is_capture

    return ((is_recording, recording.replay), (is_capture, capture.replay))
