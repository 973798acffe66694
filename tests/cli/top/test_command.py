"""``flowmap top`` in a pseudo-terminal, against a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.served import Served, served
from tests.support.terminal import terminal
from tests.support.whole_daemon import in_thread


@pytest.fixture(scope="module")
def daemon() -> Iterator[Served]:
    with in_thread(served) as made:
        yield made


def test_keys_lead_to_connections_and_an_explanation(daemon: Served) -> None:
    with terminal("top", "--url", daemon.server.url) as running:
        assert running.shows("orders <b>")[2].split()[:3] == ["STATE", "DEPLOYMENT", "PEER"]
        assert not running.echoes()
        running.press("\r")
        running.shows("10.0.0.1:40000")
        running.press("\r")
        running.shows("client {a}")
        running.press("\x1b")
        running.shows("connections of")
        running.press("\x1b")
        running.press("s")
        running.shows("sorted by received rate")
        running.press("p")
        running.shows("PAUSED")
        running.press("q")
        assert running.ends() == 0
        assert running.echoes(), "the terminal is as it was"
        assert running.written.endswith(b"\x1b[?25h") or b"\x1b[?1049l" in running.written


def test_other_sizes_and_no_colours(daemon: Served) -> None:
    stale = {"COLUMNS": "80", "LINES": "25"}  # as a shell exported them once
    words = ("top", "--by", "peer", "--url", daemon.server.url)
    with terminal(*words, columns=120, lines=40, NO_COLOR="1", **stale) as running:
        lines = running.shows("10.0.0.9:9092")
        assert lines[3].startswith("> 10.0.0.9:9092"), "the selected line is marked without colours too"
        assert b"\x1b[3" not in running.written.replace(b"\x1b[3;", b""), "no colour"
        running.resize(60, 10)
        running.press("?")
        assert len(running.shows("select a line")) == 10
        running.resize(20, 4)
        running.shows("at least 40 x 8")
        running.press("q")
        assert running.ends() == 0


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "ftp://x"])
def test_no_daemon(url: str) -> None:
    with terminal("top", "--url", url) as running:
        running.shows("flowmap: ")
        assert running.ends() == 1
        assert b"\x1b[?1049h" not in running.written


def test_no_terminal() -> None:
    words = [sys.executable, "-m", "flowmap", "top", "--url", "http://127.0.0.1:9"]
    result = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=dict(os.environ))
    expected = "flowmap: flowmap top needs a terminal; use flowmap flows --by deployment,peer\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", expected)
