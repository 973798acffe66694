"""The engine, as the event loop sees it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from flowmap.attribute.questions import Question, Shape
from flowmap.errors import QueryError
from flowmap.model.address import Address, Endpoint
from flowmap.query import asking
from flowmap.query.asking import EngineCalls
from flowmap.query.live import LiveQueries
from tests.support.running_engine import Running
from tests.support.waiting import until


def question(number: int) -> Question:
    return Question("ns", Shape.CLIENT, Endpoint(Address(0, number), 0), None)


class Asked(Running):
    """A running engine and its calls, with a short wait."""

    def __init__(self) -> None:
        super().__init__()
        queries = LiveQueries(self.accounting, source="scripted", epoch=0.0)
        self.calls = EngineCalls(self.engine, queries, timeout=0.2)


@pytest.fixture
def asked() -> Iterator[Asked]:
    made = Asked()
    made.start()
    yield made
    if made.engine.is_alive():
        made.stop()
    made.source.free()


def test_functions_run_on_the_engine_s_thread(asked: Asked) -> None:
    assert asyncio.run(asked.calls.call(lambda _: threading.current_thread())) is asked.engine
    assert asked.calls.snapshot is asked.engine.snapshot


def test_an_error_reaches_the_caller(asked: Asked) -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(asked.calls.call(lambda _: 1 // 0))


def test_a_busy_engine_is_not_waited_for_long(asked: Asked) -> None:
    held = threading.Event()
    asked.engine.call(lambda: held.wait(10))
    with pytest.raises(QueryError, match="the engine is busy"):
        asyncio.run(asked.calls.call(lambda _: None))
    held.set()


def test_questions_are_asked_until_all_have_a_result(asked: Asked) -> None:
    asked.resolver.answers = lambda _: ()
    asyncio.run(asked.calls.ask([question(1), question(2)]))
    assert set(asked.resolver.all) == {question(1), question(2)}


def test_an_answer_that_is_late_ends_the_wait(asked: Asked) -> None:
    asyncio.run(asked.calls.ask([question(1)]))
    assert list(asked.resolver.waiting) == [question(1)]


def test_health(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    until(asked.calls.healthy, "a turn")
    held = threading.Event()
    asked.engine.call(lambda: held.wait(10))
    monkeypatch.setattr(asking, "HANGS_AFTER", 0.05)
    until(lambda: not asked.calls.healthy(), "the engine hangs")
    held.set()
    asked.stop()
    monkeypatch.setattr(asking, "HANGS_AFTER", 1e9)
    assert time.monotonic() - asked.engine.beat < 1e9 and not asked.calls.healthy(), "it has ended"
