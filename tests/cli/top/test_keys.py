"""Keys as terminals send them."""

from __future__ import annotations

import os
import pty
import termios

import pytest

from flowmap.cli.top.keys import Keys, split

ROWS = [
    ("q", ["q"]),
    ("\x1b[A\x1b[B", ["up", "down"]),
    ("\x1bOA", ["up"]),
    ("\x1b[5~\x1b[6~", ["page up", "page down"]),
    ("\r\n", ["enter", "enter"]),
    ("\x1b", ["back"]),
    ("ab\x7f", ["a", "b", "erase"]),
    ("é订", ["é", "订"]),
    ("\x01\x02", []),
    ("\x03", ["q"]),
    ("", []),
]


@pytest.mark.parametrize(("sent", "expected"), ROWS)
def test_split(sent: str, expected: list[str]) -> None:
    assert split(sent) == expected


def test_the_terminal_is_as_before_in_the_end() -> None:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    with Keys(slave) as keys:
        assert not termios.tcgetattr(slave)[3] & (termios.ECHO | termios.ICANON)
        assert keys.read(0) == []
        os.write(master, b"p\x1b[A")
        assert keys.read(5) == ["p", "up"]
    assert termios.tcgetattr(slave) == before
    with Keys(slave) as keys:
        os.close(master)
        assert keys.read(5) == ["q"], "the terminal is gone"
