"""What the table keeps of a flow's first record."""

from __future__ import annotations

import pytest

from flowmap.flows.records.batch import RecordKind
from flowmap.flows.table import FlowTable
from flowmap.model.address import Address
from tests.support.records import Record, batch_of

TRANSLATED = ("10.9.0.2", 1234, "10.8.0.1", 8080)


@pytest.mark.parametrize("translated", [TRANSLATED, ("2001:db8::1", 65535, "2001:db8::2", 1)])
def test_translated_endpoints(translated: tuple[str, int, str, int]) -> None:
    table = FlowTable(10)
    table.apply(batch_of(Record(RecordKind.OPENED, translated=translated)), now=2.0, read_at=1.0, born_after=0.0)
    (row,) = table.live().tolist()
    client_high, client_low, server_high, server_low = table.columns.translated[row].tolist()
    client_port, server_port = divmod(int(table.columns.translated_ports[row]), 1 << 16)
    client, server = Address(client_high, client_low), Address(server_high, server_low)
    assert (str(client), client_port, str(server), server_port) == translated
