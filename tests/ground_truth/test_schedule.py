"""Plans: the same for the same seed, and within what they promise."""

from __future__ import annotations

import pytest

from tests.ground_truth.schedule import (
    FAULTS,
    MODES,
    UDP,
    Connect,
    Fate,
    Faults,
    Mode,
    Plan,
    Storm,
    Tenure,
    make_plan,
    windows,
)

SEEDS = range(1, 6)


def plans(mode: Mode = "none") -> list[Plan]:
    return [make_plan(seed, duration=60, mode=mode) for seed in SEEDS]


@pytest.mark.parametrize("mode", MODES)
def test_a_plan_is_a_function_of_its_seed(mode: Mode) -> None:
    assert make_plan(7, duration=20, mode=mode) == make_plan(7, duration=20, mode=mode)
    assert make_plan(7, duration=20, mode=mode) != make_plan(8, duration=20, mode=mode)


def tenures(plan: Plan, address: str) -> list[Tenure]:
    return [one for one in plan.actions if isinstance(one, Tenure) and one.address == address]


def connects(plan: Plan) -> list[Connect]:
    return [one for one in plan.actions if isinstance(one, Connect)]


@pytest.mark.parametrize("plan", plans(), ids=lambda plan: str(plan.seed))
def test_connections_start_and_end_within_a_tenure(plan: Plan) -> None:
    for address in plan.addresses:
        held = tenures(plan, address)
        assert held[0].at == 0
        for one in connects(plan):
            if one.address != address:
                continue
            now = [tenure for tenure in held if tenure.at <= one.at][-1]
            later = [tenure.at for tenure in held if tenure.at > one.at]
            assert one.owner in now.owners or (one.owner is None and not now.owners)
            assert not later or one.at + plan.grace < later[0]


@pytest.mark.parametrize("plan", plans(), ids=lambda plan: str(plan.seed))
def test_owners_do_not_return_and_open_tuples_are_unique(plan: Plan) -> None:
    for address in plan.addresses:
        owners = [tenure.owners for tenure in tenures(plan, address) if tenure.owners]
        assert len(owners) == len(set(owners))
    by_number = {one.number: one for one in connects(plan)}
    for one in by_number.values():
        if one.reuses is not None:
            before = by_number[one.reuses]
            assert (one.address, one.port, one.service) == (before.address, before.port, before.service)
            assert before.at + before.life < one.at and before.fate is not Fate.CLOSE and one.protocol != UDP
    fresh = [(one.address, one.port) for one in by_number.values() if one.reuses is None]
    assert len(fresh) == len(set(fresh))


def test_every_kind_of_trouble_happens() -> None:
    made = [one for plan in plans() for one in connects(plan)]
    assert {one.fate for one in made} == set(Fate)
    assert {one.protocol for one in made} == {6, 17}
    assert any(one.reuses is not None and by_other(one, made) for one in made), "a tuple goes to another deployment"
    assert any(one.owner is None for one in made)
    assert any(tenure.stopped for plan in plans() for tenure in plan.actions if isinstance(tenure, Tenure))
    assert all(any(isinstance(one, Storm) for one in plan.actions) for plan in plans("overrun"))
    committed = [one for plan in plans("api") for one in plan.actions if isinstance(one, Faults)]
    assert {fault["kind"] for one in committed for fault in one.faults} == {fault["kind"] for fault in FAULTS}
    for plan in plans("api"):
        away = windows(plan)
        assert len(away) >= 3 and all(start < end < plan.duration for start, end in away), "it comes back in the end"


def by_other(one: Connect, made: list[Connect]) -> bool:
    return any(
        (other.address, other.port, other.service) == (one.address, one.port, one.service) and other.owner != one.owner
        for other in made
    )
