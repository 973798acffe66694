"""The stream over a real server: what it carries, how many read it, and what becomes of readers that are slow."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from flowmap.model.deployment import State
from flowmap.model.traffic_map import MapQuery
from flowmap.model.views import FlowFilter
from flowmap.serve.server import protocol
from flowmap.serve.stream import streams as module
from flowmap.serve.stream.streams import MAX_FOLLOWERS, MAX_READERS
from tests.support.certificates import HASH, PASSWORD
from tests.support.fake_backend import FIGURES, FLOW, MAP
from tests.support.http_api import fields
from tests.support.served import served
from tests.support.waiting import until_async

PATH = "/api/v1/stream"
LARGE = 5_000_000 + int(Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[2])
"""Letters of a name that does not fit in the buffers of a connection: the kernel takes up to that many bytes."""


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 0.02)


async def events(response: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    """Name and data of each event."""
    name = ""
    async for line in response.aiter_lines():
        kind, _, value = line.partition(": ")
        if kind == "event":
            name = value
        elif kind == "data":
            yield name, json.loads(value)


async def first(reader: AsyncIterator[tuple[str, Any]], wanted: str) -> Any:
    async with asyncio.timeout(20):
        async for name, data in reader:
            if name == wanted:
                return data
    raise AssertionError(f"no {wanted}")


def test_the_map_as_it_changes() -> None:
    async def run() -> None:
        async with served() as made, made.client.stream("GET", f"{PATH}?events=map&limit=5") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            assert response.headers["cache-control"] == "no-store"
            reader = events(response)
            whole = await first(reader, "map")
            assert whole["whole"] and [one["id"] for one in whole["deployments"]] == ["d1", "d2"]
            assert made.backend.asked[-1] == (MapQuery(limit=5), None, None)
            made.backend.map = replace(MAP, links=(replace(MAP.links[0], figures=FIGURES._replace(connections=9)),))
            delta: dict[str, Any] = {"links": []}
            while not delta["links"]:
                delta = await first(reader, "map")
            assert not delta["whole"] and delta["deployments"] == []
            assert [one["connections"] for one in delta["links"]] == [9]
            assert delta["goneLinks"] == [["d2", "p1"]]
            assert made.backend.samples > 0

    asyncio.run(run())


def test_flows_and_status() -> None:
    async def run() -> None:
        async with served() as made:
            query = f"{PATH}?events=flows,status&deployment=id-1&peer=10.0.0.9&state=shared&flowLimit=7"
            async with made.client.stream("GET", query) as response:
                reader = events(response)
                flows = await first(reader, "flows")
                assert (len(flows["flows"]), flows["leftOut"], flows["gone"]) == (1, 1, [])
                assert made.backend.asked[-1] == (FlowFilter("id-1", "10.0.0.9", None, State.SHARED), 7, None)
                status = await first(reader, "status")
                assert status["lost"] == 2 and "<script>alert(1)</script>" in status["problems"][0]
                assert (await first(reader, "flows"))["gone"][0]["client"]["ip"] == str(FLOW.client.address)
                assert made.backend.asked[-1][2] == "marks"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("query", "expected"),
    [("events=maps", ["events"]), ("seconds=301", ["seconds"]), ("seconds=x", ["seconds"]), ("from=1h", ["from"])],
)
def test_bad_parameters(query: str, expected: list[str]) -> None:
    async def run() -> httpx.Response:
        async with served() as made:
            return await made.client.get(f"{PATH}?{query}")

    assert fields(asyncio.run(run())) == expected


def test_a_stream_ends_after_its_time_and_a_head_at_once() -> None:
    async def run() -> None:
        async with served() as made:
            assert (await made.client.head(PATH)).headers["content-type"].startswith("text/event-stream")
            response = await made.client.get(f"{PATH}?seconds=1&events=status")
            assert response.text.startswith("retry: 2000\n\nevent: status\ndata: {")
            await until_async(lambda: made.streams.readers == 0, "no reader is left")

    asyncio.run(run())


@pytest.mark.parametrize(("query", "limit"), [("", MAX_READERS), ("?events=flows", MAX_FOLLOWERS)])
def test_readers_are_bounded_and_queries_pass(query: str, limit: int) -> None:
    async def run() -> None:
        async with served() as made, contextlib.AsyncExitStack() as stack:
            readers = []  # kept: a reader that is collected closes its stream
            for _ in range(limit):
                response = await stack.enter_async_context(made.client.stream("GET", PATH + query))
                assert response.status_code == 200
                readers.append(events(response))
                await first(readers[-1], "flows" if query else "map")
            refused = await made.client.get(PATH + query)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert 'flowmap_http_refused_total{reason="streams"} 1.0' in made.metrics.text()
            assert (await made.client.get("/api/v1/peers")).status_code == 200
            await stack.aclose()
            await until_async(lambda: made.streams.readers == 0, "they are gone")
            async with made.client.stream("GET", PATH + query) as response:
                assert response.status_code == 200

    asyncio.run(run())


def test_a_slow_reader_is_told_what_it_missed_and_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with served() as made:
            node = replace(MAP.deployments[0], name="x" * LARGE)
            made.backend.map = replace(MAP, deployments=(node,))
            with socket.socket() as slow:
                slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                host, port = made.server.address.split(":")
                slow.connect((host, int(port)))
                slow.sendall(f"GET {PATH}?events=map HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                peek = socket.MSG_PEEK | socket.MSG_DONTWAIT
                await until_async(lambda: made.streams.readers == 1, "it reads")
                await until_async(lambda: b"event: map" in slow.recv(4096, peek), "the large map is on its way")
                made.backend.map = MAP
                async with made.client.stream("GET", f"{PATH}?events=map") as response:
                    reader = events(response)
                    for _ in range(20):
                        await first(reader, "map")
                slow.setblocking(False)
                slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)  # the rest at full speed
                loop, got = asyncio.get_running_loop(), b""
                async with asyncio.timeout(60):
                    while b"event: missed" not in got:
                        got = got[-20:] + await loop.sock_recv(slow, 1 << 16)
            text = made.metrics.text()
            assert "flowmap_stream_missed_updates_total 0.0" not in text
            await until_async(lambda: made.streams.readers == 0, "it is gone")

    asyncio.run(run())


def test_a_reader_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "ANSWER_DEADLINE", 0.3)

    async def run() -> None:
        async with served() as made:
            async with made.client.stream("GET", f"{PATH}?events=map&seconds=1") as response:
                assert len([name async for name, _ in events(response)]) > 10, "a reader that reads is not"
            made.backend.map = replace(MAP, deployments=(replace(MAP.deployments[0], name="x" * LARGE),))
            with socket.create_connection(made.server.address.split(":")) as dead:  # type: ignore[arg-type]
                dead.sendall(f"GET {PATH}?events=map HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                await until_async(lambda: made.streams.readers == 1, "it reads")
                await until_async(lambda: made.streams.readers == 0, "it was cut off")
            assert 'flowmap_http_refused_total{reason="deadline"} 1.0' in made.metrics.text()

    asyncio.run(run())


def test_readers_are_authenticated_and_again_when_users_change() -> None:
    async def run() -> None:
        async with served(users={"ann": HASH}) as made:
            assert (await made.client.get(PATH)).status_code == 401
            async with made.client.stream("GET", PATH, auth=("ann", PASSWORD)) as response:
                reader = events(response)
                await first(reader, "map")
                made.access.append("changed")
                async with asyncio.timeout(20):
                    async for _ in reader:
                        pass
            await until_async(lambda: made.streams.readers == 0, "it ended")

    asyncio.run(run())


def test_a_stop_ends_streams_at_once() -> None:
    async def run() -> None:
        async with served() as made, made.client.stream("GET", PATH) as response:
            reader = events(response)
            await first(reader, "map")
            begun = asyncio.get_running_loop().time()
            await made.server.stop()
            assert asyncio.get_running_loop().time() - begun < 2.5, "before running requests are cancelled"
            with contextlib.suppress(httpx.RemoteProtocolError):
                async for _ in reader:
                    pass
            assert made.streams.readers == 0

    asyncio.run(run())
