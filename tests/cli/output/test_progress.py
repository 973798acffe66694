"""Progress: one line on a terminal, gone in the end; nothing elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from flowmap.cli.output.progress import Progress


class Stream(io.StringIO):
    """stderr that is a terminal, or not."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def shown(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    stream = Stream(terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress() as progress:
        progress.show("1 of 3\x1b[31m")
        progress.show("2 of 3")  # too soon
    return stream.getvalue()


def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(True, monkeypatch) == "\r\x1b[K1 of 3\\x1b[31m\r\x1b[K"


def test_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(False, monkeypatch) == ""


def test_nothing_said_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(True)
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress():
        pass
    assert stream.getvalue() == ""
