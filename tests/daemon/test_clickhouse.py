"""What the daemon makes of the configuration of the store."""

from __future__ import annotations

from pathlib import Path

from flowmap.clickhouse.sender import SETTLING, Unwritten
from flowmap.config import Config
from flowmap.daemon.clickhouse import host_of, make_store, origin_of, unwritten_of
from flowmap.export.peers import Peers
from flowmap.export.snapshot import Snapshot
from flowmap.flows.index.endpoints import EndpointKey
from flowmap.history.file import Limits
from flowmap.history.writer import HistoryWriter
from flowmap.model.address import Address

KAFKA = EndpointKey(Address.parse("10.0.0.2"), 9092, 6, True)


def config(path: Path, **settings: object) -> Config:
    history = {"path": str(path / "history.db"), "clickhouse": {"url": "http://127.0.0.1:1", **settings}}
    return Config.model_validate({"history": history, "export": {"peers": {"kafka": ["10.0.0.0/24:9092"]}}})


def test_names(tmp_path: Path) -> None:
    settings = config(tmp_path, host="web-1", network="vpc-1")
    origin = origin_of(settings, Peers(settings.export.peers))
    assert (origin.host, origin.network) == ("web-1", "vpc-1")
    assert origin.peer_name is not None
    assert [origin.peer_name(key) for key in (KAFKA, KAFKA._replace(port=1))] == ["kafka", ""]
    assert origin.counts == {"conntrack": "ip", "sockets": "payload", "capture": "ip"}
    assert host_of(config(tmp_path))


def test_a_store_that_is_away_changes_figures_only(tmp_path: Path) -> None:
    settings = config(tmp_path)
    store = make_store(settings, Peers({}), source="conntrack")
    assert store is not None
    assert store.sender.turn() > 0, "there is no history file yet"
    assert store.report().failures == {"cannot_open": 1}
    assert store.status().error is not None and not store.status().up
    assert make_store(Config(), Peers({}), source="conntrack") is None


def test_flows_that_are_not_in_the_file(tmp_path: Path) -> None:
    """Those in the table, those that wait for the disk, and those that the engine has not seen yet."""
    writer = HistoryWriter(str(tmp_path / "history.db"), Limits(retain=1e9, max_size=4 << 20), source="scripted")
    assert unwritten_of(Snapshot(), writer) == Unwritten(None, 0), "the engine has not seen a flow"
    assert unwritten_of(Snapshot(taken_at=1000.0), writer) == Unwritten(1000.0 - SETTLING, 0)
    writer.figures.lost["disk_full"] += 3
    assert unwritten_of(Snapshot(taken_at=1000.0, unwritten_since=900.0), writer) == Unwritten(900.0, 3)
