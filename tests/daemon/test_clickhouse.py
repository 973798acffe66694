"""What the daemon makes of the configuration of the store."""

from __future__ import annotations

from pathlib import Path

from flowmap.config import Config
from flowmap.daemon.clickhouse import host_of, make_store, origin_of
from flowmap.export.peers import Peers
from flowmap.flows.index.endpoints import EndpointKey
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
