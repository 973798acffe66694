"""run: the daemon, in the foreground, until SIGTERM.

Exit status 0 on SIGTERM or SIGINT, 78 on a configuration that cannot work, 1 on a failure. SIGHUP reads the
configuration again.
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
    """``-c FILE``, whether to record, and when to end."""
    os.environ.update(ENVIRONMENT)  # before any word is parsed: durations and sizes are what first imports numpy
    options.add_config(parser)
    parser.add_argument(
        "--record",
        metavar="FILE",
        type=Path,
        help="keep everything that decides who owns what in a new file, for flowmap replay; it holds addresses",
    )
    parser.add_argument(
        "--record-max-size",
        metavar="SIZE",
        type=options.size,
        default=256 << 20,
        help="largest size of that file; the recording then ends and the daemon goes on; default: 256MiB",
    )
    parser.add_argument("--record-overwrite", action="store_true", help="replace the file if it is there already")
    parser.add_argument("--duration", type=options.duration, help="end after this time; default: run until SIGTERM")
    parser.add_argument(
        "--textfile",
        metavar="FILE.prom",
        type=Path,
        help="also write the page to a file, every 15 s and at the end, for node_exporter's textfile collector",
    )


def run(arguments: argparse.Namespace) -> int:
    """Load the configuration, check that somebody can be asked, and hand over to the daemon."""
    # Until the daemon has its own handlers there is nothing to save, and being stopped is no failure.
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
    """The configuration as it is now: what the command line says goes before environment and file."""
    from flowmap.config import require_control_plane
    from flowmap.config.loading import read

    loaded = read(arguments.config, os.environ)
    require_control_plane(loaded.config)
    level = getattr(arguments, "log_level", None)
    if level is None:
        return loaded
    log = loaded.config.log.model_copy(update={"level": level})
    return loaded._replace(config=loaded.config.model_copy(update={"log": log}))
