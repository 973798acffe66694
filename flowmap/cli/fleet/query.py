"""``flowmap fleet query``: which deployment owned a connection, as any host of the fleet saw it.

Exit status as of ``flowmap query``.
"""

from __future__ import annotations

import argparse

from flowmap.cli.shared import options
from flowmap.cli.traffic import query


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the connection and the store to ask."""
    query.add_connection(parser, now="the last one that ended")
    options.add_netns(parser, "network namespace, by its name or inode, or host; only if several have the connection")
    parser.set_defaults(explain=False)
    options.add_config(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask the store and print the attribution."""
    from flowmap.cli.fleet import store

    with store.connect(arguments) as client:
        return query.show(client.get("attribution", query.parameters(arguments)), arguments)
