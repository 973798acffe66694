"""Logging never blocks: unread pipes, closed stderr, repeated lines."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from flowmap.logs.forms import chosen_form
from flowmap.logs.handler import LogHandler
from flowmap.logs.repeats import BURST
from flowmap.logs.sink import LINES, Sink
from tests.support.waiting import until


class Pipe:
    """A pipe with a logger that writes into it."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self.sink = Sink(self.write)
        self.handler = LogHandler(self.sink)
        self.handler.setFormatter(chosen_form("json", self.write))
        self.logger = logging.Logger("flowmap.test", logging.DEBUG)
        self.logger.addHandler(self.handler)

    def messages(self) -> list[str]:
        """What has arrived so far."""
        os.set_blocking(self.read, False)
        data = b""
        try:
            while part := os.read(self.read, 65536):
                data += part
        except BlockingIOError:
            pass
        return [json.loads(line)["message"] for line in data.splitlines()]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.messages()
    os.close(made.read)
    made.handler.finish(5)
    os.close(made.write)


def test_lines_are_queued_until_start(pipe: Pipe) -> None:
    for n in range(5):
        pipe.logger.info("line %d of kind %s", n, n)
    assert pipe.messages() == []
    pipe.handler.finish(5)
    assert pipe.messages() == [f"line {n} of kind {n}" for n in range(5)]


def test_last_lines_without_a_thread(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    pipe.logger.error("the last words")
    pipe.handler.finish(5)
    pipe.logger.error("too late")
    pipe.handler.finish(5)
    assert pipe.messages() == ["the last words"]


def test_unread_pipe_drops_lines(pipe: Pipe) -> None:
    pipe.handler.start()
    for n in range(3 * LINES):
        pipe.logger.debug("%s %d", "x" * 200, n)
    counts = pipe.handler.take_counts()
    assert counts["line", "debug"] == 3 * LINES
    dropped = counts["dropped", "full"]
    assert LINES <= dropped < 3 * LINES
    got: list[str] = []

    def caught_up() -> bool:
        got.extend(pipe.messages())
        return len(got) == 3 * LINES - dropped

    until(caught_up, "what was taken arrives once somebody reads")


def test_closed_descriptor(pipe: Pipe) -> None:
    os.close(pipe.read)
    pipe.handler.start()
    pipe.logger.info("into the void")
    until(lambda: pipe.sink.failed, "it cannot be written")
    assert pipe.handler.take_counts()["dropped", "failed"] == 1
    assert pipe.handler.take_counts()["dropped", "failed"] == 0
    pipe.read = os.open(os.devnull, os.O_RDONLY)


def test_repeated_lines_are_suppressed(pipe: Pipe) -> None:
    for n in range(100):
        pipe.logger.warning("no %d", n)
    pipe.logger.warning("something else")
    pipe.handler.finish(5)
    messages = pipe.messages()
    assert messages[:BURST] == [f"no {n}" for n in range(BURST)]
    assert messages[BURST:] == [
        "something else",
        f"{100 - BURST} more lines like this in the last 60 s; the last: no 99",
    ]
    assert pipe.handler.take_counts()["dropped", "suppressed"] == 100 - BURST


def test_line_with_wrong_arguments(pipe: Pipe) -> None:
    pipe.logger.info("%d flows", "many")
    pipe.handler.finish(5)
    (message,) = pipe.messages()
    assert message.startswith("cannot format this line: '%d flows'")


def test_repeated_lines_with_wrong_arguments(pipe: Pipe) -> None:
    for _ in range(BURST + 1):
        pipe.logger.info("%d flows", "many")
    pipe.handler.finish(5)
    assert pipe.messages()[BURST:] == ["1 more lines like this in the last 60 s; the last: %d flows"]


SCRIPT = """
import logging, threading, warnings
from flowmap import logs
from flowmap.system.descriptors import hold_standard
hold_standard()
logs.set_up("info", "text")
logs.start()
threading.Thread(target=lambda: 1 / 0, name="worker").start()
warnings.warn("old")
logging.getLogger("httpx").info("GET https://secret")
logs.set_up("error", "json")
logging.getLogger("flowmap").warning("not shown any more")
logging.getLogger("flowmap").error("shown")
logs.close()
"""


def test_threads_warnings_and_reconfiguration() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert "critical flowmap.logs: thread worker died" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert "warning py.warnings: " in done.stderr
    assert "secret" not in done.stderr
    assert "not shown" not in done.stderr
    assert json.loads(done.stderr.splitlines()[-1])["message"] == "shown"


def test_closed_stderr() -> None:
    # Without stderr the next descriptor would be number 2, and get what was meant for it.
    command = f"exec 2>&-; exec {sys.executable} -c '{SCRIPT}'"
    assert subprocess.run(["sh", "-c", command]).returncode == 0
