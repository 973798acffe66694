"""Keys of a terminal, one by one: without echo and without waiting for Enter."""

from __future__ import annotations

import contextlib
import os
import select
import termios
import tty
from types import TracebackType
from typing import Self

NAMED = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1b[C": "enter",
    "\x1b[D": "back",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1b[F": "end",
    "\r": "enter",
    "\n": "enter",
    "\x1b": "back",
    "\x7f": "erase",
    "\x08": "erase",
    "\x03": "q",
    "\x04": "q",
}
"""What terminals send for keys without a character. The arrows to the right and left go in and out."""


class Keys:
    """The keyboard of the terminal ``descriptor``. Entering the context changes its mode, leaving restores it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._before: list[object] = []

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]

    def read(self, seconds: float) -> list[str]:
        """The keys pressed, after a wait of at most ``seconds`` for the first; ``q`` if the terminal is gone."""
        try:
            if not select.select([self._descriptor], [], [], seconds)[0]:
                return []
            data = os.read(self._descriptor, 1024)
        except OSError:
            return ["q"]
        return split(data.decode(errors="ignore")) if data else ["q"]


def split(text: str) -> list[str]:
    """The names of the keys in what a terminal sent."""
    keys = []
    while text:
        length = next((size for size in (4, 3) if text[:size] in NAMED), 1)
        part, text = text[:length], text[length:]
        name = NAMED.get(part, part)
        if len(name) > 1 or name.isprintable():
            keys.append(name)
    return keys
