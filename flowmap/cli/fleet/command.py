"""``flowmap fleet``: what the hosts of a fleet share, and the flows of all of them."""

from __future__ import annotations

import argparse
from importlib import import_module
from types import ModuleType

from flowmap.cli.shared import options

WAYS = {
    "init": "create or upgrade the tables of ClickHouse that the hosts send their flows to",
    "check": "test the servers that the fleet shares, their clocks and the rights there",
    "query": "show which deployment owned a connection that any host saw",
    "peers": "list the peers of a deployment over all hosts in a period, and which are new or gone",
    "flows": "list connections of all hosts, each once, and their deployments",
}
"""What each subcommand does. Each is a module beside this one, as the commands are."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    ways = parser.add_subparsers(dest="way", required=True, metavar="|".join(WAYS))
    for name, summary in WAYS.items():
        way = ways.add_parser(
            name, help=summary, description=summary, parents=[options.logging_parent()], allow_abbrev=False
        )
        _module(name).add_arguments(way)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    status: int = _module(arguments.way).run(arguments)
    return status


def _module(name: str) -> ModuleType:
    return import_module(f"flowmap.cli.fleet.{name}")
