"""``flowmap fleet peers``: the peers of a deployment in a period, over all hosts."""

from __future__ import annotations

import argparse

from flowmap.cli.shared import options
from flowmap.cli.traffic import peers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the deployment, the periods and the store to ask."""
    peers.add_question(parser)
    options.add_config(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask the store and print the peers. Exit status 1 if the answer is incomplete."""
    from flowmap.cli.fleet import store

    with store.connect(arguments) as client:
        return peers.show(client, arguments)
