"""``flowmap replay``: attribute a capture file or a recording again, without a daemon.

Exit status 0; 3 if a part of the file could not be used, if the result differs from the recorded one, or, with
``--query``, for no name; 1 on an error.
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
"""A test of the first bytes of a file, and the function that replays such a file and returns the exit status."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the file, the output, and the time limit."""
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        help="a capture (pcap, pcapng, also gzip), or a recording made by flowmap run --record",
    )
    parser.add_argument(
        "-o",
        "--output",
        "--format",
        choices=("table", "json", "prometheus"),
        help="table of deployments and peers, every flow as json, or the final /metrics; default: table on a terminal, "
        "otherwise json",
    )
    parser.add_argument(
        "--query",
        metavar=("SRC[:PORT]", "DST[:PORT]"),
        nargs=2,
        type=options.endpoint,
        help="show which deployment owns this connection instead, as flowmap query does",
    )
    parser.add_argument("--protocol", type=options.protocol, help="protocol of the connection of --query; default: tcp")
    parser.add_argument(
        "--explain", action="store_true", help="show questions, answers and rules behind the result of --query"
    )
    parser.add_argument(
        "--until",
        metavar="TIME",
        type=options.instant,
        help="stop at this time, like 2026-11-21T20:16:07Z",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="count the calls that the settings of -c would cost instead"
    )
    captures = parser.add_argument_group("for captures")
    captures.add_argument(
        "--catalog",
        metavar="FILE",
        type=Path,
        help="file with the owners of addresses, in the form of flowmap sandbox --catalog",
    )
    captures.add_argument(
        "--assume-current",
        action="store_true",
        help="ask the control plane for today's owners and use them for the capture's time",
    )
    captures.add_argument(
        "--tunnels",
        choices=("outer", "inner"),
        help="for VXLAN, Geneve, GRE and IP in IP, count the flow of the tunnel or the flows inside; default: "
        "collect.capture.tunnels",
    )
    options.add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    """Detect the kind of the file and replay it."""
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
    """QueryError for an option without effect."""
    if arguments.query is None:
        for name in ("explain", "protocol"):
            if getattr(arguments, name):
                raise QueryError(f"--{name}: has an effect only with --query; add --query")
    elif arguments.output == "prometheus":
        raise QueryError("--query: has no prometheus output; use -o table or -o json")


def _check_kind(path: Path) -> None:
    """SourceError unless ``path`` is a regular file: others can be read only once, or are endless."""
    mode = path.stat().st_mode
    if stat.S_ISFIFO(mode):
        raise SourceError(f"{path}: a pipe cannot be replayed; write it to a file first")
    if stat.S_ISDIR(mode):
        raise SourceError(f"{path}: a directory cannot be replayed, only a file in it")
    if not stat.S_ISREG(mode):
        raise SourceError(f"{path}: a device or socket cannot be replayed, only a file")


def kinds() -> tuple[Kind, ...]:
    """The kinds of files that can be replayed."""
    from flowmap.cli.replay import capture, recording
    from flowmap.recording.reader import is_recording
    from flowmap.replay.capture_file import is_capture

    return ((is_recording, recording.replay), (is_capture, capture.replay))
