"""Running totals: exact, bounded, frozen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flowmap.export.open_flows import OpenFlows
from flowmap.export.series import KINDS, SeriesKind
from flowmap.export.series_table import Ids, SeriesKey, SeriesTable
from flowmap.export.snapshot import Snapshot
from flowmap.model.deployment import Owner
from flowmap.model.views import ByteCount, Traffic

LABELS = ("namespace", "deployment_id", "deployment", "peer", "protocol")
U64 = np.uint64


def owner(number: int) -> Owner:
    """Without a workspace, since the default labels do not show it."""
    return Owner("", "ns", f"id-{number}", f"job-{number}")


def key(deployment: int = 0, peer: str = "p:1", protocol: str = "tcp") -> SeriesKey:
    return SeriesKey("deployment", (owner(deployment),), "", peer, protocol)


def unknown(peer: str = "p:1", reason: str = "unknown") -> SeriesKey:
    return SeriesKey("unattributed", (), reason, peer, "tcp")


def shared(*numbers: int, peer: str = "p:1") -> SeriesKey:
    return SeriesKey("shared", tuple(owner(number) for number in numbers), "", peer, "tcp")


def make(labels: tuple[str, ...] = LABELS, max_series: int = 100, idle_after: float = 10) -> SeriesTable:
    return SeriesTable(labels=labels, max_series=max_series, idle_after=idle_after)


def ids(*numbers: int) -> Ids:
    return np.array(numbers, np.int32)


def give(series_table: SeriesTable, numbers: list[int], amounts: list[int], *, now: float = 0) -> None:
    column = np.array(amounts, U64)
    zero = np.zeros_like(column)
    series_table.credit(ids(*numbers), column, zero, zero, zero, now=now)


def test_one_series_a_label_set() -> None:
    series_table = make()
    assert series_table.series(key(), now=0) == series_table.series(key(), now=5)
    assert series_table.series(key(1), now=0) != series_table.series(key(), now=0)
    assert series_table.series(key(protocol="udp"), now=0) != series_table.series(key(), now=0)
    assert len(series_table) == 3


def test_each_kind_has_its_labels() -> None:
    series_table = make()
    assert tuple(_text(series_table, wanted) for wanted in (key(), shared(1, 2), unknown(reason="failed"))) == (
        '{namespace="ns",deployment_id="id-0",deployment="job-0",peer="p:1",protocol="tcp"} ',
        '{namespace="ns",deployment_ids="id-1,id-2",deployments="job-1,job-2",peer="p:1",protocol="tcp"} ',
        '{reason="failed",peer="p:1",protocol="tcp"} ',
    )


def _text(series_table: SeriesTable, wanted: SeriesKey) -> str:
    row = series_table.series(wanted, now=0)
    return series_table.freeze().texts[row]


def test_a_series_of_several_keys_has_no_single_owner() -> None:
    series_table = make(("namespace", "protocol"))
    assert series_table.series(key(0), now=0) == series_table.series(key(1, "other-peer"), now=0)
    assert series_table.freeze().keys == (SeriesKey("deployment", (Owner("", "ns", "", ""),), "", "", "tcp"),)


def test_hidden_labels_make_no_series() -> None:
    series_table = make()
    there = SeriesKey("deployment", (owner(0)._replace(workspace="w"),), "", "p:1", "tcp")
    assert series_table.series(there, now=0) == series_table.series(key(), now=0)
    assert series_table.freeze().keys == (key(),)


def test_credit_is_exact() -> None:
    series_table = make()
    row = series_table.series(key(), now=0)
    give(series_table, [row] * 3, [2**63, 1, 2**62 + 1])
    snapshot = series_table.freeze()
    assert int(snapshot.transmit_bytes[row]) == 2**63 + 2**62 + 2
    assert snapshot.totals().deployment == ByteCount(2**63 + 2**62 + 2, 0)


def test_columns_of_one_series() -> None:
    series_table = make()
    row = series_table.series(key(), now=0)
    one, two, three, four = (np.array([n], U64) for n in (1, 2, 3, 4))
    series_table.credit(ids(row), one, two, three, four, now=1)
    series_table.opened(ids(row, row, row))
    series_table.closed(ids(row))
    series_table.retransmitted(ids(row, row), np.array([5, 6], U64))
    snapshot = series_table.freeze(OpenFlows(1, np.array([1]), np.array([0.25])))
    assert snapshot.traffic(row) == Traffic(1, 2, 3, 4, 3, 1), "one of the two open ones is closing"
    assert snapshot.retransmits[row] == 11
    assert snapshot.round_trip[row] == 0.25


def test_the_limit_folds_the_peer_then_the_owner() -> None:
    series_table = make(max_series=14)
    rows = [series_table.series(key(0, f"p:{n}"), now=0) for n in range(12)]
    snapshot = series_table.freeze()
    assert len(set(rows[:9])) == 9
    assert set(rows[9:]) == {rows[9]}
    assert snapshot.keys[rows[9]] == key(0, "other")
    assert (snapshot.count, snapshot.folded) == (10, 3)
    last = series_table.series(key(1), now=0)
    assert series_table.series(key(2), now=0) == last
    assert series_table.series(key(0, "p:0"), now=0) == rows[0]
    assert series_table.freeze().texts[last] == (
        '{namespace="",deployment_id="",deployment="",peer="other",protocol="other"} '
    )
    assert _text(series_table, unknown()) == '{reason="other",peer="other",protocol="other"} '
    assert _text(series_table, shared(1, 2)).startswith('{namespace="",deployment_ids="",deployments="",')
    assert len(series_table) == 13  # the last internal series is not in use
    assert series_table.folded == 7


def test_without_a_peer_label_all_rows_are_used() -> None:
    series_table = make(("deployment_id",), max_series=14)
    rows = {series_table.series(key(n), now=0) for n in range(10)}
    assert (len(rows), series_table.folded) == (10, 0)
    series_table.series(key(10), now=0)
    assert (len(series_table), series_table.folded) == (11, 1)


@pytest.mark.parametrize("max_series", [0, 1, 2, 9, 10, 11, 50])
def test_the_limit(max_series: int) -> None:
    series_table = make(max_series=max_series)
    rows = []
    for number in range(100):
        rows += [series_table.series(make_key(number), now=0) for make_key in (key, lambda n: shared(n, n + 1))]
        rows.append(series_table.series(unknown(f"p:{number}"), now=0))
    assert len(series_table) <= max(max_series, len(KINDS))
    give(series_table, rows, [1] * len(rows))
    totals = series_table.totals()
    assert (totals.deployment.transmit, totals.shared.transmit, totals.unattributed.transmit) == (100, 100, 100)


def test_expired_series_keep_their_bytes() -> None:
    series_table = make(idle_after=10)
    idle, busy = series_table.series(key(0), now=0), series_table.series(key(1), now=0)
    give(series_table, [idle, busy], [7, 8])
    series_table.opened(ids(busy))
    generation = series_table.generation
    assert series_table.expire(now=9.9) == 0
    assert series_table.generation == generation
    assert series_table.expire(now=10) == 1
    assert series_table.generation == generation + 1
    assert series_table.totals().expired == ByteCount(7, 0)
    assert series_table.totals().deployment == ByteCount(8, 0)
    assert series_table.series(key(2), now=10) == idle
    snapshot = series_table.freeze()
    assert snapshot.traffic(idle) == Traffic()
    assert snapshot.keys[idle] == key(2)


def test_idle_time_starts_after_the_last_connection() -> None:
    series_table = make(idle_after=10)
    row = series_table.series(key(), now=0)
    series_table.opened(ids(row))
    assert series_table.expire(now=100) == 0
    series_table.closed(ids(row))
    assert series_table.expire(now=109) == 0
    give(series_table, [row], [0], now=109)
    assert series_table.expire(now=110) == 1


def test_traffic_keeps_a_series() -> None:
    series_table = make(idle_after=10)
    row = series_table.series(key(), now=0)
    give(series_table, [row], [1], now=9)
    assert series_table.expire(now=15) == 0
    assert series_table.expire(now=19) == 1


def test_an_expired_id_is_refused() -> None:
    series_table = make()
    row = series_table.series(key(), now=0)
    series_table.expire(now=1000)
    with pytest.raises(ValueError, match="expired"):
        give(series_table, [row], [1])
    for use in (series_table.opened, series_table.closed):
        with pytest.raises(ValueError, match="expired"):
            use(ids(row))
    assert series_table.totals().expired == ByteCount()


def test_a_frozen_copy_never_changes() -> None:
    series_table = make(idle_after=10)
    row = series_table.series(key(), now=0)
    give(series_table, [row], [7])
    before = series_table.freeze()
    give(series_table, [row], [1], now=1)
    series_table.expire(now=50)
    assert series_table.series(key(5), now=50) == row
    assert (before.keys[row], before.traffic(row).transmit_bytes, before.count) == (key(), 7, 1)
    assert before.texts[row].startswith('{namespace="ns",deployment_id="id-0"')
    with pytest.raises(ValueError, match="read-only"):
        before.transmit_bytes[row] = 0


def test_conserved() -> None:
    series_table = make()
    give(series_table, [series_table.series(key(), now=0), series_table.series(unknown(), now=0)], [5, 6])
    fit = Snapshot(series_table=series_table.freeze(), observed_transmit_bytes=13, pending_transmit_bytes=2)
    assert fit.conserved()
    assert not Snapshot(
        series_table=series_table.freeze(), observed_transmit_bytes=12, pending_transmit_bytes=2
    ).conserved()
    assert not Snapshot(
        series_table=series_table.freeze(),
        observed_transmit_bytes=13,
        pending_transmit_bytes=2,
        pending_receive_bytes=1,
    ).conserved()


KEYS = st.one_of(
    st.builds(key, st.integers(0, 6), st.sampled_from(["p:1", "p:2", "p:3", "other"])),
    st.builds(shared, st.integers(0, 2), st.integers(3, 5)),
    st.builds(unknown, st.sampled_from(["p:1", "p:2"]), st.sampled_from(["unknown", "failed"])),
)


class SeriesTableMachine(RuleBasedStateMachine):
    """Whatever happens, what was credited is somewhere, once, and the bound holds."""

    def __init__(self) -> None:
        super().__init__()
        self.series_table = make(max_series=8, idle_after=5)
        self.now = 0.0
        self.credited: dict[SeriesKind, int] = dict.fromkeys(KINDS, 0)

    @rule(batch=st.lists(st.tuples(KEYS, st.integers(0, 2**40)), max_size=5))
    def credit(self, batch: list[tuple[SeriesKey, int]]) -> None:
        rows = [self.series_table.series(wanted, now=self.now) for wanted, _ in batch]
        for wanted, row in zip([wanted for wanted, _ in batch], rows, strict=True):
            found = self.series_table.freeze().keys[row]
            assert found is not None and found.kind == wanted.kind
            assert found.owners in (wanted.owners, ())
        give(self.series_table, rows, [amount for _, amount in batch], now=self.now)
        for wanted, amount in batch:
            self.credited[wanted.kind] += amount

    @rule(seconds=st.floats(0, 8))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.series_table.expire(now=self.now)

    @invariant()
    def nothing_is_lost(self) -> None:
        totals = self.series_table.totals()
        parts = (totals.deployment, totals.shared, totals.unattributed, totals.expired)
        assert sum(part.transmit for part in parts) == sum(self.credited.values())
        assert all(totals._asdict()[kind].transmit <= self.credited[kind] for kind in KINDS)
        assert len(self.series_table) <= 8 + len(KINDS)

    @invariant()
    def label_sets_are_distinct(self) -> None:
        snapshot = self.series_table.freeze()
        used = [text for text in snapshot.texts if text]
        assert len(set(used)) == len(used) == snapshot.count == sum(len(snapshot.rows(kind)) for kind in KINDS)


TestSeriesTableMachine = SeriesTableMachine.TestCase
TestSeriesTableMachine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2**62)), max_size=30))
def test_the_order_of_credits_does_not_matter(credits: list[tuple[int, int]]) -> None:
    def total(order: list[tuple[int, int]]) -> list[int]:
        series_table = make()
        for number in range(5):
            series_table.series(key(number), now=0)
        give(series_table, [row for row, _ in order], [amount % 2**58 for _, amount in order])
        return [int(count) for count in series_table.freeze().transmit_bytes]

    assert total(credits) == total(sorted(credits))
