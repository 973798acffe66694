"""``flowmap run``: run the daemon in the foreground until SIGTERM.

Exit status 0 on SIGTERM or SIGINT, 78 for an invalid configuration, 1 on a failure. SIGHUP reloads the configuration.
"""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from flowmap.cli.shared import options
from flowmap.cli.shared.environment import ENVIRONMENT

if TYPE_CHECKING:
    from flowmap.config.loading import LoadedConfig
    from flowmap.recording.recorder import RecordTo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``-c FILE``, the recording and the duration."""
    os.environ.update(ENVIRONMENT)  # before arguments are parsed: parsing a duration or size imports numpy
    options.add_config(parser)
    parser.add_argument(
        "--record",
        metavar="FILE",
        type=Path,
        help="record everything that attribution depends on in a new file, for flowmap replay; it contains addresses",
    )
    parser.add_argument(
        "--record-max-size",
        metavar="SIZE",
        type=options.size,
        default=256 << 20,
        help="maximum size of the recording; then it stops and the daemon continues; default: 256MiB",
    )
    parser.add_argument("--record-overwrite", action="store_true", help="replace the recording if the file exists")
    parser.add_argument("--duration", type=options.duration, help="stop after this time; default: run until SIGTERM")
    parser.add_argument(
        "--textfile",
        metavar="FILE.prom",
        type=Path,
        help="also write the metrics to a file, every 15 s and at the end, for node_exporter's textfile collector",
    )


def run(arguments: argparse.Namespace) -> int:
    """Load the configuration, require a control plane, and run the daemon."""
    # Until the daemon installs its own handlers there is nothing to save, so a stop is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    from flowmap.daemon.lifecycle import run as run_daemon
    from flowmap.daemon.textfile import OneRun

    loaded = load_again(arguments)
    return run_daemon(
        loaded.config,
        lambda: load_again(arguments),
        file=arguments.config,
        record=_record(arguments),
        once=OneRun(arguments.duration, arguments.textfile),
    )


def _record(arguments: argparse.Namespace) -> RecordTo | None:
    if arguments.record is None:
        return None
    from flowmap.recording.recorder import RecordTo

    return RecordTo(arguments.record, arguments.record_max_size, arguments.record_overwrite)


def load_again(arguments: argparse.Namespace) -> LoadedConfig:
    """Load the configuration. The command line overrides the environment, which overrides the file."""
    from flowmap.config import require_control_plane
    from flowmap.config.loading import read

    loaded = read(arguments.config, os.environ)
    require_control_plane(loaded.config)
    level = getattr(arguments, "log_level", None)
    if level is None:
        return loaded
    log = loaded.config.log.model_copy(update={"level": level})
    return loaded._replace(config=loaded.config.model_copy(update={"log": log}))
