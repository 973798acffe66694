"""A daemon with ``history.clickhouse.read``: the page's map, lineage, ``who`` and listings have the whole fleet."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from flowmap.config import Config
from flowmap.daemon.wiring import build
from flowmap.errors import HistoryError
from flowmap.model.address import Address
from flowmap.model.deployment import State
from flowmap.model.selection import Selection
from flowmap.model.traffic_map import MapQuery
from flowmap.model.views import Connection, EndpointFilter, FlowFilter, Lookup
from flowmap.query.service import QueryService
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from tests.clickhouse.stand_in import StandIn
from tests.clickhouse.store import A, B, Store
from tests.clickhouse.test_schema import NOON, insert
from tests.support.scripted_source import ScriptedSource

FLINK = {"clusters": [{"name": "c", "urls": ["http://127.0.0.1:9"]}]}


@contextlib.asynccontextmanager
async def daemon(directory: Path, url: str) -> AsyncIterator[QueryService]:
    """The wiring of a daemon without flows of its own. It does not send."""
    history = {"path": str(directory / "history.db"), "clickhouse": {"url": url, "read": True}}
    source = ScriptedSource()
    source.hand(ReadStarted("start"), ReadFinished(True), CaughtUp(time.monotonic()))
    pipeline = build(Config.model_validate({"flink": FLINK, "history": history}), source=source)
    assert pipeline.history_writer is not None
    pipeline.history_writer.open()
    pipeline.history_writer.start()
    source.open()
    pipeline.engine.start()
    try:
        yield pipeline.backend
    finally:
        pipeline.backend.close()
        pipeline.engine.stop()
        pipeline.engine.join(10)
        pipeline.history_writer.stop()
        pipeline.history_writer.join(10)
        await pipeline.control.plane.aclose()


async def answers(backend: QueryService, moment: float) -> dict[str, Any]:
    window = (moment - 60, moment + 60)
    connection = Connection(Address.parse("10.0.0.1"), 40000, Address.parse("10.0.0.2"), 9092, 6)
    half = Lookup(EndpointFilter(connection.source, connection.source_port), None, 6)
    return {
        "map": await backend.traffic_map(MapQuery(), window),
        "lineage": await backend.lineage(Selection(since=window[0], until=window[1])),
        "flows": await backend.flows(FlowFilter(since=window[0], until=window[1]), 10, None),
        "peers": await backend.deployment_peers("orders", *window),
        "changes": await backend.peer_changes("orders", (moment - 200, moment - 60), window),
        "who": await backend.attributions([connection.lookup, half, half._replace(protocol=17)], moment),
        "query": await backend.attribution(connection, moment),
        "closed": await backend.attribution(connection, None),
    }


def test_every_question_about_the_past(store: Store, stand_in: StandIn, tmp_path: Path) -> None:
    moment = time.time() - 100
    started, ended = moment - NOON - 5, moment - NOON + 5
    insert(store.engine, *(end._replace(started=started, ended=ended) for end in (A, B)))
    store.host("web-3", moment - 600)

    async def ask() -> dict[str, Any]:
        async with daemon(tmp_path, stand_in.url) as backend:
            return await answers(backend, moment)

    found = asyncio.run(ask())
    assert [one.name for one in found["map"].deployments] == ["orders"]
    assert found["map"].total.connections == 1
    (edge,) = found["lineage"].edges
    assert (edge.deployments[0].owner.name, edge.peer, edge.counts) == ("orders", "10.0.0.2:9092", "ip")
    (flow,) = found["flows"].flows
    assert len(flow.observations) == 2
    assert [one.peer for one in found["peers"].peers] == ["10.0.0.2:9092"]
    assert [one.peer for one in found["changes"].new] == ["10.0.0.2:9092"]
    exact, half, other = found["who"]
    assert all([info.owner.name for info in one.deployments] == ["orders"] for one in (exact, half, found["query"]))
    assert (other.state, other.observed) == (State.UNKNOWN, False)
    assert "this connection is closed" in found["closed"].cause
    for name in ("map", "lineage", "flows", "peers", "changes"):
        assert [line.split()[0] for line in found[name].incomplete] == ["web-3"], name


def test_a_store_that_is_away(stand_in: StandIn, tmp_path: Path) -> None:
    async def ask() -> None:
        async with daemon(tmp_path, stand_in.url) as backend:
            stand_in.faults.append("500")
            with pytest.raises(HistoryError, match="something broke"):
                await backend.flows(FlowFilter(since=1.0), 10, None)

    asyncio.run(ask())
