"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

from flowmap.cli.command import main

__all__ = ["main"]
