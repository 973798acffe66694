"""A source that delivers what a test hands it, and a place where questions wait for a test to answer them."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import Question
from flowmap.config import CollectConfig
from flowmap.engine.commands import QuestionResult
from flowmap.errors import SourceError
from flowmap.model.deployment import DeploymentInfo, Owner
from flowmap.model.source import SourceFacts, SourceStats
from flowmap.sources.base import Step
from tests.support.waiting import until as until  # noqa: PLC0414 - for modules that import it from here


class ScriptedSource:
    """Steps are delivered in the order they were handed in; an exception among them is raised."""

    as_of = float("inf")

    def __init__(self, name: str = "scripted") -> None:
        self.facts = SourceFacts(name, "payload", announces_births=True, tells_health=True)
        self.stats = SourceStats()
        self.script: deque[Step | SourceError | Callable[[], None]] = deque()
        self.opened = 0
        self.closed = 0
        self.refuses = 0
        """How often ``open`` fails from now on."""
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def hand(self, *steps: Step | SourceError | Callable[[], None]) -> None:
        self.script.extend(steps)
        os.write(self._write, b"x")

    def configure(self, settings: CollectConfig) -> None:
        """It has no settings."""

    def open(self) -> None:
        if self.refuses:
            self.refuses -= 1
            raise SourceError("not yet")
        self.opened += 1
        self.stats.up = True

    def close(self) -> None:
        self.closed += 1
        self.stats.up = False

    def fileno(self) -> int:
        return self._read

    def deadline(self) -> float:
        return time.monotonic() + 60

    def poll(self) -> Iterator[Step]:
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 65536)
        while self.script:
            step = self.script.popleft()
            if isinstance(step, SourceError):
                raise step
            if callable(step):
                step()
            else:
                yield step

    def finish(self) -> Iterator[Step]:
        yield from self.poll()

    def free(self) -> None:
        os.close(self._read)
        os.close(self._write)


class ScriptedResolver:
    """Takes questions from the engine; the test answers them when it likes."""

    def __init__(self) -> None:
        self._deliver: Callable[[QuestionResult], None] = lambda _: None
        self.waiting: dict[Question, float] = {}
        self.all: list[Question] = []
        self.most = 0
        self.answers: Callable[[Question], tuple[Owner, ...]] | None = None
        """Answers at once where set."""
        self.refuses = ""
        """Fails every question at once, for this cause."""
        self._lock = threading.Lock()

    def start(self, question: Question, deliver: Callable[[QuestionResult], None]) -> None:
        with self._lock:
            self._deliver = deliver
            assert question not in self.waiting, "one question in flight a key"
            self.waiting[question] = time.monotonic()
            self.all.append(question)
            self.most = max(self.most, len(self.waiting))
        if self.refuses:
            self.fail(question, self.refuses)
        elif self.answers is not None:
            self.answer(question, *self.answers(question))

    def answer(self, question: Question, *owners: Owner) -> None:
        with self._lock:
            asked = self.waiting.pop(question)
        infos = tuple(DeploymentInfo(owner) for owner in owners)
        self._deliver(QuestionResult(question, Answer(asked, time.monotonic(), frozenset(owners)), infos))

    def fail(self, question: Question, cause: str = "timeout: late") -> None:
        with self._lock:
            del self.waiting[question]
        self._deliver(QuestionResult(question, None, cause=cause))


def refuse_sockets(monkeypatch: pytest.MonkeyPatch, family: int) -> None:
    """The kernel knows no such address family from now on, or a filter of system calls hides it."""
    real = socket.socket

    def refuse(given: int = socket.AF_INET, *arguments: Any, **options: Any) -> socket.socket:
        if given == family:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return real(given, *arguments, **options)

    monkeypatch.setattr(socket, "socket", refuse)
