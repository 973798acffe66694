"""A small recording, and the command that replays it."""

from __future__ import annotations

from typing import Any

import pytest

from flowmap.cli.command import main
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.sources.base import ReadFinished, ReadStarted
from tests.support.commands import OWNERS
from tests.support.records import Record, batch_of, replace

X = frozenset(OWNERS[:1])


FLOW = Record(RecordKind.OPENED, flags=int(Flag.PRESENT), counters=(0, 0, 0, 0))


OTHER = replace(FLOW, client="10.0.0.2", client_port=7, id=2)


IGNORED = replace(FLOW, client="127.0.0.1", server="127.0.0.1", server_port=10817, id=3)


SCRIPT: list[Any] = [
    ("step", ReadStarted("start")),
    ("step", ReadFinished(True)),
    ("step", batch_of(FLOW, OTHER, IGNORED)),
    ("confirm", X),
    ("step", batch_of(replace(FLOW, kind=RecordKind.CLOSED, counters=(100, 50, 2, 1)))),
    ("settle",),
    ("step", batch_of(replace(OTHER, kind=RecordKind.UPDATED, counters=(7, 8, 1, 1)))),
    ("settle",),
]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["replay", *arguments])
    return status, *capsys.readouterr()
