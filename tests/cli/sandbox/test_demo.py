"""``flowmap demo``: what it prints on a terminal and into a pipe, over a demo that is made up."""

from __future__ import annotations

import io
import sys
from typing import Self

import pytest

from flowmap.cli import command
from flowmap.sandbox.demo import demo
from flowmap.sandbox.demo.demo import DemoResult
from flowmap.sandbox.demo.scenario import Amount, SeriesName, judge
from flowmap.sandbox.demo.scrape import Page

NAME = SeriesName(("orders",), "kafka")
TRUTH = {NAME: Amount(10, 20, 1)}


class MadeUpDemo:
    """Two looks at one series, then the result."""

    url, control_plane, block = "http://127.0.0.1:1", "http://127.0.0.1:2", 77
    rows = TRUTH

    def __init__(self, host: str, port: int) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def page(self) -> Page:
        return Page(self.rows, {NAME: 1}, 0, True)

    def finish(self) -> DemoResult:
        return DemoResult(self.page(), TRUTH, judge(self.rows, TRUTH))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "Demo", MadeUpDemo)


def test_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["demo", "--duration", "10ms"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "orders      kafka  10 B      20 B               1     1  attributed" in out
    assert "orders      kafka        10       20           10               20  equal" in out


def test_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("flowmap.cli.sandbox.demo.FRAME", 0.01)
    assert command.main(["demo", "--duration", "30ms"]) == 0
    assert terminal.getvalue().count("attributed") >= 2
    assert "\x1b[1A\x1b[2K" in terminal.getvalue()  # the table before is erased


def test_different_bytes_fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(MadeUpDemo, "rows", {NAME: Amount(10, 19, 1)})
    assert command.main(["demo", "--duration", "10ms"]) == 1
    assert "DIFFERENT" in capsys.readouterr().out
