"""Lists and watches of the Kubernetes API, over a stand-in: versions, lost versions, errors and pauses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from flowmap.control.clock import Clock
from flowmap.control.flink.watching import ABSENT_PAUSE, LONGEST_PAUSE, Resource
from flowmap.errors import ControlError, ProtocolError, Transient
from tests.control.flink.fake import FakeApi
from tests.support.waiting import until_async

PATH = "api/v1/pods"
GONE = b'{"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}'
BROKEN = b'{"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "etcd"}}'


def pod(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "jobs"}}


@dataclass
class Run:
    """A resource that ran until nothing was left to do."""

    names: list[str]
    asked: list[str]
    pauses: list[float]
    error: ControlError | None
    changes: int = 0
    resource: Resource = field(repr=False, default=None)  # type: ignore[assignment]


def run(answer: Any, feed: Callable[[FakeApi], None], *, sleeps: int = 3) -> Run:
    """Run a resource over the stand-in until the watch is silent, or it slept ``sleeps`` times."""
    pauses: list[float] = []
    fake = FakeApi({PATH: answer})

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) >= sleeps:
            await asyncio.Event().wait()

    async def go() -> Run:
        changes = []
        clock = Clock(sleep=sleep, chance=lambda: 1.0)
        resource = Resource(fake, PATH, {"labelSelector": "x"}, changed=lambda: changes.append(1), clock=clock)
        feed(fake)
        task = asyncio.get_running_loop().create_task(resource.run())
        await until_async(lambda: len(pauses) >= sleeps or fake.is_silent(PATH), "nothing more happens")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        asked = [path.partition("resourceVersion=")[2] for path in fake.asked]
        return Run(list(resource.objects), asked, pauses, resource.error, len(changes), resource)

    return asyncio.run(go())


def test_a_list_then_a_watch_from_its_version() -> None:
    def feed(api: FakeApi) -> None:
        api.send(PATH, "ADDED", pod("b"))
        api.send(PATH, "MODIFIED", pod("b"))
        api.send(PATH, "DELETED", pod("a"))
        api.send(PATH, "DELETED", pod("never seen"))

    done = run([pod("a")], feed)
    assert (done.names, done.error, done.pauses) == (["jobs/b"], None, [])
    assert done.asked == ["0", "104"]  # listed after the events were sent, so with their version
    assert done.changes >= 4


@pytest.mark.parametrize("end", [None, Transient("reset")])
def test_a_watch_that_ends_continues_from_the_last_version(end: ControlError | None) -> None:
    def feed(api: FakeApi) -> None:
        api.send(PATH, "ADDED", pod("b"))
        api.raw(PATH, b'{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "170"}}}')
        api.raw(PATH, end)

    done = run([pod("a")], feed)
    assert done.asked == ["0", "101", "170"]
    assert (done.names, done.error) == (["jobs/a", "jobs/b"], None)


@pytest.mark.parametrize("gone", [GONE, ProtocolError("gone", status=410)])
def test_a_version_that_is_gone_is_listed_anew(gone: bytes | ControlError) -> None:
    done = run([pod("a")], lambda api: api.raw(PATH, gone))
    assert (done.asked, done.pauses) == (["0", "100", "0", "100"], [])
    assert done.error is None


@pytest.mark.parametrize(
    "line", [BROKEN, b"no json", b'{"type": "ADDED"}', b'["ADDED"]', b'{"type": "ADDED", "object": 1}']
)
def test_what_is_known_stays_while_a_watch_fails(line: bytes) -> None:
    done = run([pod("a")], lambda api: api.raw(PATH, line), sleeps=1)
    assert (done.names, done.pauses) == (["jobs/a"], [1.0])
    assert done.error is not None


def test_pauses_grow() -> None:
    done = run(503, lambda api: None, sleeps=8)
    assert done.pauses == [1, 2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
    assert (done.names, done.resource.synced) == ([], False)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_resource_that_is_not_there_is_asked_for_seldom(status: int) -> None:
    done = run(status, lambda api: None, sleeps=2)
    assert done.pauses == [ABSENT_PAUSE, ABSENT_PAUSE]


def test_a_server_that_ends_every_watch_is_not_flooded() -> None:
    def feed(api: FakeApi) -> None:
        for _ in range(5):
            api.raw(PATH, None)

    done = run([], feed, sleeps=3)
    assert done.pauses == [1, 1, 1]
    assert len(done.asked) == 4
