"""run: the daemon, in the foreground, until SIGTERM.

Exit status 0 on SIGTERM or SIGINT, 78 on a configuration that cannot work, 1 on a failure.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

from flowmap.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``-c FILE``."""
    options.add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    """Load the configuration, check that somebody can be asked, and hand over to the daemon."""
    # Until the daemon has its own handlers there is nothing to save, and being stopped is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # numpy reads this when it is imported. Its tables are made for the most there may be and mostly never touched:
    # in huge pages every first touch would cost 2 MiB, and nothing is faster for it.
    os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")
    from flowmap.config import load, require_control_plane
    from flowmap.daemon import run as run_daemon

    config = load(arguments.config, os.environ)
    require_control_plane(config)
    level = getattr(arguments, "log_level", None)
    if level is not None:
        config = config.model_copy(update={"log": config.log.model_copy(update={"level": level})})
    return run_daemon(config)
