"""Flows between different kinds of special addresses, decided in one step."""

from __future__ import annotations

from flowmap.attribute.settings import AttributionSettings
from flowmap.flows.records.batch import RecordKind
from tests.support.attribution import AttributionRun
from tests.support.records import Record

PAIRS = {
    ("10.0.0.1", "224.0.0.251"): ("service", "multicast"),
    ("10.0.0.1", "169.254.1.1"): ("service", "link-local"),
    ("169.254.1.2", "224.0.0.251"): ("service", "multicast"),
    ("169.254.1.2", "10.1.0.1"): ("client", "link-local"),
}


def test_each_flow_gets_the_cause_of_its_own_addresses() -> None:
    accounting = AttributionRun(AttributionSettings(namespaces=("ns",)))
    flows = [
        Record(RecordKind.OPENED, client=client, server=server, protocol=17, id=number)
        for number, (client, server) in enumerate(PAIRS, 1)
    ]
    accounting.observe(*flows)
    accounting.decide()
    columns, rows = accounting.accounting.table.columns, accounting.accounting.table.live()
    assert len(rows) == len(PAIRS)
    for row in rows.tolist():
        cause = accounting.attribution.decisions[int(columns.verdict[row])].cause
        whose, kind = list(PAIRS.values())[int(columns.id[row]) - 1]
        assert whose in cause and kind in cause
