"""``flowmap fleet check``: test the servers that the fleet shares."""

from __future__ import annotations

import argparse
import os

from flowmap.cli.shared import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the configuration and the output."""
    options.add_config(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the findings. Exit status as of ``flowmap check``: 1 if something essential fails, 0 if it is degraded."""
    from flowmap.cli.check import clickhouse, fleet
    from flowmap.cli.check.command import is_good, show
    from flowmap.config import load
    from flowmap.errors import ConfigError
    from flowmap.system.names import run_loop

    config = load(arguments.config, os.environ)
    if config.fleet.url is None and config.history.clickhouse.url is None:
        raise ConfigError("fleet.url: not set, nor history.clickhouse.url; give the URL of a server to test")
    with run_loop() as runner:
        findings = runner.run(fleet.look(config))
    findings += clickhouse.look(config)
    show(findings, arguments)
    return 0 if is_good(findings) else 1
