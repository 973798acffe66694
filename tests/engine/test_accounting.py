"""The books: cases worth a name."""

from __future__ import annotations

import pytest

from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import UNREADABLE, Question, Shape
from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.commands import Decide, Deliver, GiveUp, QuestionResult, Tidy
from flowmap.export.open_flows import measure
from flowmap.export.series import OTHER, SeriesKey
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.deployment import DeploymentInfo, Owner, State
from flowmap.sources.base import Lost, ReadFinished, ReadStarted
from tests.support.accounting import accounting_for, sweep
from tests.support.accounting_run import AccountingRun
from tests.support.records import Record, replace

OPENED, DUMPED, CLOSED = RecordKind.OPENED, RecordKind.DUMPED, RecordKind.CLOSED
X, Y = (Owner("w", "ns", name, name) for name in "xy")
FLOW = Record(OPENED, flags=int(Flag.PRESENT))


def named(name: str, peer: str = "10.1.0.1:9092") -> tuple[str, frozenset[str], str, str]:
    return "deployment", frozenset({name}), "", peer


def nobody(reason: str, peer: str = "10.1.0.1:9092") -> tuple[str, frozenset[str], str, str]:
    return "unattributed", frozenset(), reason, peer


def test_pending_bytes_are_credited_whole() -> None:
    run = AccountingRun(accounting_for())
    run(FLOW, replace(FLOW, kind=DUMPED, counters=(500, 70, 5, 1)))
    assert (run.accounting.pending, run.accounting.pending_flows, run.totals()) == ([500, 70], 1, {})
    run.answer(X)
    assert (run.accounting.pending, run.accounting.pending_flows) == ([0, 0], 0)
    run(replace(FLOW, kind=CLOSED, counters=(600, 80, 6, 2)))
    assert run.totals() == {named("x"): (600, 80)}
    assert (len(run.accounting.table), run.accounting.observed) == (0, [600, 80])


def test_a_flow_that_was_nobodys_keeps_its_earlier_bytes_there() -> None:
    run = AccountingRun(accounting_for(AttributionSettings(namespaces=("ns",))))
    run(FLOW, replace(FLOW, kind=DUMPED, counters=(500, 70, 5, 1)))
    run.answer()
    assert run.totals() == {nobody("unknown"): (500, 70)}
    assert [question.shape for question in run.answer(X, after=5)] == [Shape.CLIENT]
    run.answer(X, after=25)  # its service end is worth asking about only now
    assert run.totals() == {nobody("unknown"): (500, 70)}
    run(replace(FLOW, kind=CLOSED, counters=(600, 80, 6, 2)))
    assert run.totals() == {nobody("unknown"): (500, 70), named("x"): (100, 10)}


def delays(run: AccountingRun) -> dict[str, tuple[int, float]]:
    """Flows by state, and the sum of their delays."""
    return {state: (delay.counts[-1], delay.seconds) for state, delay in run.accounting.delays.freeze().items()}


def test_a_late_name_is_a_delay_of_its_own() -> None:
    run = AccountingRun(accounting_for(AttributionSettings(namespaces=("ns",), semantics="connection")))
    run(FLOW)
    began = run.now
    run.answer()
    assert delays(run) == {"unknown": (1, run.now - began)}
    first = delays(run)["unknown"]
    run.answer(X, after=5)
    run.answer(X, after=25)  # its service endpoint is worth asking about only now
    named_at = run.now
    for _ in range(3):  # it gets its first name once, however often it is answered
        run.answer(X, after=5)
    assert delays(run) == {"unknown": first, "attributed": (1, named_at - began)}


def test_a_flow_that_is_narrowed_later_has_its_first_name_already() -> None:
    run = AccountingRun(accounting_for(AttributionSettings(namespaces=("ns",), semantics="connection", tie_wait=0.0)))
    run(FLOW)
    run.answer(X, Y)
    assert {state: count for state, (count, _) in delays(run).items()} == {"shared": 1}
    for _ in range(3):
        run.answer(X, after=5)
    assert {state: count for state, (count, _) in delays(run).items()} == {"shared": 1}


def test_closed_flow_is_named_by_answers_around_it() -> None:
    run = AccountingRun(accounting_for())
    run(FLOW)
    run.answer(X)
    other = replace(FLOW, client_port=2, id=2)
    run.now += 30
    run.catch_up()
    run(other, replace(other, kind=CLOSED, counters=(9, 8, 1, 1)))
    assert (run.accounting.pending, len(run.accounting.table)) == ([9, 8], 2)
    run.answer(X, after=60)
    assert (run.totals(), len(run.accounting.table)) == ({named("x"): (9, 8)}, 1)


def test_a_flow_on_a_reused_address_does_not_inherit() -> None:
    run = AccountingRun(accounting_for())
    run(FLOW)
    run.answer(X)
    run(replace(FLOW, kind=CLOSED, counters=(1, 1, 1, 1)))
    run.now += 10
    run.catch_up()
    run(replace(FLOW, id=2), replace(FLOW, id=2, kind=CLOSED, counters=(9, 9, 1, 1)))
    run.accounting.apply(Decide(run.now))
    assert run.accounting.pending == [9, 9]
    run.answer(Y, after=60)
    assert run.totals() == {named("x"): (1, 1), nobody("unknown"): (9, 9)}


def test_the_cache_names_at_once_where_the_user_asked_for_that() -> None:
    run = AccountingRun(accounting_for(AttributionSettings(namespaces=("ns",), confirm="fast")))
    run(FLOW)
    run.answer(X)
    run(replace(FLOW, client_port=2, id=2, kind=CLOSED, counters=(9, 9, 1, 1)))
    run.accounting.apply(Decide(run.now))
    assert run.totals() == {named("x"): (9, 9)}


@pytest.mark.parametrize(
    ("owners", "kind", "reason", "names"),
    [
        ([], "unattributed", "unknown", set()),
        ([X], "deployment", "", {"x"}),
        ([X, Y], "shared", "", {"x", "y"}),
        ([X, Y, Owner("w", "ns", "z", "z")], "unattributed", "ambiguous", set()),
        ([Owner("w", "ns", UNREADABLE, UNREADABLE)], "unattributed", "unknown", set()),
    ],
)
def test_where_the_bytes_go(owners: list[Owner], kind: str, reason: str, names: set[str]) -> None:
    run = AccountingRun(accounting_for(AttributionSettings(namespaces=("ns",), owners_limit=2, tie_wait=0)))
    run(replace(FLOW, counters=(5, 6, 1, 1)))
    run.answer(*owners)
    assert run.totals() == {(kind, frozenset(names), reason, "10.1.0.1:9092"): (5, 6)}


def test_answers_that_never_come_end_as_failed() -> None:
    run = AccountingRun(accounting_for())
    run(FLOW, replace(FLOW, kind=CLOSED, counters=(5, 6, 1, 1)))
    run.accounting.apply(GiveUp(run.now, run.now))
    assert len(run.accounting.table) == 1, "not older yet"
    run.accounting.apply(GiveUp(run.now + 1, run.now))
    run.auditor.check()
    assert (run.totals(), len(run.accounting.table)) == ({nobody("failed"): (5, 6)}, 0)


def test_full_table_evicts_the_longest_pending() -> None:
    run = AccountingRun(accounting_for(max_flows=2))
    for port in (1, 2):
        run(replace(FLOW, client_port=port, id=port, kind=CLOSED, counters=(port, port, 1, 1)))
    run(replace(FLOW, client_port=3, id=3))
    assert (run.totals(), dict(run.accounting.shed)) == ({nobody("failed"): (1, 1)}, {"pending": 1})
    run(replace(FLOW, client_port=4, id=4), replace(FLOW, client_port=5, id=5, kind=CLOSED, counters=(7, 8, 1, 1)))
    assert run.totals()["unattributed", frozenset(), "shed", OTHER] == (7, 8)
    assert run.accounting.shed["table_full"] == 1
    assert run.accounting.observed == [1 + 2 + 7, 1 + 2 + 8]


def test_filtered_flows_are_ignored_apart() -> None:
    run = AccountingRun(accounting_for(exclude=("tcp/9092",)))
    run(replace(FLOW, counters=(5, 6, 1, 1)), replace(FLOW, kind=CLOSED, counters=(10, 20, 1, 1)))
    assert (run.accounting.ignored, run.accounting.observed, len(run.accounting.table)) == (30, [0, 0], 0)
    assert run.answer(X) == []


def test_a_read_that_lost_changes_ends_no_flow() -> None:
    run = AccountingRun(accounting_for())
    run(FLOW, ReadStarted("timer"), Lost("overrun"), ReadFinished(True))
    assert (len(run.accounting.table), run.accounting.complete_reads) == (1, 1)
    run(ReadStarted("overrun"), ReadFinished(True))
    assert (run.accounting.table.open_flows, run.accounting.complete_reads) == (0, 2)


@pytest.mark.parametrize("announces", [True, False])
def test_when_a_flow_can_have_begun(announces: bool) -> None:
    run = AccountingRun(accounting_for(announces_births=announces))
    first_read = 1000.5
    run.now += 50
    run.catch_up()
    caught_up = run.now - 1
    run(replace(FLOW, kind=DUMPED))
    (row,) = run.accounting.table.live()
    assert run.accounting.table.columns.born_after[row] == (caught_up if announces else first_read)


def test_idle_series_leave_and_what_no_flow_needs_is_forgotten() -> None:
    run = AccountingRun(accounting_for(max_flows=4, idle_after=100.0))
    for n in range(3):
        record = replace(FLOW, client=f"10.0.0.{n}", server=f"10.1.0.{n}", id=n + 1, counters=(5, 6, 1, 1))
        run(record)
        run.answer(X)
        run(replace(record, kind=CLOSED))
    assert len(run.accounting.table.endpoints) == 6
    run.now += 200
    run.accounting.apply(Tidy(run.now))
    run.auditor.check()
    assert (len(run.accounting.series_table), run.accounting.series_table.expired) == (0, (15, 18))
    assert (len(run.accounting.table.endpoints), len(run.accounting.attribution.decisions)) == (0, 0)


def test_peer_name_survives_reused_endpoint_numbers() -> None:
    # Ends are freed while a batch is applied when they run out: nobody may go on with the old meaning of a number.
    run = AccountingRun(accounting_for(max_flows=2))
    for n in range(20):
        record = replace(FLOW, client=f"10.0.0.{n}", server=f"10.1.0.{n}", id=n + 1, counters=(n + 1, 1, 1, 1))
        run(record)
        run.answer(X)
        run(replace(record, kind=CLOSED))
    assert run.totals() == {named("x", f"10.1.0.{n}:9092"): (n + 1, 1) for n in range(20)}


def test_reused_endpoint_number_ignores_old_answers() -> None:
    run = AccountingRun(accounting_for())
    run(FLOW)
    asked = run.accounting.attribution.ask(now=run.now, limit=100)
    run(replace(FLOW, kind=CLOSED, counters=(1, 1, 1, 1)))
    run.accounting.apply(GiveUp(run.now + 1, run.now))
    sweep(run.accounting)
    run(replace(FLOW, client="10.0.0.9", server="10.1.0.9", id=2, counters=(2, 2, 1, 1)))
    for question in asked:
        run.accounting.attribution.receive(question, Answer(run.now, run.now + 0.5, frozenset({X})))
    run.now += 1
    run.catch_up()
    run.accounting.apply(Decide(run.now))
    assert run.accounting.pending == [2, 2]
    assert {question.shape for question in run.answer(Y)} == {Shape.CLIENT, Shape.SINK, Shape.SOURCE}
    assert run.totals()[named("y", "10.1.0.9:9092")] == (2, 2)


def test_round_trips_are_means_of_open_connections() -> None:
    run = AccountingRun(accounting_for())
    for port, round_trip in ((1, 1000), (2, 3000)):
        run(replace(FLOW, client_port=port, id=port, retransmits=port, round_trip=round_trip))
    run.answer(X)
    flows = measure(run.accounting.table, run.accounting.series_table.used, health=True)
    series = run.accounting.series_table.series(SeriesKey("deployment", (X,), "", "10.1.0.1:9092", "tcp"), now=run.now)
    assert run.accounting.series_table.freeze(flows).round_trip[series] == pytest.approx(0.002)
    assert run.accounting.series_table.retransmits[series] == 3


def test_decision_has_state_and_owners() -> None:
    run = AccountingRun(accounting_for())
    run(FLOW)
    run.answer(X)
    (decision,) = run.accounting.attribution.decisions.values()
    assert (decision.state, decision.owners) == (State.ATTRIBUTED, frozenset({X}))


def test_equal_ids_in_two_workspaces_are_two_deployments() -> None:
    accounting = accounting_for()
    infos = [DeploymentInfo(Owner(workspace, "ns", "id", workspace), creator=workspace) for workspace in "wv"]
    result = QuestionResult(Question("ns", Shape.CLIENT, None, None), Answer(1.0, 2.0, frozenset()), tuple(infos))
    accounting.apply(Deliver(2.0, result))
    assert [accounting.describe(info.owner).creator for info in infos] == ["w", "v"]
    assert accounting.describe(Owner("u", "ns", "id", "u")) == DeploymentInfo(Owner("u", "ns", "id", "u"))


def test_flood_keeps_established_flows_and_every_byte() -> None:
    run = AccountingRun(accounting_for(max_flows=4))
    real = replace(FLOW, client="10.0.0.9", flags=int(Flag.PRESENT | Flag.ASSURED))
    run(real)
    for n in range(1, 50):
        flood = replace(FLOW, client=f"10.0.1.{n}", id=n + 1, flags=0)
        run(flood, replace(flood, kind=DUMPED, counters=(60, 0, 1, 0)))
    assert run.accounting.shed["unanswered"] == 46
    late = replace(real, client_port=2, id=99)
    run(replace(late, kind=DUMPED, counters=(500, 600, 5, 6)))
    assert len(run.accounting.table) == 4
    run.answer(X)
    run(replace(late, kind=CLOSED, counters=(700, 800, 7, 8)), replace(real, kind=CLOSED, counters=(9, 9, 1, 1)))
    for n in range(1, 50):
        run(replace(FLOW, client=f"10.0.1.{n}", id=n + 1, flags=0, kind=CLOSED, counters=(60, 0, 1, 0)))
    run.answer(X)
    assert run.accounting.observed == [49 * 60 + 709, 809]
    assert run.totals()["deployment", frozenset("x"), "", "10.1.0.1:9092"][0] >= 709


def test_closed_pending_flows_yield_to_established_ones() -> None:
    run = AccountingRun(accounting_for(max_flows=2))
    for port in (1, 2):
        run(replace(FLOW, client_port=port, id=port, kind=CLOSED, counters=(5, 5, 1, 1), flags=int(Flag.ASSURED)))
    run(replace(FLOW, client_port=3, id=3, flags=0))
    assert dict(run.accounting.shed) == {"table_full": 1}
    run(replace(FLOW, client_port=4, id=4, kind=RecordKind.UPDATED, flags=int(Flag.ASSURED)))
    assert dict(run.accounting.shed) == {"table_full": 1, "pending": 1}


def test_a_connectionless_flow_is_confirmed_burst_by_burst() -> None:
    run = AccountingRun(accounting_for(AttributionSettings(namespaces=("ns",), semantics="connection", grace=5.0)))
    flow = replace(FLOW, protocol=17)

    def burst(transmit: int, *owners: Owner) -> None:
        run(replace(flow, kind=DUMPED, counters=(transmit, 0, 1, 0)))
        run.answer(*owners, after=2)
        run.answer(*owners, after=2)

    def connections() -> dict[str, int]:
        table = run.accounting.series_table.freeze()
        named = [(key.owners, int(table.connections[row])) for row, key in enumerate(table.keys) if key and key.owners]
        return {owners[0].name: count for owners, count in named}

    run.catch_up()
    run(flow)
    run.answer(X)
    burst(100, X)
    burst(250, X)
    assert (run.totals(), connections()) == ({named("x"): (250, 0)}, {"x": 1})
    run(replace(flow, kind=DUMPED, counters=(300, 0, 1, 0)))
    assert run.accounting.pending == [50, 0], "it waits for the next answer"
    run.answer(after=2)
    run.answer(after=2)
    assert run.totals() == {named("x"): (250, 0), nobody("unknown"): (50, 0)}, "the answers around it disagree"
    burst(400, X)
    burst(600, X)
    assert run.totals()[named("x")] == (250, 0), "the last answers before and between name nobody"
    burst(750, X)
    assert run.totals()[named("x")] == (400, 0)
    assert connections() == {"x": 1}, "the same connection as before"
    for transmit in (800, 900, 1000):
        burst(transmit, Y)
    assert run.totals()[named("y")] == (100, 0), "another owner on the tuple"
    assert connections() == {"x": 1, "y": 1}
