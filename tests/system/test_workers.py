"""Threads exist before they are needed, and none is started later."""

from __future__ import annotations

import asyncio
import threading

import pytest

from flowmap.errors import SourceError
from flowmap.export.exposition import Exposition
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.serve.api.app import build_app
from flowmap.system.workers import Workers, WorkersLoop, starting_threads
from tests.support.fake_backend import FakeBackend


class Limit:
    """The system's limit on threads, counted down from a number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        """Threads that may still be started; None: any number."""
        start = threading.Thread.start

        def limited(thread: threading.Thread) -> None:
            if self.left == 0:
                raise RuntimeError("can't start new thread")
            if self.left is not None:
                self.left -= 1
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", limited)


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    return Limit(monkeypatch)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_started_workers_need_no_further_thread(limit: Limit, threads: int) -> None:
    with Workers("test", threads) as workers:
        limit.left = threads
        workers.start()
        assert limit.left == 0
        workers.start()
        gate = threading.Barrier(threads)
        assert len(set(workers.map(lambda _: gate.wait(5), range(threads)))) == threads  # all at the same time
        assert list(workers.map(abs, range(100))) == list(range(100))


@pytest.mark.parametrize("allowed", [0, 1, 4])
def test_a_refused_thread_is_a_source_error(limit: Limit, allowed: int) -> None:
    with Workers("test", 5) as workers:
        limit.left = allowed
        with pytest.raises(SourceError, match="allows no more threads") as error:
            workers.start()
        assert "TasksMax=" in error.value.remedy
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("test_")]


def test_other_errors_at_start_pass() -> None:
    with pytest.raises(RuntimeError, match="threads can only be started once"), starting_threads():
        raise RuntimeError("threads can only be started once")


PATHS = {
    "/metrics": 200,
    "/": 200,
    "/api/v1/status": 200,
    "/api/v1/flows": 200,
    "/api/v1/flows?limit=none": 400,
    "/api/v1/deployments": 200,
    "/api/v1/peers": 200,
    "/nothing": 404,
    "/-/healthy": 200,
}


def test_loop_and_answers_need_no_new_thread(limit: Limit) -> None:
    """Errors too: starlette starts a thread for a handler that is no coroutine."""

    async def status(path: str, method: str = "GET") -> int:
        statuses: list[int] = []

        async def send(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                statuses.append(int(str(message["status"])))

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"", "more_body": False}

        target, _, query = path.partition("?")
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": target,
            "raw_path": target.encode(),
            "query_string": query.encode(),
            "headers": [(b"host", b"localhost"), (b"accept-encoding", b"gzip")],
            "client": ("127.0.0.1", 4),
        }
        await app(scope, receive, send)  # type: ignore[arg-type]
        return statuses[0]

    async def run() -> None:
        for path, expected in PATHS.items():
            assert await status(path) == expected, path
        assert await status("/metrics", "POST") == 405
        assert await asyncio.gather(*(asyncio.to_thread(abs, n) for n in range(20))) == list(range(20))

    others = set(threading.enumerate())  # of tests before this one in the same process
    workers, pages = Workers("worker", 3), Workers("page", 2)
    app = build_app(FakeBackend(), Exposition(SelfMetrics("test")), page_workers=pages)
    workers.start()
    pages.start()
    limit.left = 0
    with asyncio.Runner(loop_factory=lambda: WorkersLoop(workers)) as runner:
        runner.run(run())
    pages.shutdown()
    assert set(threading.enumerate()) <= others
