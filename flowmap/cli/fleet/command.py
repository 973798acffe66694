"""``flowmap fleet``: test what the hosts of a fleet share."""

from __future__ import annotations

import argparse
import os

from flowmap.cli.shared import options

WAYS = {"check": "test the server that the fleet shares, its clock and the rights there"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    ways = parser.add_subparsers(dest="way", required=True, metavar="|".join(WAYS))
    for name, summary in WAYS.items():
        way = ways.add_parser(
            name, help=summary, description=summary, parents=[options.logging_parent()], allow_abbrev=False
        )
        options.add_config(way)
        options.add_output(way)


def run(arguments: argparse.Namespace) -> int:
    """Print the findings. Exit status 1 if anything is not ok."""
    from flowmap.cli.check.command import show
    from flowmap.cli.check.fleet import look
    from flowmap.config import load
    from flowmap.errors import ConfigError
    from flowmap.system.names import run_loop

    config = load(arguments.config, os.environ)
    if config.fleet.url is None:
        raise ConfigError("fleet.url: not set; give the URL of your Valkey or Redis server")
    with run_loop() as runner:
        findings = runner.run(look(config))
    show(findings, arguments)
    return 0 if all(finding.level == "ok" for finding in findings) else 1
