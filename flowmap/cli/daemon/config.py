"""config: the configuration in force, with secrets masked.

Also its JSON Schema, a commented file with every key, and the table of config/README.md.
"""

from __future__ import annotations

import argparse
import os

from flowmap.cli.shared import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``-c FILE``, and what to print instead."""
    options.add_config(parser)
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--schema", action="store_true", help="print the JSON Schema of the file instead")
    instead.add_argument("--example", action="store_true", help="print a file with every key at its default instead")
    instead.add_argument("--markdown", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml", help="form; default: yaml")


def run(arguments: argparse.Namespace) -> int:
    """Print it."""
    from flowmap import config
    from flowmap.cli.output.text import print_json, shown
    from flowmap.config.reference import masked_yaml

    if arguments.schema:
        print_json(config.schema())
    elif arguments.example:
        print(config.example_yaml(), end="")
    elif arguments.markdown:
        print(config.config_markdown(), end="")
    else:
        loaded = config.load(arguments.config, os.environ)
        if arguments.output == "json":
            print_json(config.masked(loaded))
        else:
            said = masked_yaml(loaded)
            print(said if shown(said) == said else masked_yaml(loaded, ascii_only=True), end="")
    return 0
