"""Calls in threads that nothing waits for: joined while they overlap, bounded, and left behind at the end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from flowmap.system.detached import UNFINISHED_LIMIT, DetachedCalls


class Gate:
    """A call that ends when it may, and counts."""

    def __init__(self) -> None:
        self.begun = 0
        self.open = threading.Event()

    def __call__(self) -> int:
        self.begun += 1
        self.open.wait()
        return self.begun


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open.set()


@pytest.fixture
def calls(gate: Gate) -> Iterator[DetachedCalls[int]]:
    made: DetachedCalls[int] = DetachedCalls("test", 2)
    yield made
    gate.open.set()
    made.close()


def test_calls_with_the_same_key_are_one_call(calls: DetachedCalls[int], gate: Gate) -> None:
    futures = [calls.submit("a", gate) for _ in range(5)]
    gate.open.set()
    assert [future.result() for future in futures] == [1] * 5
    assert calls.submit("a", gate).result() == 2, "one that has ended is not joined"


def test_a_hanging_call_leaves_the_other_thread(calls: DetachedCalls[int], gate: Gate) -> None:
    calls.submit("hangs", gate)
    assert [calls.submit(number, lambda: 7).result() for number in range(3)] == [7] * 3
    assert calls.unfinished() == ["hangs"]


def test_an_error_reaches_all_callers(calls: DetachedCalls[int]) -> None:
    def fail() -> int:
        raise OSError("no")

    async def both() -> list[object]:
        return list(await asyncio.gather(calls.run("a", fail), calls.run("a", fail), return_exceptions=True))

    assert [str(error) for error in asyncio.run(both())] == ["no", "no"]


def test_no_thread_after_start(calls: DetachedCalls[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    calls.start()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    calls.start()
    assert [calls.submit(number, lambda: 7).result() for number in range(9)] == [7] * 9
    other: DetachedCalls[int] = DetachedCalls("other", 1)
    with pytest.raises(OSError, match="the system allows no more threads"):
        other.submit("a", lambda: 7)


def test_calls_are_bounded(calls: DetachedCalls[int], gate: Gate) -> None:
    for number in range(UNFINISHED_LIMIT):
        calls.submit(number, gate)
    with pytest.raises(OSError, match="have not finished"):
        calls.submit("one more", gate)
    calls.submit(0, gate)  # joins


def test_a_cancelled_caller_does_not_stop_the_call(calls: DetachedCalls[int], gate: Gate) -> None:
    async def impatient() -> int:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await calls.run("a", gate)
        gate.open.set()
        return await calls.run("a", gate)

    assert asyncio.run(impatient()) >= 1
    assert gate.begun <= 2, "the second joined the first"


HANGS = """
import asyncio, threading
from flowmap.system.detached import DetachedCalls
calls = DetachedCalls("test", 1)
async def main():
    try:
        async with asyncio.timeout(0.01):
            await calls.run("hangs", threading.Event().wait)
    except TimeoutError:
        print("late")
asyncio.run(main())
calls.close()
"""


def test_a_hanging_call_does_not_keep_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "late\n", "")
