"""A history file of an earlier build: every later build of this format has to read it and to write on in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flowmap.history.file import Limits
from flowmap.history.reader import HistoryReader
from flowmap.history.store import HistoryStore
from flowmap.history.stored import StoredFlow
from flowmap.model.address import Address
from flowmap.model.namespace import NetworkNamespace
from flowmap.model.views import Connection, FlowFilter
from flowmap.model.workload import Local, Workload
from tests.support.closed_flows import NOW, Flow, closed
from tests.support.stored_history import CLIENT, SINK

FILES = Path(__file__).parent.parent / "data/history"
LIMITS = Limits(retain=3600.0, max_size=4 << 20)
BLUE = NetworkNamespace(7, "blue")
EXPECTED = [
    "tcp 10.0.0.1:40000 10.1.0.1:9092 None 1699999990.0 1699999999.0 100/200/3/4 attributed x observed",
    "tcp [2001:db8::1]:40000 [2001:db8::2]:443 None 1699999990.0 1699999999.0 100/200/3/4 shared x,y observed",
    "udp 10.0.0.1:40001 10.1.0.1:53 None 1699999990.0 1699999999.0 100/200/3/4 unknown  guessed",
    "tcp 10.0.0.1:40002 10.1.0.1:9092 192.0.2.1:1024>10.8.0.1:8080 1699999990.0 1699999999.0 100/200/3/4 attributed y "
    "observed",
    "tcp 10.0.0.1:40003 10.1.0.1:9092 None None None 1099511627776/0/4294967296/0 attributed x observed",
]


@pytest.fixture(params=["flows.db", "flows-2.db"])
def path(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    return str(shutil.copy(FILES / request.param, tmp_path / "history.db"))


def reader(path: str) -> HistoryReader:
    return HistoryReader(path, peer_name=str, translated_ends=True)


def line(kept: StoredFlow) -> str:
    flow = kept.view
    translated = None if flow.translated is None else ">".join(map(str, flow.translated))
    counters = (flow.transmit_bytes, flow.receive_bytes, flow.transmit_packets, flow.receive_packets)
    owners = ",".join(info.owner.name for info in flow.deployments)
    seen = "guessed" if flow.guessed else "observed"
    return (
        f"{flow.protocol} {flow.client} {flow.server} {translated} {flow.started_at} {flow.ended_at} "
        f"{'/'.join(map(str, counters))} {flow.state} {owners} {seen}"
    )


def test_every_flow_is_read(path: str) -> None:
    page = reader(path).flows(FlowFilter(), 100)
    assert [line(kept) for kept in reversed(page.flows)] == EXPECTED
    first = page.flows[-1]
    assert first.begun_after == NOW - 10.5
    assert [(piece.shape, piece.rule) for piece in first.evidence] == [("client", "inside"), ("sink", "around")]


def test_a_connection_is_found(path: str) -> None:
    client, server = Address.parse("10.0.0.1"), Address.parse("10.8.0.1")
    assert reader(path).last(Connection(Address.parse("192.0.2.1"), 1024, server, 8080, 6))
    assert reader(path).last(Connection(client, 1024, server, 8080, 6)) == []


def test_ownership_intervals_are_read(path: str) -> None:
    known = reader(path).intervals((CLIENT, SINK), NOW - 40)
    closed_interval, growing = known[CLIENT][0], known[SINK][0]
    assert (closed_interval.answers, closed_interval.closed_at, closed_interval.closed_by) == (3, NOW - 20, "denied")
    assert (growing.answers, growing.closed_at, {owner.name for owner in growing.owners}) == (4, None, {"x", "y"})


def test_new_flows_are_appended(path: str) -> None:
    store = HistoryStore(path, LIMITS)
    store.open()
    assert (store.flows, store.following, store.set_aside) == (5, 6, 0)
    assert [(interval.question, interval.boot) for interval in store.growing_intervals()] == [(SINK, 7)]
    store.write(closed(Flow(client_port=40004, namespace=BLUE)), (), now=NOW)
    while store.merge():
        pass
    store.close()
    flows = [kept.view for kept in reader(path).flows(FlowFilter(), 100).flows]
    assert [flow.namespace for flow in flows] == [BLUE, None, None, None, None, None]
    assert [line(kept) for kept in reversed(reader(path).flows(FlowFilter(), 100).flows)][:5] == EXPECTED


def test_workloads_are_read(tmp_path: Path) -> None:
    copy = shutil.copy(FILES / "flows-2.db", tmp_path / "history.db")  # SQLite writes beside a file that it reads
    first = reader(str(copy)).flows(FlowFilter(), 100).flows[-1].view
    workload = Workload("/a.service", unit="a.service", pid=7, cgroup_id=9)
    assert (first.local, first.namespace) == ((Local("client", workload),), None)
