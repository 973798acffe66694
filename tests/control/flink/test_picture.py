"""The picture of a cluster: tenures from readings."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.control.flink.picture import SETTLE, ClusterPicture, Facts, Held, Reading, merge, place
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import FLINK, Owner
from flowmap.model.tenure import Holders, Tenure

A, B = (place(Address.parse(f"10.0.0.{n}")) for n in (1, 2))
ORDERS, PAYMENTS = (Owner(FLINK, "prod", name, name) for name in ("orders", "payments"))
NEVER = -math.inf


def reading(at: float, shown: dict[Endpoint, dict[Owner, float]], ended: dict[Owner, float] | None = None) -> Reading:
    """A reading from ``at`` to ``at`` + 0.1; every owner with its last sign of life."""
    places = {where: {Held(owner): Facts(alive) for owner, alive in owners.items()} for where, owners in shown.items()}
    return Reading(at, at + 0.1, places, ended or {})


def after(*readings: Reading | None) -> ClusterPicture:
    """A picture after these readings; None is one that failed."""
    picture = ClusterPicture()
    for one in readings:
        if one is None:
            picture.fail()
        else:
            picture.add(one)
    return picture


def test_nothing_is_known_before_a_reading() -> None:
    assert ClusterPicture().holders(A) == Holders((), math.inf, NEVER)


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        pytest.param([reading(1, {})], Holders((), 1.1, 1), id="no owner is an answer"),
        pytest.param(
            [reading(1, {A: {ORDERS: 9}})],
            Holders((Tenure(ORDERS, NEVER, 1.1, 1),), 1.1, 1),
            id="confirmed up to the start of the reading",
        ),
        pytest.param(
            [reading(1, {}), reading(3, {A: {ORDERS: 2.5}})],
            Holders((Tenure(ORDERS, 1, 3.1, 2.5),), 1.1, 3),
            id="not beyond the last sign of life",
        ),
        pytest.param(
            [reading(1, {A: {ORDERS: 1}}), reading(3, {A: {ORDERS: 0.5}}), reading(5, {})],
            Holders((Tenure(ORDERS, NEVER, 1.1, 1, gone_at=5.1),), 1.1, 5),
            id="a sign of life is not taken back",
        ),
        pytest.param(
            [reading(1, {A: {ORDERS: 1}}), reading(3, {A: {PAYMENTS: 3}}, {ORDERS: 2.2})],
            Holders((Tenure(ORDERS, NEVER, 1.1, 1, gone_at=3.1, ended_at=2.2), Tenure(PAYMENTS, 1, 3.1, 3)), 1.1, 3),
            id="one follows another",
        ),
    ],
)
def test_tenures(readings: list[Reading], expected: Holders) -> None:
    assert after(*readings).holders(A) == expected


def test_failed_readings_leave_everything_open() -> None:
    picture = after(reading(1, {A: {ORDERS: 1}}), None)
    assert (picture.holders(A).known_until, picture.holders(B).known_until) == (1, 1)
    assert not picture.settled


def test_after_an_outage_only_what_is_listed_is_known_until_all_are_back() -> None:
    picture = after(reading(1, {A: {ORDERS: 1}}), None, reading(20, {B: {PAYMENTS: 20}}))
    assert picture.holders(A) == Holders((Tenure(ORDERS, NEVER, 1.1, 1),), 1.1, 1)
    assert picture.holders(B).known_until == 20
    assert picture.holders(place(Address.parse("10.0.0.3"))).known_until == 1
    picture.add(reading(40, {A: {ORDERS: 40}, B: {PAYMENTS: 40}}))
    assert picture.settled
    assert picture.holders(A) == Holders((Tenure(ORDERS, NEVER, 1.1, 40),), 1.1, 40)


def test_what_does_not_come_back_is_gone_after_a_while() -> None:
    late = 20.1 + SETTLE
    picture = after(reading(1, {A: {ORDERS: 1}}), None, reading(20, {}), reading(late, {}))
    assert picture.settled
    assert picture.holders(A) == Holders((Tenure(ORDERS, NEVER, 1.1, 1, gone_at=late + 0.1),), 1.1, late)


def test_an_outage_in_which_nothing_was_lost_is_over_at_once() -> None:
    picture = after(reading(1, {A: {ORDERS: 1}}), None, reading(4, {A: {ORDERS: 4}}))
    assert picture.settled
    assert picture.holders(B) == Holders((), 1.1, 4)


def test_a_sign_of_life_confirms_up_to_the_last_reading() -> None:
    picture = after(reading(1, {A: {ORDERS: NEVER, PAYMENTS: NEVER}}))
    picture.confirm(A, [Held(ORDERS)], 7)
    confirmed = {tenure.owner: tenure.seen_until for tenure in picture.holders(A).tenures}
    assert confirmed == {ORDERS: 1, PAYMENTS: NEVER}


def of(*tenures: Tenure, until: float = 5.0) -> Holders:
    return Holders(tenures, 1.0, until)


@pytest.mark.parametrize(
    ("parts", "until"),
    [
        pytest.param([(of(until=5), True), (of(until=4), True)], 4, id="both tell"),
        pytest.param([(of(until=5), True), (of(until=2), False)], 2, id="could be of the one that is down"),
        pytest.param(
            [(of(Tenure(ORDERS, 1, 2, 5)), True), (of(until=2), False)], 5, id="another cluster has the address"
        ),
        pytest.param(
            [(of(Tenure(ORDERS, 1, 2, 5)), True), (of(Tenure(PAYMENTS, 1, 2, 2), until=2), False)],
            2,
            id="both have it",
        ),
        pytest.param(
            [(of(Tenure(ORDERS, 1, 2, 3, gone_at=4)), True), (of(until=2), False)], 2, id="no one has it any more"
        ),
    ],
)
def test_a_cluster_that_is_down_leaves_only_its_own_and_unknown_places_open(
    parts: list[tuple[Holders, bool]], until: float
) -> None:
    assert merge(parts).known_until == until


STEPS = st.lists(
    st.one_of(
        st.none(),
        st.dictionaries(
            st.sampled_from([A, B]), st.dictionaries(st.sampled_from([ORDERS, PAYMENTS]), st.just(math.inf), min_size=1)
        ),
    ),
    max_size=12,
)


@given(STEPS)
def test_tenures_say_what_readings_showed(steps: list[dict[Endpoint, dict[Owner, float]] | None]) -> None:
    """Every reading of an owner lies inside one of its tenures, and tenures of one owner do not overlap."""
    picture, shown = ClusterPicture(), list[tuple[float, Endpoint, Owner]]()
    for number, step in enumerate(steps):
        at = 2.0 * number
        if step is None:
            picture.fail()
            continue
        picture.add(reading(at, step))
        shown += [(at, where, owner) for where, owners in step.items() for owner in owners]
        for where in (A, B):
            holders = picture.holders(where)
            present = {tenure.owner for tenure in holders.tenures if tenure.gone_at == math.inf}
            assert present >= set(step.get(where, {}))
            if holders.known_until == at:
                assert present == set(step.get(where, {}))
            assert holders.known_until <= at
    for at, where, owner in shown:
        own = [tenure for tenure in picture.holders(where).tenures if tenure.owner == owner]
        assert sum(tenure.absent_at < at <= tenure.seen_until for tenure in own) == 1
        assert all(one.gone_at <= other.seen_from for one, other in zip(own, own[1:], strict=False))
