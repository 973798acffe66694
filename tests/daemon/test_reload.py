"""Reloads: every key that is said to change does, every other is refused by name, and on any error nothing changes."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from flowmap.config import Config
from flowmap.config.loading import read
from flowmap.config.reloading import live
from flowmap.control.http.route import Route
from flowmap.control.http.transport_api import HttpReply
from flowmap.daemon.reload import Reloader, prepare
from flowmap.daemon.wiring import build
from flowmap.engine.engine import MAX_REQUESTS
from flowmap.export.negotiation import Format
from flowmap.export.snapshot import Snapshot
from flowmap.flows.columns import IGNORED
from flowmap.flows.records.batch import RecordKind
from flowmap.model.deployment import DeploymentInfo, Owner
from flowmap.model.expectation import Expectation
from flowmap.sources.conntrack.source import ConntrackSource
from flowmap.sources.sockets.source import SocketsSource
from flowmap.sources.workloads.numbering import Numbering
from flowmap.sources.workloads.selection import Selection
from tests.support.records import Record, batch_of
from tests.support.scripted_source import ScriptedSource
from tests.support.waiting import until, until_async

SECTIONS = dict[str, Any]
BASE: SECTIONS = {
    "control_plane": {
        "endpoint": "http://127.0.0.1:9",
        "workspace": "w",
        "credentials": {"access_key_id": "id", "access_key_secret": "secret"},
    },
    "collect": {"max_flows": 1000},
    "http": {"listen": "127.0.0.1:0"},
}


class Transport:
    """Answers every call with an empty list and keeps what it was given."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.headers: dict[str, str] = {}
        self.timeout = 0.0

    async def send(self, method: str, url: str, headers: Mapping[str, str], *, timeout: float) -> HttpReply:
        self.headers, self.timeout = dict(headers), timeout
        return HttpReply(200, {}, b'{"success": true, "requestId": "r", "data": []}')

    def configure(self, route: Route) -> None:
        self.route = route

    async def aclose(self) -> None:
        return None


class Changing:
    """A pipeline whose engine runs, and its file."""

    def __init__(self, directory: Path, source: Any) -> None:
        self.transports: list[Transport] = []
        self._connections = 0
        self.file = directory / "flowmap.yaml"
        self.write(BASE)
        config = read(str(self.file), {}).config
        self.source = source
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("flowmap.daemon.clients.default_transport", self._transport)
            self.pipeline = build(config, source=source)
        self.reloader = Reloader(self.pipeline, config, lambda: read(str(self.file), {}), file=str(self.file))

    def _transport(self, route: Route) -> Transport:
        self.transports.append(Transport(route))
        return self.transports[-1]

    @property
    def transport(self) -> Transport:
        (one,) = self.transports
        return one

    @property
    def proxy(self) -> str:
        return str(self.transport.route.proxy)

    async def key(self) -> str:
        """Name of the key with which a call is signed."""
        return (await self.call())["authorization"].partition("Credential=")[2].partition(",")[0]

    async def call(self) -> dict[str, str]:
        """The headers of a listing of deployments, made now."""
        await self.pipeline.control.plane.list_deployments("", "default-namespace")
        return self.transport.headers

    async def follows(self) -> bool:
        """Whether a connection that begins now is followed."""
        return (await self._connect())[0] != IGNORED

    async def peer(self) -> str:
        """The name of the service endpoint of a connection that begins now."""
        return (await self._connect())[1]

    async def _connect(self) -> tuple[int, str]:
        """Series and peer of a connection that begins now."""
        self._connections += 1
        record = Record(RecordKind.OPENED, client_port=self._connections, id=self._connections)
        self.source.hand(batch_of(record))
        accounting = self.pipeline.engine.accounting
        await until_async(lambda: len(accounting.table) == self._connections, "the connection is read")

        def look() -> tuple[int, str]:
            columns, row = accounting.table.columns, int(accounting.table.live()[-1])
            return int(columns.series[row]), accounting.peer(int(columns.service[row]))

        return await asyncio.wrap_future(self.pipeline.engine.call(look))

    def shows_team(self) -> bool:
        """Whether the page has a label for the label ``team`` of deployments."""
        info = DeploymentInfo(Owner("w", "ns", "id", "name"), labels={"team": "t"})
        page = self.pipeline.exposition.page(Snapshot(deployments=(info,)), Format.TEXT)
        return b'label_team="t"' in page

    async def timeouts(self) -> tuple[float, float]:
        """Longest time of one attempt of a call, and of a query."""
        await self.call()
        return self.transport.timeout, self.pipeline.backend.calls.timeout

    def write(self, sections: SECTIONS) -> None:
        self.file.write_text(json.dumps(sections, indent=1))

    def change(self, key: str, value: object) -> None:
        """The file with one more key."""
        tree = json.loads(json.dumps(BASE))
        *sections, last = key.split(".")
        place = tree
        for name in sections:
            place = place.setdefault(name, {})
        place[last] = value
        self.write(tree)

    def lines(self) -> dict[str, float]:
        """The page's metrics about reloads."""
        page = self.pipeline.exposition.metrics.text()
        return {
            line.split()[0]: float(line.split()[1]) for line in page.splitlines() if line.startswith("flowmap_config")
        }


def changing(
    directory: Path, steps: Callable[[Changing], Coroutine[Any, Any, None]], source: Any = None, *, start: bool = True
) -> None:
    async def run() -> None:
        scripted = ScriptedSource()
        made = Changing(directory, source or scripted)
        try:
            if start:
                made.pipeline.engine.start()
            await steps(made)
        finally:
            if made.pipeline.engine.is_alive():
                made.pipeline.engine.stop()
                await asyncio.to_thread(made.pipeline.engine.join, 10)
            await made.pipeline.control.plane.aclose()
            scripted.free()

    asyncio.run(run())


CA = Path(__file__).parents[1] / "data/tls/ca.pem"
EXPECTATIONS = Path(__file__).parent.parent / "data" / "expectations" / "small.yaml"


async def action(made: Changing) -> str:
    """The operation that lists deployments."""
    return (await made.call())["x-acs-action"]


CHANGES: list[tuple[str, object, Callable[[Changing], object], object]] = [
    ("control_plane.credentials.access_key_id", "other", Changing.key, "other"),
    ("expect.file", str(EXPECTATIONS), lambda m: m.pipeline.findings.expectations, (Expectation(("p",), (), "x"),)),
    ("expect.connections", 20, lambda m: m.pipeline.backend.limits.connections, 20),
    ("expect.idle", "2h", lambda m: m.pipeline.backend.limits.idle, 7200.0),
    ("control_plane.rate", 7.0, lambda m: m.pipeline.engine.budget.rate, 7.0),
    ("control_plane.burst", 9, lambda m: m.pipeline.engine.budget.burst, 9),
    ("control_plane.max_in_flight", 3, lambda m: m.pipeline.engine.budget.max_in_flight, 3),
    ("control_plane.timeout", "3s", Changing.timeouts, (1.5, 4.0)),
    ("control_plane.proxy_url", "http://ann:canary@p:1", lambda m: m.proxy, "http://ann:<secret>@p:1"),
    ("control_plane.proxy_from_environment", True, lambda m: m.proxy, "http://env:1"),
    ("control_plane.tls.ca_file", str(CA), lambda m: m.transport.route.tls is not None, True),
    ("control_plane.catalog.refresh", "9s", lambda m: m.pipeline.catalog.every, 9.0),
    ("control_plane.catalog.label", "team=a,b", action, "GetDeploymentsByLabel"),
    ("collect.include", ["192.0.2.0/24"], Changing.follows, False),
    ("collect.exclude", ["10.0.0.0/8", "tcp/1"], Changing.follows, False),
    ("attribute.confirm", "fast", lambda m: m.pipeline.engine.accounting.attribution.settings.confirm, "fast"),
    ("attribute.grace", "5s", lambda m: m.pipeline.engine.accounting.attribution.settings.grace, 5.0),
    ("attribute.recheck", "3s", lambda m: m.pipeline.engine.accounting.attribution.settings.recheck, 3.0),
    (
        "attribute.registration_lag",
        "4s",
        lambda m: m.pipeline.engine.accounting.attribution.settings.registration_lag,
        4.0,
    ),
    ("attribute.answer_age", "6s", lambda m: m.pipeline.engine.accounting.attribution.settings.answer_age, 6.0),
    ("attribute.owners_limit", 2, lambda m: m.pipeline.engine.accounting.attribution.settings.owners_limit, 2),
    ("attribute.positive_ttl", "7s", lambda m: m.pipeline.engine.accounting.attribution.settings.positive_ttl, 7.0),
    ("attribute.negative_ttl", "8s", lambda m: m.pipeline.engine.accounting.attribution.settings.negative_ttl, 8.0),
    ("attribute.stale_for", "9s", lambda m: m.pipeline.backend.stale_for, 9.0),
    ("attribute.give_up_after", "11s", lambda m: m.pipeline.engine.accounting.attribution.settings.give_up_after, 11.0),
    ("export.peers", {"orders": ["10.1.0.1"]}, Changing.peer, "orders"),
    ("export.deployment_labels", ["team"], Changing.shows_team, True),
    ("export.idle_after", "40s", lambda m: m.pipeline.engine.accounting.series_table.idle_after, 40.0),
    ("log.level", "warning", lambda p: logging.getLogger().level, logging.WARNING),
]


@pytest.mark.parametrize(("key", "value", "found", "wanted"), CHANGES, ids=[change[0] for change in CHANGES])
def test_a_live_key_changes(
    key: str, value: object, found: Callable[[Changing], object], wanted: object, tmp_path: Path
) -> None:
    async def value_of(made: Changing) -> object:
        value = found(made)
        return await value if inspect.isawaitable(value) else value

    async def steps(made: Changing) -> None:
        before = await value_of(made)
        assert before != wanted
        made.change(key, value)
        assert await made.reloader.reload()
        assert await value_of(made) == wanted
        made.write(BASE)
        assert await made.reloader.reload()
        assert await value_of(made) == before, "and back to the default"

    changing(tmp_path, steps)


@pytest.mark.parametrize(
    ("key", "source", "name"),
    [
        ("collect.conntrack.resync", ConntrackSource(resync=30.0), "resync"),
        ("collect.sockets.interval", SocketsSource(interval=5.0), "interval"),
    ],
)
def test_the_times_of_a_source_change(key: str, source: Any, name: str, tmp_path: Path) -> None:
    async def steps(made: Changing) -> None:
        made.change(key, "3s")
        on_writer, _ = prepare(made.pipeline, made.reloader.config, read(str(made.file), {}).config)
        on_writer()
        assert getattr(source, name) == 3.0

    changing(tmp_path, steps, source, start=False)


class ChosenCgroups(Numbering):
    """Notes which cgroups the source chooses."""

    chosen = Selection()

    def select(self, selection: Selection) -> None:
        self.chosen = selection


@pytest.mark.parametrize("name", ["include", "exclude"])
def test_the_choice_of_cgroups_changes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbering = ChosenCgroups()
    monkeypatch.setattr("flowmap.sources.sockets.source.Numbering", lambda: numbering)
    source = SocketsSource(interval=5.0)

    async def steps(made: Changing) -> None:
        made.change(f"collect.sockets.cgroups.{name}", ["/kubepods.slice"])
        on_writer, _ = prepare(made.pipeline, made.reloader.config, read(str(made.file), {}).config)
        on_writer()
        assert numbering.chosen.leaves_out("/kubepods.slice/x") == (name == "exclude")
        assert numbering.chosen.leaves_out("/system.slice") == (name == "include")

    changing(tmp_path, steps, source, start=False)


@pytest.fixture(autouse=True)
def quiet_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The root logger is pytest's; only its level may change."""
    monkeypatch.setattr("flowmap.logs.set_up", lambda level, form: logging.getLogger().setLevel(level.upper()))
    monkeypatch.setattr(logging.getLogger(), "level", logging.INFO)


@pytest.fixture(autouse=True)
def proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is there, and unused unless asked for."""
    monkeypatch.setenv("HTTPS_PROXY", "http://env:1")


def leaves(model: BaseModel, prefix: str = "") -> list[str]:
    found = []
    for name in type(model).model_fields:
        value = getattr(model, name)
        found += leaves(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else [f"{prefix}{name}"]
    return found


def test_every_live_key_has_a_row() -> None:
    keys = leaves(Config())
    rows = {change[0] for change in CHANGES} | {
        *("collect.conntrack.resync", "collect.sockets.interval"),
        *("collect.sockets.cgroups.include", "collect.sockets.cgroups.exclude"),
        *("fleet.size", "fleet.trust", "fleet.key_file"),  # in test_fleet.py
    }
    assert {row for row in rows if row not in keys} == set()
    whole = ("control_plane.credentials.", "control_plane.blink.", "log.")
    """Sections that apply as one: a row for one key is enough."""
    missing = {key for key in keys if live(key)} - rows
    assert {key for key in missing if not key.startswith(whole)} == set()


REFUSED: list[tuple[str, object, str]] = [
    ("control_plane.workspace", "other", "control_plane.workspace: needs a restart"),
    ("control_plane.namespaces", ["a", "b"], "control_plane.namespaces: needs a restart"),
    ("collect.source", "sockets", "collect.source: needs a restart"),
    ("collect.max_flows", 5, "collect.max_flows: needs a restart"),
    ("attribute.nat", "original", "attribute.nat: needs a restart"),
    ("export.labels", ["deployment"], "export.labels: needs a restart"),
    ("http.listen", "127.0.0.1:1", "http.listen: needs a restart"),
    ("log.levle", "info", "log.levle: unknown key (did you mean level?)"),
    ("attribute.grace", "soon", "attribute.grace: not a duration"),
    ("control_plane.catalog.label", "team=,", "control_plane.catalog.label: "),
    ("control_plane.tls.ca_file", "/nowhere.pem", "control_plane.tls.ca_file: /nowhere.pem: cannot be read"),
    ("control_plane.credentials.access_key_secret", "with\nnewline", "access_key_secret has a blank"),
]


@pytest.mark.parametrize(("key", "value", "said"), REFUSED, ids=[row[0] for row in REFUSED])
def test_rejected_reload_changes_nothing(
    key: str, value: object, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def steps(made: Changing) -> None:
        made.change(key, value)
        tree = json.loads(made.file.read_text())
        tree["control_plane"]["rate"] = 99.0  # could change, if all of it could
        made.write(tree)
        before = made.reloader.config
        assert not await made.reloader.reload()
        assert made.reloader.config is before
        assert made.pipeline.engine.budget.rate == 2.0
        assert made.lines()["flowmap_config_last_reload_successful"] == 0
        status = made.reloader.status()
        assert said in str(status.last_error)
        assert status.last_reload_successful is False
        made.write(BASE)
        assert await made.reloader.reload()
        assert made.lines()["flowmap_config_last_reload_successful"] == 1
        assert (made.reloader.status().last_error, made.reloader.status().reloads) == (None, 2)

    changing(tmp_path, steps)
    (line, *_) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert line.startswith("reload rejected, keeping the running configuration: ")
    if "restart" in said or "unknown" in said or "duration" in said:
        assert f"{tmp_path}/flowmap.yaml:" in line, "with the line of the file"


BROKEN = ["control_plane: [", "\t", "x: \x00", "[]", "control_plane: {workspace: w}\ncontrol_plane: {}\n", "\xff\xfe"]


@pytest.mark.parametrize("text", BROKEN)
def test_invalid_file_changes_nothing(text: str, tmp_path: Path) -> None:
    async def steps(made: Changing) -> None:
        made.file.write_text(text, encoding="latin-1")
        assert not await made.reloader.reload()
        made.file.unlink()
        assert not await made.reloader.reload()
        assert made.reloader.config.control_plane.workspace == "w"

    changing(tmp_path, steps)


def test_busy_engine_rejects_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowmap.daemon.reload.ENGINE_SECONDS", 0.05)

    async def steps(made: Changing) -> None:
        made.change("control_plane.rate", 7.0)
        assert not await made.reloader.reload(), "the writer was never started"
        assert "busy" in str(made.reloader.error)
        for _ in range(MAX_REQUESTS - 1):
            made.pipeline.engine.call(lambda: None)
        assert not await made.reloader.reload()
        made.pipeline.engine.start()
        began = made.pipeline.engine.beat
        until(lambda: made.pipeline.engine.beat > began, "the writer runs")
        made.pipeline.engine.call(lambda: None)
        made.pipeline.engine.stop()
        await asyncio.to_thread(made.pipeline.engine.join, 10)
        assert made.pipeline.engine.budget.rate == 2.0, "a request that was given up is not served later"

    changing(tmp_path, steps, start=False)


def test_defect_in_a_reload_changes_nothing(tmp_path: Path) -> None:
    async def steps(made: Changing) -> None:
        reloader = Reloader(made.pipeline, made.reloader.config, lambda: 1 // 0)  # type: ignore[arg-type, return-value]
        assert not await reloader.reload()
        assert "ZeroDivisionError" in str(reloader.error)
        assert await made.reloader.reload()

    changing(tmp_path, steps)


def test_credentials_are_kept_while_their_configuration_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps(made: Changing) -> None:
        tree = json.loads(json.dumps(BASE))
        del tree["control_plane"]["credentials"]
        made.write(tree)
        monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "first")
        monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "s")
        assert await made.reloader.reload()
        assert await made.key() == "first"
        monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "second")
        assert await made.reloader.reload()
        assert await made.key() == "first", "temporary keys stay"

    changing(tmp_path, steps)


def test_secret_files_are_read_at_every_reload(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")

    async def steps(made: Changing) -> None:
        made.change("control_plane.credentials.security_token_file", str(token))
        assert await made.reloader.reload()
        assert (await made.call())["x-acs-security-token"] == "first"
        token.write_text("second")
        assert await made.reloader.reload()
        assert (await made.call())["x-acs-security-token"] == "second"

    changing(tmp_path, steps)
