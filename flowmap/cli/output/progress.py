"""Text on a terminal that is replaced while a command runs: progress, and the table of the demo."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from flowmap.cli.output.text import clean, shown

if TYPE_CHECKING:
    from rich.live import Live

DELAY = 0.5
"""Seconds before progress is shown; short commands show none."""
EVERY = 0.1
"""Seconds between two updates."""


class Progress:
    """One line on stderr that is removed in the end; nothing if stderr is not a terminal."""

    def __init__(self) -> None:
        self._next = time.monotonic() + DELAY if sys.stderr.isatty() else float("inf")
        self._live: Live | None = None

    def show(self, text: str) -> None:
        """Replace the line by ``text``, unless the last update was a moment ago."""
        if time.monotonic() < self._next:
            return
        if self._live is None:
            self._live = start_live(sys.stderr, transient=True)
        show_live(self._live, shown(clean(text), sys.stderr))
        self._next = time.monotonic() + EVERY

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


def start_live(terminal: TextIO, *, transient: bool) -> Live:
    """A region of ``terminal`` whose text can be replaced; ``transient``: removed when it is stopped."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=terminal, force_terminal=True)
    live = Live(console=console, transient=transient, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    live.start()
    return live


@contextmanager
def full_screen(terminal: TextIO) -> Iterator[Live]:
    """The whole ``terminal``, as it was before in the end."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=terminal)
    with Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        yield live


def show_lines(live: Live, lines: Sequence[str], selected: int, *, size: tuple[int, int]) -> None:
    """Show lines that fit, in which nothing may steer a terminal; the selected one is marked, also without colours.

    ``size``: columns and lines of the terminal now.
    """
    from rich.text import Text

    live.console.size = size  # by itself, rich takes COLUMNS and LINES of the start
    shown = Text(no_wrap=True, overflow="crop")
    for number, line in enumerate(lines):
        style = "reverse" if number == selected else "bold" if number in (0, 2) else ""
        shown.append(">" + line[1:] if number == selected else line, style)
        shown.append("\n" if number < len(lines) - 1 else "")
    live.update(shown, refresh=True)


def show_live(live: Live, text: str) -> None:
    """Show ``text``, in which nothing may steer a terminal (see ``text.clean``)."""
    from rich.text import Text

    live.update(Text(text, overflow="fold"), refresh=True)
