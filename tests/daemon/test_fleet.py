"""Two whole daemons that share a real server: one call names the flows of both."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from flowmap.config import Config
from flowmap.control.alibaba.credentials.base import Credentials
from flowmap.control.http.transport_api import HttpReply
from flowmap.daemon.fleet import account_of
from flowmap.daemon.reload import prepare
from flowmap.daemon.wiring import Pipeline, build
from flowmap.errors import FleetError
from flowmap.fleet.requests import FleetScope
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from tests.support.fleet import settled
from tests.support.records import Record, batch_of, replace
from tests.support.scripted_source import ScriptedSource
from tests.support.valkey import ValkeyServer, running
from tests.support.whole_daemon import ENDPOINT, Called

DEPLOYMENT = {"deploymentId": "d-1", "name": "orders", "namespace": "default-namespace", "workspace": "ws"}
FLOW = Record(RecordKind.OPENED, flags=int(Flag.PRESENT), counters=(100, 20, 1, 1))


class Named(Called):
    """Every address is of the same deployment."""

    async def send(self, method: str, url: str, headers: Mapping[str, str], *, timeout: float) -> HttpReply:
        await super().send(method, url, headers, timeout=timeout)
        data = [DEPLOYMENT] if "srcIp" in url or "dstIp" in url else []
        return HttpReply(200, {}, json.dumps({"success": True, "requestId": "r", "data": data}).encode())


def config_of(server: ValkeyServer, directory: Path, **fleet: object) -> Config:
    key = directory / "key"
    key.write_text("k" * 32)
    plane = {
        "endpoint": ENDPOINT,
        "workspace": "ws",
        "rate": 50,
        "credentials": {"access_key_id": "id", "access_key_secret": "secret"},
    }
    shared = {"url": server.url, "size": 2, "key_file": str(key), **fleet}
    return Config.model_validate({"control_plane": plane, "http": {"listen": "127.0.0.1:0"}, "fleet": shared})


async def named(pipeline: Pipeline, source: ScriptedSource) -> None:
    """Wait until the flow has its name. The client sends on."""
    async with asyncio.timeout(20):
        number = 100
        while not pipeline.engine.snapshot.byte_totals().attributed.transmit:
            number += 10
            source.hand(batch_of(replace(FLOW, kind=RecordKind.UPDATED, counters=(number, 20, 1, 1))))
            source.hand(CaughtUp(time.monotonic()))
            await asyncio.sleep(0.05)


def test_one_call_names_the_flows_of_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = Named()
    monkeypatch.setattr("flowmap.daemon.clients.default_transport", lambda _: called)

    async def main(server: ValkeyServer) -> None:
        config = config_of(server, tmp_path)  # the same host name and port: they are two members nevertheless
        settled(server, FleetScope(ENDPOINT, "id", ""))
        sources = [ScriptedSource(), ScriptedSource()]
        pipelines = [build(config, source=source) for source in sources]
        for pipeline, source in zip(pipelines, sources, strict=True):
            source.hand(ReadStarted("start"), ReadFinished(True), CaughtUp(time.monotonic()), batch_of(FLOW))
            source.open()
            pipeline.control.plane.start()
            pipeline.engine.start()
        try:
            await asyncio.gather(*(named(*both) for both in zip(pipelines, sources, strict=True)))
            asked = Counter(urlsplit(url).query for url in called.urls)
            clients = [query for query in asked if parse_qs(query).get("srcIp") == ["10.0.0.1"]]
            assert clients and all(asked[query] <= 2 for query in clients)
            wanted = ("flowmap_fleet_up 1\n", "flowmap_fleet_hosts 2\n")
            async with asyncio.timeout(20):  # the server counts its hosts once a second
                while not all(text in one.page().decode() for one in pipelines for text in wanted):
                    await asyncio.sleep(0.05)
            saved = [pipeline.backend.status().fleet for pipeline in pipelines]
            assert sum(one.calls_saved for one in saved if one is not None) >= 1
            assert all("flowmap_fleet_subscribed 1\n" in one.page().decode() for one in pipelines)
            server.pause()  # both connections are still there
            gone = ("flowmap_fleet_up 0\n", "flowmap_fleet_subscribed 0\n")
            async with asyncio.timeout(20):
                while not all(text in one.page().decode() for one in pipelines for text in gone):
                    await asyncio.sleep(0.05)
        finally:
            for pipeline, source in zip(pipelines, sources, strict=True):
                pipeline.engine.stop()
                pipeline.engine.join(5)
                await pipeline.resolver.aclose()
                await pipeline.control.plane.aclose()
                source.free()

    with running(tmp_path) as server:
        asyncio.run(main(server))


def test_a_reload_changes_the_limits_of_the_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowmap.daemon.clients.default_transport", lambda _: Named())

    async def main(server: ValkeyServer) -> None:
        old = config_of(server, tmp_path)
        pipeline = build(old, source=ScriptedSource())
        changed = old.model_dump()
        changed["control_plane"]["rate"] = 7.0
        changed["control_plane"]["credentials"] = {"access_key_id": "id", "access_key_secret": "secret"}
        changed["attribute"]["grace"] = 1.5
        changed["fleet"]["size"] = 9
        changed["fleet"]["trust"] = "own"
        new = Config.model_validate(changed)
        waiting = pipeline.engine.budget.burst
        for apply in prepare(pipeline, old, new):
            apply()
        assert pipeline.fleet is not None and pipeline.fleet.plane is not None
        settings = pipeline.fleet.plane.member.settings
        assert (settings.rate, settings.grace, settings.size, settings.trust) == (7.0, 1.5, 9, "own")
        assert settings.host == pipeline.fleet.host
        assert pipeline.engine.budget.burst == waiting > old.control_plane.burst
        await pipeline.control.plane.aclose()

    with running(tmp_path) as server:
        asyncio.run(main(server))


def test_new_contents_of_the_key_file_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowmap.daemon.clients.default_transport", lambda _: Named())

    async def main(server: ValkeyServer) -> None:
        config = config_of(server, tmp_path)
        pipeline = build(config, source=ScriptedSource())
        assert pipeline.fleet is not None
        assert pipeline.fleet.changed_files(config) == ()
        (tmp_path / "key").write_text("n" * 32)
        assert pipeline.fleet.changed_files(config) == ("contents of fleet.key_file",)
        await pipeline.control.plane.aclose()

    with running(tmp_path) as server:
        asyncio.run(main(server))


def test_without_a_fleet_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, flowmap.daemon.lifecycle; "
        "print([n for n in sys.modules if n.partition('.')[0] == 'redis' or n.startswith('flowmap.fleet')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("token", "scope", "account"),
    [(None, "", "id"), (None, "team", "id"), ("token", "readers", "temporary"), ("token", "", None)],
)
def test_the_account(token: str | None, scope: str, account: str | None) -> None:
    keys = Credentials("id", "secret", token)
    if account is not None:
        assert account_of(keys, scope) == account
        return
    with pytest.raises(FleetError, match="set fleet.scope"):
        account_of(keys, scope)
