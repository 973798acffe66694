"""``flowmap config``: print the effective configuration with secrets masked, its JSON Schema, or an example file."""

from __future__ import annotations

import argparse
import os

from flowmap.cli.shared import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``-c FILE`` and the other things to print."""
    options.add_config(parser)
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--schema", action="store_true", help="print the JSON Schema instead")
    instead.add_argument(
        "--example", action="store_true", help="print an example file with every key at its default instead"
    )
    parser.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml", help="output format; default: yaml")


def run(arguments: argparse.Namespace) -> int:
    """Print the configuration."""
    from flowmap import config
    from flowmap.cli.output.text import print_json, shown
    from flowmap.config.reference import masked_yaml

    if arguments.schema:
        print_json(config.schema())
    elif arguments.example:
        print(config.example_yaml(), end="")
    else:
        loaded = config.load(arguments.config, os.environ)
        if arguments.output == "json":
            print_json(config.masked(loaded))
        else:
            text = masked_yaml(loaded)
            print(text if shown(text) == text else masked_yaml(loaded, ascii_only=True), end="")
    return 0
