"""``flowmap fleet init``: create or upgrade the tables of ClickHouse."""

from __future__ import annotations

import argparse
import os

from flowmap.cli.shared import options
from flowmap.cli.traffic.flows import note

LONGEST = 20_000
"""Days: the times of expiry of ClickHouse end in 2106."""
KEPT = (
    ("ends", "connections, and the traffic by minute", 15),
    ("hours", "traffic by hour", 400),
    ("days", "traffic by day", 1830),
)
"""What is kept, and for how many days without an option."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the configuration, and how long rows are kept."""
    options.add_config(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the statements that would run, and end")
    group = parser.add_argument_group("days that rows are kept, in tables that are not there yet")
    for name, what, days in KEPT:
        group.add_argument(f"--keep-{name}", type=_days, metavar="DAYS", help=f"{what}; default: {days}")


def run(arguments: argparse.Namespace) -> int:
    """Run the statements, or print them. Exit status 1 if the server refuses one, 78 without a server."""
    from flowmap.clickhouse.initialising import due, found_version, initialise, server_version
    from flowmap.clickhouse.schema import VERSION
    from flowmap.config import load
    from flowmap.daemon.clickhouse import server_of
    from flowmap.errors import ConfigError

    config = load(arguments.config, os.environ)
    settings = config.history.clickhouse
    if settings.url is None:
        raise ConfigError("history.clickhouse.url: not set; give the URL of your ClickHouse")
    given = {name: getattr(arguments, f"keep_{name}") for name, _, _ in KEPT}
    wanted = {name: days for name, days in given.items() if days is not None}
    server = server_of(config)
    try:
        server_version(server)
        if arguments.dry_run:
            found = found_version(server)
            if not found:
                print(f"CREATE DATABASE IF NOT EXISTS {settings.database};\n")
            statements = due(server, found, wanted)
            for statement in statements:
                print(f"{statement.text};\n")
            if not statements:
                note(f"{settings.database}: nothing to do; version {VERSION}")
            return 0
        made = [statement.name for statement in initialise(server, settings.database, wanted)]
    finally:
        server.close()
    print(f"{settings.database}: {', '.join(dict.fromkeys(made)) or 'nothing to do'}; version {VERSION}")
    return 0


def _days(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 2 <= int(text) <= LONGEST):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days between 2 and {LONGEST}")
    return int(text)
