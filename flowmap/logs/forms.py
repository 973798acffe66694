"""Formats of log lines: text for people and the journal, logfmt and JSON for programs.

Names in a line come from the control plane and may contain any character. All text passes :func:`printable`, so that a
line contains no control character, line end, direction override or lone surrogate.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
import traceback
from typing import Literal

Form = Literal["auto", "text", "logfmt", "json"]

LONGEST = 4096
"""Characters of a message; a longer one is cut and marked."""

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""Severities of syslog (RFC 5424, section 6.2.1), which the journal reads as ``<n>`` before a line."""
_DEBUG_PRIORITY = 7

_BARE = re.compile(r"[^\s\"=\\]+")


def printable(text: str) -> str:
    """``text`` on one line, with escapes for everything that is not printable."""
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}… ({len(text) - LONGEST} characters cut)"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def in_journal(descriptor: int) -> bool:
    """Whether a descriptor leads to the journal: JOURNAL_STREAM has its device and inode (systemd.exec(5))."""
    try:
        device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
        status = os.fstat(descriptor)
        return (int(device), int(inode)) == (status.st_dev, status.st_ino)
    except (OSError, ValueError):
        return False


def chosen_form(form: Form, descriptor: int) -> logging.Formatter:
    """The formatter of a form; ``auto`` is text on a terminal and in the journal, else JSON."""
    journal = in_journal(descriptor)
    if form == "auto":
        form = "text" if journal or os.isatty(descriptor) else "json"
    return _FORMATTERS[form](journal)


class _Lines(logging.Formatter):
    """Base of the formatters. ``journal``: put the priority before each line."""

    def __init__(self, journal: bool) -> None:
        super().__init__()
        self.journal = journal

    def format(self, record: logging.LogRecord) -> str:
        lines = self.lines(record)
        if self.journal:
            mark = f"<{priority(record.levelno)}>"
            lines = [mark + line for line in lines]
        return "\n".join(lines) + "\n"

    def lines(self, record: logging.LogRecord) -> list[str]:
        raise NotImplementedError


class Text(_Lines):
    """``time level logger: message``; in the journal without time and level, which it stores itself.

    Tracebacks are indented: an error may quote foreign text, which must not look like a line of its own.
    """

    def lines(self, record: logging.LogRecord) -> list[str]:
        head = "" if self.journal else f"{moment(record)} {record.levelname.lower()} "
        line = f"{head}{printable(record.name)}: {printable(record.getMessage())}"
        return [line, *(f"  {part}" for part in _traceback(record))]


class Logfmt(_Lines):
    """``key=value`` pairs, values in quotes if necessary."""

    def lines(self, record: logging.LogRecord) -> list[str]:
        return [" ".join(f"{key}={_quoted(value)}" for key, value in _fields(record).items())]


class Json(_Lines):
    """One object per line."""

    def lines(self, record: logging.LogRecord) -> list[str]:
        return [json.dumps(_fields(record))]


_FORMATTERS = {"text": Text, "logfmt": Logfmt, "json": Json}


def priority(level: int) -> int:
    """The syslog priority of a level."""
    return next((number for least, number in _PRIORITIES if level >= least), _DEBUG_PRIORITY)


def moment(record: logging.LogRecord) -> str:
    """Time of a record in UTC with milliseconds (RFC 3339)."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _fields(record: logging.LogRecord) -> dict[str, str]:
    fields = {
        "time": moment(record),
        "level": record.levelname.lower(),
        "logger": printable(record.name),
        "message": printable(record.getMessage()),
    }
    if lines := _traceback(record):
        fields["traceback"] = "\n".join(lines)
    return fields


def _quoted(value: str) -> str:
    if _BARE.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _traceback(record: logging.LogRecord) -> list[str]:
    if record.exc_info is None or record.exc_info[0] is None:
        return []
    text = "".join(traceback.format_exception(*record.exc_info))
    return [printable(line) for line in text.rstrip("\n").split("\n")]
