"""Progress: one line on a terminal, gone in the end; nothing elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from flowmap.cli.output import progress
from flowmap.cli.output.progress import Progress


class Stream(io.StringIO):
    """stderr that is a terminal, or not."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def shown(terminal: bool, monkeypatch: pytest.MonkeyPatch, *, delay: float = 0.0) -> str:
    stream = Stream(terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "DELAY", delay)
    with Progress() as line:
        line.show("1 of 3\x1b[31m[bold]")
        line.show("2 of 3")  # too soon
    return stream.getvalue()


def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    written = shown(True, monkeypatch)
    assert "1 of 3\\x1b[31m[bold]" in written
    assert "2 of 3" not in written
    assert written.endswith("\x1b[1A\x1b[2K")  # the line is erased


@pytest.mark.parametrize(("terminal", "delay"), [(False, 0.0), (True, 60.0)])
def test_nothing_is_shown(terminal: bool, delay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(terminal, monkeypatch, delay=delay) == ""


def test_dumb_terminal_gets_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in shown(True, monkeypatch)
