"""Rule ``tenure``: the owner is who had the address when the flow began."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.attribute.answers.intervals import Answer
from flowmap.attribute.answers.tenures import judge_tenures
from flowmap.attribute.answers.timeline import Lifetimes
from flowmap.model.deployment import FLINK, Owner, Role
from flowmap.model.tenure import Holders, LocalProcess, Tenure

J, K = (Owner(FLINK, "prod", name, name) for name in ("first", "second"))
TM = Role.TASK_MANAGER.of("prod")
EVER, NEVER = math.inf, -math.inf
ANSWER = Answer(0, 0, frozenset())
RULES = ("unconfirmed",)
Flow = tuple[float, float, float, float, float]
"""born_after, born_by, alive_until, proven_until, ended_by"""


def open_flow(born: float, *, after: float | None = None, until: float = 100, sent: float | None = None) -> Flow:
    return (born - 0.1 if after is None else after, born, until, until if sent is None else sent, EVER)


def closed_flow(born: float, ended: float) -> Flow:
    return (born - 0.1, born, ended, ended, ended)


def judged(
    holders: Holders, *flows: Flow, grace: float = 2.0, cgroups: Sequence[int] = (), pids: Sequence[int] = ()
) -> list[set[str] | str | None]:
    """The owners of each flow, ``unconfirmed``, or None for one that waits."""
    after, by, alive, proven, ended = (np.array(column, np.float64) for column in zip(*flows, strict=True))
    sockets = [np.array(told, np.uint64) if told else None for told in (cgroups, pids)]
    lifetimes = Lifetimes(after, by, alive, proven, ended, np.zeros(len(flows), np.bool_), *sockets)
    position, outcomes = judge_tenures(holders, ANSWER, lifetimes, grace=grace)
    found = [outcomes[one] for one in position]
    return [
        None if one is None else one.rule if one.rule in RULES else {owner.deployment_id for owner in one.owners}
        for one in found
    ]


def holders(*tenures: Tenure, known: tuple[float, float] = (1, 50)) -> Holders:
    return Holders(tenures, *known)


STAYS = Tenure(J, NEVER, 1, 50)
COMES = Tenure(J, 10, 12, 50)
DEAD = Tenure(J, NEVER, 1, 20)
"""Listed, and not heard of since 20."""
KILLED = DEAD._replace(gone_at=40)
CANCELLED = (Tenure(J, NEVER, 1, 20, gone_at=22.1, ended_at=21), Tenure(TM, NEVER, 1, 50))
NEXT = Tenure(K, 20, 22.1, 50, begun_at=21.2)


@pytest.mark.parametrize(
    ("known", "flow", "expected"),
    [
        pytest.param(holders(), open_flow(5), set(), id="no owner"),
        pytest.param(holders(), open_flow(51), None, id="no reading since its start"),
        pytest.param(holders(STAYS), open_flow(5), {"first"}, id="owner at its start"),
        pytest.param(holders(STAYS), closed_flow(5, 5.1), {"first"}, id="short flow of the owner"),
        pytest.param(holders(COMES), open_flow(8), set(), id="older than its later owner"),
        pytest.param(holders(COMES), closed_flow(8, 9), set(), id="over before its later owner came"),
        pytest.param(holders(COMES), open_flow(11), {"first"}, id="between two readings"),
        pytest.param(holders(COMES._replace(begun_at=11.5)), open_flow(11), set(), id="older than the owner's job"),
        pytest.param(holders(DEAD), open_flow(30), None, id="not heard of since: waits"),
        pytest.param(holders(DEAD), open_flow(15), {"first"}, id="heard of after the start"),
        pytest.param(holders(KILLED), open_flow(30), set(), id="a stranger at a dead owner's address"),
        pytest.param(holders(KILLED), closed_flow(30, 31), "unconfirmed", id="the dead owner's or a stranger's"),
        pytest.param(
            holders(KILLED, Tenure(K, 20, 42, 50)), open_flow(30), {"second"}, id="the dead owner's successor"
        ),
        pytest.param(
            holders(KILLED, Tenure(K, 35, 37, 50), Tenure(TM, 35, 37, 50)),
            open_flow(38),
            {"second"},
            id="a new process",
        ),
        pytest.param(holders(*CANCELLED), closed_flow(20.5, 20.6), {"first"}, id="the last flow of a cancelled job"),
        pytest.param(holders(*CANCELLED, NEXT), open_flow(21.5), {"second"}, id="after a take-over"),
        pytest.param(holders(*CANCELLED, NEXT), open_flow(20.5), {"first"}, id="leaked by the job before"),
        pytest.param(
            holders(*CANCELLED, NEXT), open_flow(22, after=17), {"second"}, id="outlived the first of two jobs"
        ),
        pytest.param(
            holders(*CANCELLED, NEXT), closed_flow(22, 22.05)[:1] + (22, 22.05, 22.05, 22.05), {"second"}, id="short"
        ),
        pytest.param(
            holders(*CANCELLED, NEXT),
            (17, 22, 22.05, 22.05, 22.05),
            {"first", "second"},
            id="either of two jobs",
        ),
        pytest.param(holders(STAYS, Tenure(K, NEVER, 1, 50)), open_flow(5), {"first", "second"}, id="two jobs there"),
        pytest.param(
            holders(STAYS), open_flow(0.5, after=NEVER, sent=5), {"first"}, id="older than the readings, lives"
        ),
        pytest.param(holders(STAYS), open_flow(0.5, after=NEVER, sent=0.5), None, id="older than the readings, silent"),
        pytest.param(holders(STAYS), (NEVER, 0.5, 3, 0.5, 3), "unconfirmed", id="older than the readings, over"),
        pytest.param(holders(STAYS), open_flow(0.5), {"first"}, id="began just before the first reading"),
    ],
)
def test_owner_at_the_start(known: Holders, flow: Flow, expected: object) -> None:
    found = [one - {Role.TASK_MANAGER.value} if isinstance(one, set) else one for one in judged(known, flow)]
    assert found == [expected]


HOST = Role.HOST.of("prod")
LEFT, RIGHT = (Tenure(owner, NEVER, 1, 50, process=name) for owner, name in ((J, "a"), (K, "b")))
OTHERS = Tenure(HOST, NEVER, 1, 50)
OWN, MIXED = LocalProcess("a", 50), LocalProcess("a", 50, NEVER, EVER)


@pytest.mark.parametrize(
    ("tenures", "local", "cgroup", "expected"),
    [
        pytest.param([LEFT], [], 50, {"first"}, id="nothing is known of the host"),
        pytest.param([LEFT], [OWN], 0, {"first"}, id="nor of the socket"),
        pytest.param([LEFT], [OWN], 50, {"first"}, id="the TaskManager's socket"),
        pytest.param([LEFT], [OWN], 1, set(), id="a socket of another program"),
        pytest.param([LEFT], [OWN], 70, set(), id="a socket of another container"),
        pytest.param([LEFT], [MIXED], 50, {"first"}, id="a cgroup with others, the address is its own"),
        pytest.param([LEFT], [MIXED], 70, set(), id="but not this one"),
        pytest.param([LEFT, OTHERS], [OWN], 0, {"first", "host"}, id="shared address, socket never read"),
        pytest.param([LEFT, OTHERS], [OWN], 50, {"first"}, id="shared address, its socket"),
        pytest.param([LEFT, OTHERS], [OWN], 70, {"host"}, id="shared address, another socket"),
        pytest.param([LEFT, OTHERS], [MIXED], 50, {"first", "host"}, id="shared address and cgroup"),
        pytest.param([LEFT, RIGHT], [OWN, LocalProcess("b", 60)], 60, {"second"}, id="the second of two"),
        pytest.param([LEFT, RIGHT], [OWN], 50, {"first"}, id="the known one of two"),
        pytest.param([LEFT, RIGHT], [OWN], 70, {"second"}, id="not the known one of two"),
        pytest.param(
            [LEFT, RIGHT], [MIXED, LocalProcess("b", 50, NEVER, EVER)], 50, {"first", "second"}, id="together"
        ),
    ],
)
def test_the_socket_tells_the_process(
    tenures: list[Tenure], local: list[LocalProcess], cgroup: int, expected: set[str]
) -> None:
    known = Holders(tuple(tenures), 1, 50, tuple(local))
    assert judged(known, open_flow(5), cgroups=[cgroup]) == [expected]
    assert judged(known, open_flow(5), open_flow(5), cgroups=[0, cgroup])[1] == expected


A, B = (LocalProcess(name, 50, NEVER, EVER, frozenset(pids)) for name, pids in (("a", (100, 101)), ("b", (200,))))


@pytest.mark.parametrize(
    ("tenures", "local", "pid", "expected"),
    [
        pytest.param([LEFT, OTHERS], [A], 101, {"first"}, id="the TaskManager, or its child"),
        pytest.param([LEFT, OTHERS], [A], 300, {"host"}, id="another program"),
        pytest.param([LEFT, OTHERS], [A], 0, {"first", "host"}, id="not known"),
        pytest.param([LEFT, OTHERS], [MIXED], 300, {"first", "host"}, id="nor the TaskManager's"),
        pytest.param([LEFT, RIGHT], [A, B], 200, {"second"}, id="one of two"),
        pytest.param([LEFT, RIGHT], [A, B], 300, set(), id="none of two"),
        pytest.param([LEFT, RIGHT], [A, MIXED._replace(process="b")], 300, {"second"}, id="not the known one"),
        pytest.param([LEFT, OTHERS], [OWN._replace(pids=A.pids)], 300, {"first"}, id="in a cgroup of its own: a child"),
    ],
)
def test_in_a_cgroup_with_others_the_process_tells(
    tenures: list[Tenure], local: list[LocalProcess], pid: int, expected: set[str]
) -> None:
    known = Holders(tuple(tenures), 1, 50, tuple(local))
    assert judged(known, open_flow(5), cgroups=[50], pids=[pid]) == [expected]
    assert judged(known, open_flow(5, until=6), cgroups=[50], pids=[pid]) == [
        None if not pid and local == [A] else expected
    ]


@pytest.mark.parametrize(
    ("tenures", "flow", "expected"),
    [
        pytest.param([LEFT, OTHERS], open_flow(5, until=6), None, id="of a shared address"),
        pytest.param([LEFT, RIGHT], open_flow(5, until=6), None, id="of two TaskManagers"),
        pytest.param([LEFT], open_flow(5, until=6), {"first"}, id="of one: nothing to wait for"),
        pytest.param([RIGHT, OTHERS], open_flow(5, until=6), {"second", "host"}, id="of a TaskManager elsewhere"),
        pytest.param([LEFT, OTHERS], open_flow(5, until=16), {"first", "host"}, id="not for ever"),
        pytest.param([LEFT, OTHERS], closed_flow(5, 6), {"first", "host"}, id="that is closed: nothing follows"),
    ],
)
def test_a_young_flow_waits_for_its_socket(tenures: list[Tenure], flow: Flow, expected: object) -> None:
    known = Holders(tuple(tenures), 1, 50, (OWN,))
    assert judged(known, flow) == [expected]
    assert judged(known, flow, cgroups=[0]) == [expected]


def test_a_cgroup_that_was_mixed_for_a_while() -> None:
    known = Holders((LEFT, OTHERS), 1, 50, (LocalProcess("a", 50, 10, 20),))
    flows = [open_flow(9), open_flow(12), open_flow(20.05), open_flow(22)]
    both = {"first", "host"}
    assert judged(known, *flows, cgroups=[50] * 4) == [{"first"}, both, both, {"first"}]


def test_a_dead_process_says_nothing_about_another_one_at_its_address() -> None:
    dead = [Tenure(one, NEVER, 1, 20, gone_at=40, process="a") for one in (J, TM)]
    known = holders(*dead, Tenure(TM, NEVER, 1, 50, process="b"))
    assert judged(known, open_flow(30)) == [{"taskmanager"}]


BOUNDS = st.integers(0, 12).map(float)
TENURES = st.lists(
    st.tuples(st.sampled_from([J, K, TM]), BOUNDS, BOUNDS, BOUNDS, st.sampled_from([0.0, 1.0, EVER]), BOUNDS).map(
        lambda made: Tenure(made[0], made[1] - 1, made[1], made[1] + made[2], made[1] + made[2] + made[4], made[5])
    ),
    max_size=4,
)
FLOWS = st.lists(
    st.tuples(BOUNDS, BOUNDS, BOUNDS, st.booleans()).map(
        lambda made: (
            made[0] - 0.5,
            made[0],
            made[0] + made[1],
            min(made[0] + made[1], made[0] + made[2]),
            EVER if made[3] else made[0] + made[1],
        )
    ),
    min_size=1,
    max_size=40,
)


@given(TENURES, FLOWS, BOUNDS)
def test_flows_judged_together_are_judged_as_alone(tenures: list[Tenure], flows: list[Flow], until: float) -> None:
    known = Holders(tuple(tenures), 2.0, until)
    assert judged(known, *flows) == [judged(known, flow)[0] for flow in flows]


@given(TENURES, FLOWS, BOUNDS)
def test_no_owner_without_a_tenure_around_the_start(tenures: list[Tenure], flows: list[Flow], until: float) -> None:
    known = Holders(tuple(tenures), 2.0, until)
    for flow, found in zip(flows, judged(known, *flows), strict=True):
        for name in found if isinstance(found, set) else ():
            own = [tenure for tenure in tenures if tenure.owner.deployment_id == name]
            assert any(tenure.absent_at < flow[1] and flow[0] <= tenure.gone_at for tenure in own)
            assert any(tenure.begun_at < flow[1] for tenure in own)
            assert flow[1] <= until


@pytest.mark.parametrize(
    ("after", "born", "expected"),
    [(19.0, 20.0, {"first"}), (20.0, 20.5, {"first"}), (21.0, 21.5, set())],
    ids=["before its end", "perhaps at its end", "after it"],
)
def test_a_connection_that_begins_as_the_last_job_ends(after: float, born: float, expected: set[str]) -> None:
    ended = Tenure(J, NEVER, 1, 50, ended_at=20)
    assert judged(holders(ended), open_flow(born, after=after)) == [expected]
