"""``flowmap top``: live traffic by deployment and peer, with the way down to connections and their names.

Made with rich's Live: it is a dependency already, and the program is one table with a dozen keys. Textual would bring
nine more packages and half a second to start, for widgets that this does not need.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from flowmap.cli.shared import options
from flowmap.cli.traffic import grouped
from flowmap.errors import QueryError

if TYPE_CHECKING:
    from flowmap.cli.top.feed import Feed
    from flowmap.cli.top.screen import Screen

FRAME = 0.25
"""Seconds between two looks at the keyboard and the stream."""
SMALLEST = (40, 8)
"""Columns and lines of the smallest terminal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to show first, and the daemon."""
    parser.add_argument(
        "--by",
        metavar="SIDES",
        type=grouped.by,
        default="deployment,peer",
        help="deployment, peer, or both between commas; default: deployment,peer",
    )
    parser.add_argument("--filter", metavar="WORDS", default="", help="only deployments and peers with these words")
    options.add_daemon(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show the traffic until ``q``. QueryError without a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "dumb") == "dumb":
        raise QueryError("flowmap top needs a terminal; use flowmap flows --by deployment,peer")
    from flowmap.cli.top.feed import Feed
    from flowmap.cli.top.screen import Screen

    screen = Screen(sides=arguments.by, filter=arguments.filter)
    feed = Feed(arguments)
    feed.start(screen.stream)
    _show(screen, feed)
    return 0


def _show(screen: Screen, feed: Feed) -> None:
    from flowmap.cli.output.progress import full_screen, show_lines
    from flowmap.cli.top.keys import Keys

    with Keys(sys.stdin.fileno()) as keys, full_screen(sys.stdout) as live:
        shown: object = None
        while not screen.over:
            feed.fill(screen)
            width, height = os.get_terminal_size(sys.stdout.fileno())
            if width < SMALLEST[0] or height < SMALLEST[1]:
                frame = ([f"at least {SMALLEST[0]} x {SMALLEST[1]}"], -1)
            else:
                frame = screen.lines(width, height)
            if (frame, width, height) != shown:
                shown = (frame, width, height)
                show_lines(live, *frame, size=(width, height))
            for key in keys.read(FRAME):
                screen.key(key)
