"""``flowmap fleet flows``: connections of all hosts, each once."""

from __future__ import annotations

import argparse
import time

from flowmap.cli.shared import options
from flowmap.cli.traffic import flows
from flowmap.cli.traffic.peers import DAY
from flowmap.errors import QueryError
from flowmap.model.deployment import State


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the filters, the limit and the store to ask."""
    flows.add_filters(parser, since="connections that were open after this time, like 2h; default: 24h ago")
    parser.add_argument(
        "--counts",
        choices=("ip", "payload"),
        help="with --by: traffic whose bytes are those of IP packets, or payload; default: what is more common",
    )
    parser.set_defaults(follow=False)
    options.add_config(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask the store and print the connections. Exit status 1 if the answer is incomplete."""
    from flowmap.cli.fleet import store

    if arguments.since is None and arguments.until is None:
        arguments.since = time.time() - DAY
    if arguments.counts and not arguments.by:
        raise QueryError("--counts is for sums; give --by, or leave it out")
    if arguments.state == State.PENDING:
        raise QueryError("the fleet's store has connections that ended only, and none of them is pending")
    filters = flows.filters_of(arguments)
    with store.connect(arguments) as client:
        if arguments.by:
            return flows.show_groups(client, arguments, filters | {"counts": arguments.counts})
        return flows.show(client, arguments, filters)
