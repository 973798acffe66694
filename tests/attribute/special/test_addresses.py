"""Addresses that no deployment can have: no questions, and a decision at once."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.attribute.questions import Semantics, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.attribute.special.addresses import KINDS, SpecialAddresses
from flowmap.engine.commands import GiveUp, TakeStep
from flowmap.flows.records.batch import RecordKind
from flowmap.model.address import Address
from flowmap.model.deployment import Owner, State
from flowmap.model.views import Connection, FlowFilter
from flowmap.query.live import LiveQueries
from flowmap.sources.base import Broadcasts
from tests.support.accounting import Auditor, accounting_for, sweep
from tests.support.attribution import AttributionRun
from tests.support.records import Record, replace

X = Owner("w", "ns", "id-x", "x")
FLOW = Record(RecordKind.OPENED, protocol=17, server_port=5353, counters=(60, 0, 1, 0))
HOST = (Address.parse("10.9.1.255"),)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("224.0.0.0", "multicast"),
        ("239.255.255.250", "multicast"),
        ("::ffff:224.0.0.251", "multicast"),
        ("223.255.255.255", ""),
        ("240.0.0.0", ""),
        ("ff02::fb", "multicast"),
        ("ff00::", "multicast"),
        ("feff::1", ""),
        ("255.255.255.255", "broadcast"),
        ("255.255.255.254", ""),
        ("10.9.1.255", "broadcast"),
        ("10.9.2.255", ""),
        ("10.9.1.254", ""),
        ("0.0.0.0", "unspecified"),
        ("0.0.0.1", ""),
        ("::", "unspecified"),
        ("::2", ""),
        ("169.254.0.1", "link-local"),
        ("169.254.255.255", "link-local"),
        ("169.255.0.0", ""),
        ("fe80::1", "link-local"),
        ("febf::1", "link-local"),
        ("fec0::1", ""),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("128.0.0.1", ""),
        ("126.255.255.255", ""),
        ("::1", "loopback"),
        ("10.0.0.1", ""),
        ("2001:db8::1", ""),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    address = Address.parse(text)
    columns = [np.array([half], np.uint64) for half in address]
    assert KINDS[SpecialAddresses(loopback=False, broadcasts=HOST).kinds(*columns)[0]] == kind
    known = SpecialAddresses(loopback=True, broadcasts=HOST)
    assert KINDS[known.kinds(*columns)[0]] == ("" if kind == "loopback" else kind)
    ordinary = Address.parse("10.0.0.9")
    causes = [known.cause(*ends, by_client=True) for ends in ((address, ordinary), (ordinary, address))]
    assert [bool(cause) for cause in causes] == [known.kinds(*columns)[0] != 0] * 2
    assert known.cause(address, ordinary, by_client=False) == ""


def reasons(run: AttributionRun) -> dict[str, int]:
    """Bytes without an owner, both ways, by reason."""
    series_table = run.accounting.series_table.freeze()
    return {
        key.reason: int(series_table.transmit_bytes[row] + series_table.receive_bytes[row])
        for row, key in enumerate(series_table.keys)
        if key is not None and key.kind == "unattributed"
    }


@pytest.mark.parametrize(
    ("client", "server", "semantics", "loopback", "cause"),
    [
        ("10.9.1.2", "224.0.0.251", "both", True, "the service endpoint's address: it is multicast"),
        ("10.9.1.2", "224.0.0.251", "connection", True, "the service endpoint's address: it is multicast"),
        ("10.9.1.2", "224.0.0.251", "dataflow", True, "the service endpoint's address: it is multicast"),
        ("10.9.1.2", "255.255.255.255", "both", True, "the service endpoint's address: it is broadcast"),
        ("10.9.1.2", "10.9.1.255", "both", True, "the service endpoint's address: it is broadcast"),
        ("10.9.1.2", "169.254.169.254", "both", True, "the service endpoint's address: it is link-local"),
        ("0.0.0.0", "10.1.0.1", "both", True, "the client's address: it is unspecified"),
        ("fe80::1", "2001:db8::1", "both", True, "the client's address: it is link-local"),
        ("fe80::1", "ff02::fb", "both", True, "the service endpoint's address: it is multicast"),
        ("127.0.0.1", "127.0.0.1", "both", False, "the service endpoint's address: it is loopback"),
        ("::1", "2001:db8::1", "both", False, "the client's address: it is loopback"),
        ("127.0.0.1", "127.0.0.1", "both", True, ""),
        ("fe80::1", "2001:db8::1", "dataflow", True, ""),
        ("10.9.1.2", "10.9.2.255", "both", True, ""),
    ],
)
def test_one_such_address_decides_the_flow_at_once(
    client: str, server: str, semantics: Semantics, loopback: bool, cause: str
) -> None:
    run = AttributionRun(AttributionSettings(namespaces=("ns",), semantics=semantics, loopback=loopback))
    auditor = Auditor(run.accounting)
    run.accounting.apply(TakeStep(Broadcasts(HOST), run.now, run.now))
    run.observe(replace(FLOW, client=client, server=server))
    run.decide()
    auditor.check()
    assert bool(run.ask()) == (cause == "")
    if not cause:
        assert (reasons(run), run.accounting.pending) == ({}, [60, 0])
        return
    assert (reasons(run), run.accounting.pending) == ({"special_address": 60}, [0, 0])
    (flow,) = LiveQueries(run.accounting, source="s", epoch=0).flows(FlowFilter(), 9, None).flows
    view = LiveQueries(run.accounting, source="s", epoch=0).explain(0, run.now, chain=True)
    assert (flow.state, view.state, view.cause) == (State.UNKNOWN, State.UNKNOWN, f"no deployment can have {cause}")
    assert run.attribution.waiting == 0
    run.observe(replace(FLOW, kind=RecordKind.UPDATED, client=client, server=server, counters=(100, 7, 2, 1)))
    run.now += 600
    run.decide()
    assert run.ask() == [], "nor later"
    run.observe(replace(FLOW, kind=RecordKind.CLOSED, client=client, server=server, counters=(100, 8, 2, 1)))
    run.decide()
    auditor.check()
    assert (reasons(run), len(run.accounting.table)) == ({"special_address": 108}, 0)


def test_other_flows_of_the_same_client_are_named() -> None:
    run = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="connection", loopback=False, grace=3.0))
    run.observe(replace(FLOW, server="224.0.0.251"), replace(FLOW, id=2))
    run.decide()
    asked = run.ask()
    assert sorted((one.shape, str(one.source or one.destination)) for one in asked) == [
        (Shape.CLIENT, "10.0.0.1:0"),
        (Shape.SINK, "10.1.0.1:5353"),
    ]
    for question in asked:
        run.answer(question, X)
    run.decide()
    run.decide()
    assert (reasons(run), run.accounting.pending_flows) == ({"special_address": 60}, 0)
    assert run.accounting.series_table.freeze().totals().deployment == (60, 0), "the client alone names nothing"


def test_an_opening_and_its_end_in_one_batch() -> None:
    run = AttributionRun()
    auditor = Auditor(run.accounting)
    gone = replace(FLOW, kind=RecordKind.CLOSED, server="224.0.0.1", counters=(90, 0, 2, 0))
    run.observe(replace(FLOW, server="224.0.0.1"), gone)
    auditor.check()
    run.decide()
    auditor.check()
    assert (reasons(run), len(run.accounting.table)) == ({"special_address": 90}, 0)


def test_flows_that_the_filters_leave_out_stay_out() -> None:
    run = AttributionRun()
    run.accounting = accounting_for(AttributionSettings(namespaces=("ns",)), exclude=("224.0.0.0/4",))
    run.observe(replace(FLOW, server="224.0.0.1"))
    run.decide()
    assert (reasons(run), run.accounting.ignored) == ({}, 60)


def test_later_broadcast_addresses_decide_pending_flows() -> None:
    run = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="connection"))
    auditor = Auditor(run.accounting)
    run.observe(replace(FLOW, server="10.9.1.255"), replace(FLOW, id=2))
    run.decide()
    assert run.accounting.pending_flows == 2
    run.accounting.apply(TakeStep(Broadcasts(HOST), run.now, run.now))
    run.decide()
    auditor.check()
    assert (reasons(run), run.accounting.pending_flows) == ({"special_address": 60}, 1)
    run.accounting.apply(TakeStep(Broadcasts(()), run.now, run.now))
    run.observe(replace(FLOW, id=3, client_port=4, server="10.9.1.255"))
    run.decide()
    assert (reasons(run), run.accounting.pending_flows) == ({"special_address": 60}, 2), "a decision stays"


def test_a_row_and_an_end_that_are_used_again_are_judged_anew() -> None:
    run = AttributionRun(AttributionSettings(namespaces=("ns",), semantics="connection"))
    for server, decided in (("224.0.0.1", True), ("10.1.0.1", False), ("224.0.0.1", True)):
        run.observe(replace(FLOW, server=server))
        run.decide()
        assert (run.accounting.pending_flows == 0) == decided
        run.observe(replace(FLOW, kind=RecordKind.CLOSED, server=server))
        run.accounting.apply(GiveUp(run.now + 1, run.now + 1))
        run.decide()
        sweep(run.accounting)
        assert len(run.accounting.table) == 0


@pytest.mark.parametrize(
    ("destination", "asks", "state"),
    [("224.0.0.251", False, State.UNKNOWN), ("127.0.0.1", False, State.UNKNOWN), ("10.1.0.1", True, State.PENDING)],
)
def test_a_connection_that_was_not_seen(destination: str, asks: bool, state: State) -> None:
    run = AttributionRun(AttributionSettings(namespaces=("ns",), loopback=False))
    connection = Connection(Address.parse("10.0.0.1"), 1, Address.parse(destination), 2, 6)
    view, missing = LiveQueries(run.accounting, source="s", epoch=0).ask(connection.lookup, run.now)
    assert (bool(missing), view.state) == (asks, state)
    assert view.cause


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
