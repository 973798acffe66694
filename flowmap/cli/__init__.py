"""The command line: parse, call, print. Each command imports what it needs."""

from flowmap.cli.command import main

__all__ = ["main"]
