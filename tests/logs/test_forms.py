"""What lines look like, and that nothing in a message can make another line or steer a terminal."""

from __future__ import annotations

import json
import logging
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.logs.forms import LONGEST, Form, chosen_form, in_journal, printable, priority

HOSTILE = 'a"b\\c\nd\x00\x1b[31m\u202e\ud800 é'


def record(message: str, *arguments: object, level: int = logging.INFO, error: bool = False) -> logging.LogRecord:
    caught = None
    if error:
        try:
            raise ValueError("bad\nthing \x1b")
        except ValueError:
            caught = sys.exc_info()
    made = logging.LogRecord("flowmap.x", level, "", 0, message, arguments, caught)
    made.created, made.msecs = 1_700_000_000.0, 7.0
    return made


LINES: list[tuple[Form, str, str]] = [
    ("text", "went to %s", "2023-11-14T22:13:20.007Z info flowmap.x: went to there\n"),
    ("logfmt", "went to %s", 'time=2023-11-14T22:13:20.007Z level=info logger=flowmap.x message="went to there"\n'),
    ("logfmt", "%s", "time=2023-11-14T22:13:20.007Z level=info logger=flowmap.x message=there\n"),
]


@pytest.mark.parametrize(("form", "message", "line"), LINES)
def test_a_line(form: Form, message: str, line: str) -> None:
    with open(os.devnull) as nothing:
        assert chosen_form(form, nothing.fileno()).format(record(message, "there")) == line


def test_json_is_one_object_a_line_and_the_default_of_a_pipe() -> None:
    with open(os.devnull) as nothing:
        for form in ("json", "auto"):
            line = chosen_form(form, nothing.fileno()).format(record("went to %s", "there"))
            assert json.loads(line) == {
                "time": "2023-11-14T22:13:20.007Z",
                "level": "info",
                "logger": "flowmap.x",
                "message": "went to there",
            }


@pytest.mark.parametrize("form", ["text", "logfmt", "json"])
def test_hostile_names_stay_on_their_line(form: Form) -> None:
    with open(os.devnull) as nothing:
        line = chosen_form(form, nothing.fileno()).format(record("name %s", HOSTILE))
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    line.encode()
    if form == "json":
        assert json.loads(line)["message"] == "name " + printable(HOSTILE)


@pytest.mark.parametrize(("form", "lines"), [("text", 6), ("logfmt", 1), ("json", 1)])
def test_tracebacks(form: Form, lines: int) -> None:
    with open(os.devnull) as nothing:
        text = chosen_form(form, nothing.fileno()).format(record("defect", error=True))
    assert len(text.splitlines()) == lines
    assert "ValueError: bad" in text
    assert all(line.isprintable() for line in text.splitlines())
    assert all(line.startswith("  ") for line in text.splitlines()[1:]), "an error's text cannot pose as another line"


@given(st.text(max_size=200))
def test_printable_is_printable_and_leaves_the_rest_alone(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


def test_a_long_message_is_cut() -> None:
    assert len(printable("x" * 100_000)) < LONGEST + 50
    assert printable("x" * 100_000).endswith("… (95904 characters cut)")


def test_the_journal_gets_priorities_and_has_the_time_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as nothing:
        status = os.fstat(nothing.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert in_journal(nothing.fileno())
        made = chosen_form("auto", nothing.fileno())
        assert made.format(record("hello", level=logging.WARNING)) == "<4>flowmap.x: hello\n"
        lines = made.format(record("defect", level=logging.ERROR, error=True)).splitlines()
        assert len(lines) > 3
        assert all(line.startswith("<3>") for line in lines)
        assert chosen_form("json", nothing.fileno()).format(record("x")).startswith('<6>{"time"')
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    with open(os.devnull) as nothing:
        assert not in_journal(nothing.fileno()), "stderr was sent elsewhere"


def test_priorities() -> None:
    levels = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
    assert [priority(level) for level in levels] == [7, 6, 4, 3, 2]
