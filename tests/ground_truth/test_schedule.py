"""Plans: the same for the same seed, and within what they promise."""

from __future__ import annotations

import ipaddress

import pytest

from tests.ground_truth.modes import MODES, V4, V6, Network
from tests.ground_truth.plan import UDP, Connect, Fate, Faults, Plan, Storm, Tenure
from tests.ground_truth.run import UDP_LINGERS
from tests.ground_truth.scenes import OLDER
from tests.ground_truth.schedule import FAULTS, make_plan, windows

SEEDS = range(1, 6)


def plans(mode: str = "none") -> list[Plan]:
    return [make_plan(seed, duration=60, mode=mode) for seed in SEEDS]


@pytest.mark.parametrize("mode", MODES)
def test_a_plan_is_a_function_of_its_seed(mode: str) -> None:
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


@pytest.mark.parametrize("seed", SEEDS)
def test_udp_tuples_change_hands_while_the_kernel_keeps_them(seed: int) -> None:
    made = {one.number: one for one in connects(make_plan(seed, duration=60, mode="udp"))}
    pauses = [
        (one.owner != before.owner, one.at - before.at - before.life)
        for one in made.values()
        if one.protocol == UDP and one.reuses is not None
        for before in [made[one.reuses]]
    ]
    assert all(pause > 0 for _, pause in pauses)
    assert any(other and pause < UDP_LINGERS for other, pause in pauses), "another owner within the time-out"


@pytest.mark.parametrize("seed", SEEDS)
def test_strangers_are_outside_the_networks_and_no_client_inside_is_unowned(seed: int) -> None:
    plan = make_plan(seed, duration=60, mode="dataflow")
    inside = ipaddress.ip_network(MODES["dataflow"].network.prefix(0))
    for one in connects(plan):
        assert (ipaddress.ip_address(one.address) in inside) is (one.owner is not None)


@pytest.mark.parametrize("seed", SEEDS)
def test_programs_of_a_host_are_older_than_its_task_manager(seed: int) -> None:
    plan = make_plan(seed, duration=10, mode="late")
    older = [one for one in connects(plan) if one.stays]
    assert older and all(one.owner is None for one in older)
    returned = 0
    for one in older:
        began = [tenure for tenure in tenures(plan, one.address) if tenure.owners]
        assert one.at + OLDER <= began[-1].at < one.at + one.life
        returned += [tenure.owners for tenure in began] == 2 * [began[0].owners]
    assert 0 < returned < len(older), "some had the address before"


@pytest.mark.parametrize("seed", SEEDS)
def test_neighbours_do_not_declare_what_quiet_jobs_use(seed: int) -> None:
    plan = make_plan(seed, duration=10, mode="hosts")
    deployments = {one.id: one for one in plan.deployments}
    assert plan.hosts
    for quiet in (one for one in plan.deployments if one.undeclared):
        for service in quiet.undeclared:
            for neighbour in plan.hosts[plan.services[service].end[0]]:
                assert service not in deployments[neighbour].services


@pytest.mark.parametrize("network", [V4, V6])
def test_addresses_are_in_the_networks_of_their_side(network: Network) -> None:
    for side, address in enumerate((network.client(23), network.service(23), network.stranger(23))):
        assert ipaddress.ip_address(address) in ipaddress.ip_network(network.prefix(side))
    translated = [ipaddress.ip_address(network.client(n)) in ipaddress.ip_network(network.translated) for n in range(4)]
    assert translated == [False, True, False, True]
