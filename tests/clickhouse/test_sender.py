"""Sending: every flow once, whatever happens to the server, the daemon and the file in between."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from flowmap.clickhouse.bodies import Origin
from flowmap.clickhouse.reader import StoreReader
from flowmap.clickhouse.sender import FOR_GOOD, SETTLING, Sender, Unwritten
from flowmap.clickhouse.server import Server, ServerAddress
from flowmap.daemon.clickhouse import Store
from flowmap.history.file import Limits
from flowmap.history.spool import Spool
from tests.clickhouse.engine import Engine
from tests.clickhouse.hosts import Host, flows
from tests.clickhouse.stand_in import PASSWORD, StandIn
from tests.clickhouse.store import EngineStore
from tests.support.closed_flows import NOW, Flow, X, Y, closed, replace, spread
from tests.support.scripted_source import until


@pytest.fixture
def host(tmp_path: Path, stand_in: StandIn) -> Iterator[Host]:
    made = Host(tmp_path / "history.db", stand_in)
    yield made
    made.close()


def test_every_flow_is_sent_once(host: Host) -> None:
    for ports in ((1, 2), (3,), (4, 5)):
        host.write(*flows(*ports))
        host.sender.turn()
    host.sender.turn()
    assert host.ports() == [1, 2, 3, 4, 5]
    figures = host.sender.figures
    assert (figures.up, figures.sent, figures.waiting, figures.problem) == (True, 5, 0, None)
    assert host.stand_in.engine.rows("SELECT count() FROM ends_1") == [[5]]


def test_a_row_has_what_the_history_has(host: Host) -> None:
    flow = Flow(
        client="10.0.0.9", server="2001:db8::1", translated=("10.9.9.9", 7, "2001:db8::2", 80), owners=(X, Y), doubt=2.5
    )
    host.write(flow)
    host.sender.turn()
    names = (
        "host, client, client_port, server, server_port, translated_client, translated_client_port, translated_server, "
        "translated_server_port, protocol, toFloat64(started), toFloat64(ended), toFloat64(started_after), "
        "toFloat64(ended_after), transmit_bytes, receive_bytes, transmit_packets, receive_packets, state, deployments, "
        "rule, source, bytes"
    )
    (row,) = host.stand_in.engine.rows(f"SELECT {names} FROM ends")
    assert row == [
        *("web-1", "::ffff:10.0.0.9", 40000, "2001:db8::1", 9092, "::ffff:10.9.9.9", 7, "2001:db8::2", 80, 6),
        *(NOW - 10, NOW - 1, NOW - 12.5, NOW - 3.5, 100, 200, 3, 4),
        *("shared", ["w/ns/id-x", "w/ns/id-y"], "around,inside", "scripted", "ip"),
    ]
    assert host.stand_in.engine.rows("SELECT key, name FROM deployments ORDER BY key") == [
        ["w/ns/id-x", "x"],
        ["w/ns/id-y", "y"],
    ]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("500", "server"),
        ("502", "server"),
        ("reset", "connect"),
        ("lost reply", "connect"),
        ("full", "disk_full"),
        ("parts", "busy"),
        ("denied", "denied"),
    ],
)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_faults(host: Host, fault: str, reason: str, at: int) -> None:
    """``at``: the request with the fault: of names, of flows, of the report."""
    host.write(*flows(1, 2))
    host.stand_in.faults.extend([""] * at + [fault])
    assert host.sender.turn() > 0
    assert (host.sender.figures.up, host.sender.figures.failures) == (False, Counter({reason: 1}))
    assert host.sender.figures.problem
    host.write(*flows(3))
    host.sender.turn()
    assert host.ports() == [1, 2, 3]
    assert host.sender.figures.sent == 3 and host.sender.figures.up


def test_killed_between_insert_and_reply(host: Host) -> None:
    """Whatever the next process sends, also in other batches, is no second row."""
    host.write(*flows(1, 2))
    host.stand_in.faults.extend(["", "lost reply"])
    host.sender.turn()
    assert host.ports() == [1, 2], "they have arrived"
    host.write(*flows(3))
    host.store.merge()
    sender = host.restarted()
    sender.turn()
    assert host.ports() == [1, 2, 3]
    assert len([one for one in host.stand_in.inserts if "INTO ends_1" in one]) == 2
    assert sender.figures.sent == 3


def test_killed_for_real_with_each_insert_in_flight(host: Host) -> None:
    """SIGKILL when the server has the rows and the sender does not know: with names, with flows, with the report."""
    host.write(*flows(1, 2))
    address = ServerAddress(host.stand_in.url, host.stand_in.engine.database)
    code = (
        "import sys; from flowmap.clickhouse.bodies import Origin; from flowmap.clickhouse.sender import Sender; "
        "from flowmap.clickhouse.server import Server, ServerAddress; from flowmap.history.spool import Spool; "
        "Sender(Spool(sys.argv[1]), Server(ServerAddress(*sys.argv[2:4])), Origin('web-1')).turn()"
    )
    for at in range(3):
        host.stand_in.faults.extend([""] * at + ["held reply"])
        with subprocess.Popen([sys.executable, "-c", code, host.path, address.url, address.database]) as process:
            assert host.stand_in.holding.acquire(timeout=60)
            process.kill()
        host.stand_in.faults.clear()
        host.write(*flows(3 + at))
    host.sender.turn()
    assert host.ports() == [1, 2, 3, 4, 5]


def test_killed_before_the_cursor_is_saved(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.write(*flows(1, 2))
    monkeypatch.setattr(Spool, "hand_on", lambda *_: None)
    host.sender.turn()
    monkeypatch.undo()
    host.restarted().turn()
    assert host.ports() == [1, 2]


def test_limits_of_the_history_while_the_server_is_away(tmp_path: Path, stand_in: StandIn) -> None:
    """What the history removes before it was sent is counted exactly."""
    host = Host(tmp_path / "history.db", stand_in, limits=Limits(retain=1e9, max_size=1 << 20))
    stand_in.faults.append("500")
    host.sender.turn()
    removed = 0
    while removed < 2000:
        removed += host.store.write(spread(host.store.limits.block_flows), (), now=NOW).evicted
    stand_in.faults.append("500")
    host.sender.turn()
    assert host.sender.figures.sent == 0
    waiting = host.sender.figures.waiting
    host.sender.turn()
    assert host.sender.figures.lost == Counter({"limits": removed})
    assert host.sender.figures.sent == waiting - removed
    (row,) = stand_in.engine.rows("SELECT count(), max(number) - min(number) + 1 FROM ends")
    assert row == [waiting - removed, waiting - removed]
    assert stand_in.engine.rows("SELECT sent, lost, waiting FROM hosts") == [[waiting - removed, removed, 0]]
    host.close()


def test_a_broken_file_is_counted(host: Host) -> None:
    host.write(*flows(1, 2, 3))
    host.stand_in.faults.append("500")
    host.sender.turn()
    host.store.close()
    Path(host.path).unlink()
    for suffix in ("-wal", "-shm"):
        Path(host.path + suffix).unlink(missing_ok=True)
    host.store.open()
    host.write(*flows(4))
    host.sender.turn()
    assert host.sender.figures.lost == Counter({"replaced": 3})
    assert host.ports() == [4]


def test_an_empty_file_does_not_number_its_flows_again(tmp_path: Path, stand_in: StandIn) -> None:
    host = Host(tmp_path / "history.db", stand_in, limits=Limits(retain=60.0, max_size=16 << 20))
    host.write(*flows(1, 2))
    host.sender.turn()
    host.store.write(closed(), (), now=NOW + 3600)
    assert host.store.flows == 0
    host.store.write(closed(Flow(client_port=3, born=NOW + 3600, ended=NOW + 3601)), (), now=NOW + 3602)
    host.sender.turn()
    assert host.ports() == [1, 2, 3]
    assert host.sender.figures.lost == Counter()
    host.close()


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
def test_the_clock_of_the_host_jumps(host: Host, jump: float) -> None:
    """Rows have the times that the history has; none is dropped or doubled for its time."""
    host.write(*flows(1))
    host.sender.turn()
    host.write(replace(Flow(client_port=2), born=NOW + jump - 5, ended=NOW + jump))
    host.sender.turn()
    host.restarted().turn()
    assert host.ports() == [1, 2]


def test_wrong_password(host: Host, tmp_path: Path) -> None:
    host.stand_in.password = PASSWORD
    host.write(*flows(1))
    host.sender.turn()
    assert host.sender.figures.failures == Counter({"auth": 1})
    assert host.sender.figures.problem is not None and "password_file" in host.sender.figures.problem
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    host.restarted(str(file)).turn()
    assert host.ports() == [1]


def test_without_tables(tmp_path: Path, engine: Engine) -> None:
    from tests.clickhouse.stand_in import standing_in

    with standing_in(engine) as stand_in:
        host = Host(tmp_path / "history.db", stand_in)
        host.write(*flows(1))
        host.sender.turn()
        assert host.sender.figures.failures == Counter({"tables": 1})
        assert "flowmap fleet init" in str(host.sender.figures.problem)
        engine.make_tables()
        host.sender.turn()
        assert host.ports() == [1]
        host.close()


def names_of(host: Host) -> dict[str, str]:
    return dict(host.stand_in.engine.rows("SELECT deployment_id, name FROM deployments"))


def test_a_rename_rewrites_nothing(host: Host) -> None:
    host.write(*flows(1))
    host.sender.turn()
    host.write(Flow(client_port=2, owners=(RENAMED,), born=NOW - 5, ended=NOW - 3))
    host.sender.turn()
    assert names_of(host) == {"id-x": "renamed"}
    assert host.stand_in.engine.rows("SELECT DISTINCT deployments FROM ends") == [[["w/ns/id-x"]]]


RENAMED = X._replace(name="renamed")


def test_a_flow_from_before_a_rename_ends_after_it(host: Host) -> None:
    host.write(Flow(client_port=1, owners=(RENAMED,), born=NOW - 20, ended=NOW - 10))
    host.sender.turn()
    host.write(Flow(client_port=2, born=NOW - 9000, ended=NOW - 1))
    host.sender.turn()
    host.restarted().turn()
    assert names_of(host) == {"id-x": "renamed"}


def test_names_of_a_merged_block_are_those_of_the_flows_that_are_sent(host: Host) -> None:
    """A block of a quiet host spans days: the flows in it that were sent before say nothing new."""
    host.write(Flow(client_port=1, born=NOW - 90000, ended=NOW - 80000))
    host.sender.turn()
    for port in range(2, 9):
        host.write(Flow(client_port=port, owners=(), born=NOW - 20, ended=NOW - 10))
    assert host.store.merge()
    host.stand_in.engine.execute("TRUNCATE TABLE deployment_names_1")
    host.restarted().turn()
    assert names_of(host) == {} and len(host.ports()) == 8


def test_two_deployments_swap_their_names(tmp_path: Path, stand_in: StandIn) -> None:
    """Also if a host that knew the former names sends later than others."""
    late, early = (Host(tmp_path / f"{name}.db", stand_in, name) for name in ("late", "early"))
    late.write(Flow(client_port=1, owners=(X, Y), born=NOW - 100, ended=NOW - 2))
    early.write(Flow(client_port=2, owners=(X._replace(name="y"), Y._replace(name="x")), born=NOW - 50, ended=NOW - 40))
    early.sender.turn()
    late.sender.turn()
    assert names_of(late) == {"id-x": "y", "id-y": "x"}
    early.close()
    late.close()


def test_a_name_that_returns_is_sent_again(tmp_path: Path, stand_in: StandIn) -> None:
    """A deployment is renamed and back, and one host never knew the name between."""
    steady, other = (Host(tmp_path / f"{name}.db", stand_in, name) for name in ("steady", "other"))
    steady.write(Flow(client_port=1, born=NOW - 9000))
    steady.sender.turn()
    other.write(Flow(client_port=2, owners=(RENAMED,), born=NOW - 5000))
    other.sender.turn()
    assert names_of(steady) == {"id-x": "renamed"}
    steady.write(Flow(client_port=3, born=NOW - 1000))
    steady.sender.turn()
    assert names_of(steady) == {"id-x": "x"}
    steady.close()
    other.close()


def test_names_of_evidence_are_sent(host: Host) -> None:
    host.write(Flow(client_port=1, evidence=(Y,)))
    host.sender.turn()
    assert names_of(host) == {"id-x": "x", "id-y": "y"}


def test_hosts_report_how_far_they_are(host: Host) -> None:
    host.sender.turn()
    seen = "SELECT host, sent, lost, waiting, source, complete_until > seen - 60 FROM hosts"
    assert host.stand_in.engine.rows(seen) == [["web-1", 0, 0, 0, "scripted", 1]]


def test_flows_that_are_not_in_the_file_bound_the_report(host: Host) -> None:
    """They ended, and wait for an answer or for the disk. Lost ones are counted."""
    unwritten = Unwritten(NOW - 30, 7)
    server = Server(ServerAddress(host.stand_in.url, host.stand_in.engine.database))
    sender = Sender(Spool(host.path), server, Origin("web-1"), unwritten=lambda: unwritten, clock=lambda: NOW)
    sender.turn()
    seen = "SELECT toFloat64(complete_until), lost FROM hosts"
    assert host.stand_in.engine.rows(seen) == [[NOW - 30, 7]]
    unwritten = Unwritten()
    host.stand_in.faults.append("500")
    host.write(Flow(ended=NOW - 1))
    sender.turn()
    assert sender.figures.complete_until == NOW - SETTLING
    host.write(Flow(ended=NOW - 50))
    host.stand_in.faults.append("500")
    sender.turn()
    assert sender.figures.complete_until == NOW - 50
    server.close()


def test_the_thread_sends_and_stops(host: Host) -> None:
    host.write(*flows(1))
    sender = Sender(
        Spool(host.path),
        Server(ServerAddress(host.stand_in.url, host.stand_in.engine.database)),
        Origin("web-1"),
        every=0.01,
    )
    sender.start()
    until_sent(sender, 1)
    host.write(*flows(2))
    sender.stop(whole=True)
    sender.join(20)
    assert not sender.is_alive()
    assert host.ports() == [1, 2]


STOPS = [
    (True, 9, [], 0),
    (False, 9, [], 0),
    (True, 1, [], 1),
    (True, 9, ["", "500"], 0),
]


@pytest.mark.parametrize(("whole", "most", "faults", "waiting"), STOPS)
def test_a_host_that_was_stopped(
    host: Host, monkeypatch: pytest.MonkeyPatch, whole: bool, most: int, faults: list[str], waiting: int
) -> None:
    """It is complete for good if it has sent everything. ``most``: flows of a batch; ``faults``: of the last one."""
    monkeypatch.setattr("flowmap.clickhouse.sender.MOST_FLOWS", most)
    engine, sender = host.stand_in.engine, host.sender
    sender.turn()
    for port in (1, 2):
        host.write(*flows(port))
    host.stand_in.faults.extend(faults)
    sender.stop(whole=whole)
    sender.run()
    everything = whole and most > 1 and not faults
    seen = f"SELECT host, toFloat64(complete_until) = {FOR_GOOD}, waiting FROM hosts"
    assert engine.rows(seen) == [["web-1", int(everything), waiting]]
    now = time.time() + 3600
    reader = StoreReader(EngineStore(engine), translated_ends=True, clock=lambda: now)
    assert ["is behind" in line for line in reader.missing(now - 60, now, rows=True)] == [True] * (not everything)
    host.restarted().turn()
    assert engine.rows("SELECT count(), max(complete_until) < now64(6) FROM hosts") == [[1, 1]]


def until_sent(sender: Sender, flows: int) -> None:
    until(lambda: sender.figures.sent >= flows, "sent", seconds=20)


def test_a_host_that_is_stopped_before_its_first_turn(host: Host) -> None:
    """Else its row would say that everything was sent, as its last run did."""
    host.sender.stop(whole=True)
    host.sender.run()
    host.write(*flows(1))
    host.restarted().stop(whole=True)
    host.sender.run()
    assert host.ports() == [1]


def test_a_server_that_hangs(host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Status, metric and log say so while the exchange is under way, and when it is over."""
    caplog.set_level("INFO")
    host.sender.turn()
    host.write(*flows(1))
    store = Store("http://store", host.sender)
    host.stand_in.faults.append("slow")
    thread = threading.Thread(target=host.sender.turn)
    thread.start()
    until(lambda: host.sender.figures.asked_at is not None, "it asks", seconds=20)
    assert (store.status().up, store.status().error, store.report().up) == (True, None, True), "not for long"
    monkeypatch.setattr("flowmap.clickhouse.sender.SILENT_AFTER", -1.0)
    store.check(0.0)
    store.check(100.0)
    assert not store.status().up and not store.report().up
    assert "the server has not answered for 0 s; see whether it hangs" in str(store.status().error)
    host.stand_in.released.set()
    thread.join()
    store.check(200.0)
    assert (store.status().up, store.status().error, store.report().up) == (True, None, True)
    lines = [one.message.partition(": ")[2] for one in caplog.records if one.name == "flowmap.daemon.clickhouse"]
    assert [line[:36] for line in lines] == ["flows wait in the history: the serve", "the server answers again"]


def test_many_hosts(tmp_path: Path, stand_in: StandIn) -> None:
    hosts = [Host(tmp_path / f"{name}.db", stand_in, name) for name in ("a", "b")]
    for one in hosts:
        one.write(*flows(1, 2))
        one.sender.turn()
        one.close()
    rows: Sequence[Sequence[Any]] = stand_in.engine.rows("SELECT host, count() FROM ends GROUP BY host ORDER BY host")
    assert rows == [["a", 2], ["b", 2]]
    window = f"since = toDateTime64({NOW - 60}, 6, 'UTC'), until = toDateTime64({NOW}, 6, 'UTC')"
    assert stand_in.engine.rows(f"SELECT count(), any(seen_by) FROM connections({window})") == [[2, ["a", "b"]]]


def test_two_daemons_with_one_host_name(
    tmp_path: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each finds the report of the other one. A connection that both saw counts once."""
    monkeypatch.setattr("flowmap.clickhouse.sender.REPORT_EVERY", 0.0)
    one, other = (Host(tmp_path / f"{name}.db", stand_in) for name in ("one", "other"))
    for host in (one, other):
        host.write(*flows(1))
        host.sender.turn()
    assert other.sender.figures.problem is None, "the row may be of a history file that was replaced"
    one.sender.turn()
    one.sender.turn()
    assert one.sender.figures.failures == Counter({"namesake": 1}) and one.sender.figures.problem is None
    other.sender.turn()
    assert other.sender.figures.up and "another daemon sends as 'web-1'" in str(other.sender.figures.problem)
    assert caplog.text.count("another daemon sends") == 2
    window = f"since = toDateTime64({NOW - 60}, 6, 'UTC'), until = toDateTime64({NOW}, 6, 'UTC')"
    assert stand_in.engine.rows(f"SELECT count(), any(seen_by) FROM connections({window})") == [[1, ["web-1"]]]
    one.close()
    other.close()
