"""Books as configured: whether loopback can have owners, and which connections are flowmap's own."""

from __future__ import annotations

import pytest

from flowmap.config import Config
from flowmap.engine.commands import Decide, TakeStep
from flowmap.engine.factory import make_accounting
from flowmap.flows.records.batch import RecordKind
from tests.support.records import Record, batch_of


@pytest.mark.parametrize(
    ("endpoint", "server", "port", "fate"),
    [
        ("http://127.0.0.1:8123", "127.0.0.1", 8123, "ignored"),
        ("http://127.0.0.1:8123", "127.0.0.1", 9092, "pending"),
        ("http://127.0.0.1:8123", "10.1.0.1", 8123, "pending"),
        ("http://localhost", "127.0.0.1", 80, "ignored"),
        ("https://[::1]", "::1", 443, "ignored"),
        ("https://example.com:8123", "127.0.0.1", 8123, "decided"),
        ("https://example.com", "127.0.0.1", 10817, "ignored"),
        ("https://example.com", "10.1.0.1", 9092, "pending"),
        (None, "127.0.0.1", 9092, "decided"),
    ],
)
def test_what_becomes_of_a_connection(endpoint: str | None, server: str, port: int, fate: str) -> None:
    config = Config.model_validate({"control_plane": {"endpoint": endpoint}})
    accounting = make_accounting(config, announces_births=True)
    client = {"10.1.0.1": "10.0.0.1"}.get(server, server)
    record = Record(RecordKind.OPENED, client=client, server=server, server_port=port, counters=(60, 0, 1, 0))
    accounting.apply(TakeStep(batch_of(record), 1000.0, 999.5))
    accounting.apply(Decide(1001.0))
    found = {
        "ignored": accounting.ignored == 60,
        "pending": accounting.pending == [60, 0],
        "decided": accounting.series_table.freeze().totals().unattributed == (60, 0),
    }
    assert [name for name, holds in found.items() if holds] == [fate]
