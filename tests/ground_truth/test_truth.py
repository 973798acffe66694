"""Which flows the rules of time let anybody name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.ground_truth.plan import Connect, Deployment, Fate, Plan, Service
from tests.ground_truth.truth import Change, Connection, Knowable, Record, Timing

END = ("10.2.0.10", 9000)
CLIENT = "10.1.0.1"
TIMING = Timing(ttl=2.0, resync=2.0, lingers=4, slack=1.0, recovery=5.0)
DEPLOYMENTS = tuple(Deployment(name, (0,), late=name == "late") for name in ("a", "b", "late"))
PLAN = Plan(1, 60, "none", 2.0, "both", (Service(END, END),), DEPLOYMENTS, (CLIENT,), ())


def flow(
    number: int,
    began: float,
    life: float = 0.1,
    owner: str | None = "a",
    *,
    protocol: int = 6,
    possible: tuple[str, ...] = (),
    older: bool = False,
    failure: str = "",
    sent: float | None = None,
    reuses: int | None = None,
) -> Connection:
    plan = Connect(began, number, CLIENT, number, protocol, 0, owner, life, 0.1, 10, Fate.CLOSE, reuses)
    could = frozenset(possible or ((owner,) if owner else ()))
    last = began + life if sent is None else sent
    return Connection(plan, END, END, could, began, older, 10, 20, 1, 1, last, began + life, failure)


def moves(*changes: tuple[float, str]) -> list[Change]:
    return [Change(at, CLIENT, frozenset({owner} if owner else ())) for at, owner in changes]


STEADY = moves((0, "a"))
MOVING = moves((0, "a"), (20, ""), (21, "b"))
TAKEN = flow(2, 21.5, owner="b")
ROWS = [
    ("the first flow ever, in grace", [flow(0, 1)], STEADY, (), True),
    ("the same while the control plane is away", [flow(0, 1)], STEADY, ((0.5, 3.0),), False),
    ("an answer before and after", [flow(1, 1), flow(0, 10)], STEADY, (), True),
    ("too soon after the address's first flow", [flow(1, 9), flow(0, 10)], STEADY, (), False),
    ("long enough for an answer inside", [flow(1, 9), flow(0, 10, 9)], STEADY, (), True),
    ("long, but silent", [flow(1, 9), flow(0, 10, 9, sent=10.0)], STEADY, (), False),
    ("over just before the address is left", [flow(1, 1), flow(0, 19)], MOVING, (), False),
    ("over well before it", [flow(1, 1), flow(0, 15)], MOVING, (), True),
    ("UDP, whose end is known late", [flow(1, 1, protocol=17), flow(0, 15, protocol=17)], MOVING, (), False),
    ("short, soon after another took it", [flow(1, 1), TAKEN, flow(0, 22, owner="b")], MOVING, (), False),
    ("later", [flow(1, 1), TAKEN, flow(0, 30, owner="b")], MOVING, (), True),
    ("answers only after the control plane came back", [flow(1, 1), flow(0, 10)], STEADY, ((1.5, 4.0),), False),
    ("and much later", [flow(1, 1), flow(0, 20)], STEADY, ((1.5, 4.0),), True),
    ("older than the daemon and short", [flow(0, 1, older=True)], STEADY, (), False),
    ("older than the daemon and long", [flow(0, 1, 9, older=True)], STEADY, (), True),
    ("nobody's", [flow(0, 1, owner=None)], moves((0, "")), (), False),
    ("two could have made it", [flow(0, 1, possible=("a", "b"))], STEADY, (), False),
    ("the kernel saw two flows", [replace(flow(0, 1), parts=2)], STEADY, (), False),
    ("it never came to be", [flow(0, 1, failure="EADDRINUSE")], STEADY, (), False),
    (
        "a deployment the service's last answer did not know",
        [flow(1, 1), flow(2, 21.5, owner="late"), flow(0, 23, owner="late")],
        moves((0, "a"), (20, ""), (21, "late")),
        (),
        False,
    ),
]  # fmt: skip


def plan_of(mode: str) -> Plan:
    return replace(PLAN, mode=mode, deployments=(*DEPLOYMENTS, Deployment("quiet", (0,), undeclared=(0,))))


BY_MODE = [
    # mode, flows, changes, whether the last flow is attributable
    ("sockets", [flow(1, 1), flow(0, 10)], STEADY, False),  # over before the socket table is read
    ("sockets", [flow(1, 9), flow(0, 10, 9)], STEADY, True),
    ("old", [flow(0, 1)], STEADY, False),  # answers are dated too early for grace
    ("old", [flow(1, 3), flow(0, 10)], STEADY, True),
    ("old", [flow(1, 5), flow(0, 10)], STEADY, False),
    ("hosts", [flow(0, 1, 9, owner="quiet")], moves((0, "quiet")), False),
    ("udp", [flow(1, 1, protocol=17), flow(0, 9, protocol=17)], STEADY, True),
    ("udp", [flow(1, 1, protocol=17), flow(0, 9, protocol=17, reuses=1)], STEADY, False),
    ("late", [flow(0, 4, 9)], [Change(0, CLIENT, frozenset("a"), known=3)], True),
    ("late", [flow(0, 2, 9)], [Change(0, CLIENT, frozenset("a"), known=3)], False),
]


@pytest.mark.parametrize(("mode", "flows", "changes", "expected"), BY_MODE)
def test_attributable_by_mode(mode: str, flows: list[Connection], changes: list[Change], expected: bool) -> None:
    assert Knowable(plan_of(mode), Record(flows, changes), TIMING).attributable(flows[-1]) is expected


@pytest.mark.parametrize(
    ("flows", "changes", "blind", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_attributable(
    flows: list[Connection], changes: list[Change], blind: tuple[tuple[float, float], ...], expected: bool
) -> None:
    record = Record(flows, changes, list(blind))
    assert Knowable(PLAN, record, TIMING).attributable(flows[-1]) is expected


def test_partly_readable_answers_make_no_flow_attributable() -> None:
    flows = [flow(1, 1), flow(0, 10, 9)]
    record = Record(flows, STEADY, partial=[(12.0, 13.0)])
    assert [Knowable(PLAN, record, TIMING).attributable(one) for one in flows] == [True, False]


def test_around_a_storm_only_what_lives_long_is_demanded() -> None:
    flows = [flow(1, 1), flow(0, 10), flow(2, 10, 12)]
    knowable = Knowable(PLAN, Record(flows, STEADY, storms=[9.8]), TIMING)
    assert [knowable.attributable(one) for one in flows] == [True, True, True]
    moved = moves((0, "a"), (14, ""))
    knowable = Knowable(PLAN, Record(flows, moved, storms=[9.8]), TIMING)
    assert [knowable.attributable(one) for one in flows] == [True, False, True]
