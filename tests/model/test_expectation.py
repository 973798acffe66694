"""How observed peers depart from what is expected."""

from __future__ import annotations

import pytest

from flowmap.model.deployment import DeploymentInfo, Owner
from flowmap.model.expectation import Expectation, Finding, FindingKind, SeenPeer, judge
from flowmap.model.selection import LabelFilter

A, B = (Owner("w", "ns", f"id-{name}", name) for name in ("orders-a", "orders-b"))
OF_A, OF_B = DeploymentInfo(A, labels={"team": "x"}), DeploymentInfo(B, labels={"team": "y"})
NEW, FORBIDDEN, MISSING, NO_ENTRY = FindingKind


def entry(deployment: str | None, *peers: str, forbidden: tuple[str, ...] = (), team: str = "") -> Expectation:
    return Expectation(peers, forbidden, deployment, LabelFilter("team", (team,)) if team else None)


def seen(*names: str, infos: tuple[DeploymentInfo, ...] = (OF_A,)) -> list[SeenPeer]:
    return [SeenPeer(infos, name) for name in names]


BOTH = (OF_A, OF_B)
JUDGED = [
    # entries, what was seen, findings as (kind, deployments, peer)
    ([entry("orders-a", "kafka")], seen("kafka"), []),
    ([entry("orders-a", "kafka")], seen("kafka", "mysql"), [(NEW, "a", "mysql")]),
    ([entry("orders-a", "kafka")], seen(), [(MISSING, "", "kafka")]),
    ([entry("id-orders-a", "kafka", "mysql")], seen("kafka"), [(MISSING, "", "mysql")]),
    ([entry("orders-a", "k*")], seen("kafka", "krb"), []),
    ([entry("orders-a", "k*")], seen("x"), [(NEW, "a", "x")]),  # a glob is never missing
    ([entry("orders-*", "kafka")], seen("kafka", infos=(OF_B,)), []),
    ([entry("orders-a", "*", forbidden=("mysql*",))], seen("kafka", "mysql-1"), [(FORBIDDEN, "a", "mysql-1")]),
    ([entry("orders-a", "kafka"), entry("orders-*", "mysql")], seen("kafka", "mysql"), []),  # entries add up
    (
        [entry("orders-a", "kafka", "mysql"), entry("orders-*", forbidden=("mysql",))],
        seen("mysql"),
        [(FORBIDDEN, "a", "mysql"), (MISSING, "", "kafka")],
    ),
    ([entry(None, "kafka", team="x")], seen("kafka"), []),
    ([entry(None, "kafka", team="y")], seen("kafka"), [(NO_ENTRY, "a", ""), (MISSING, "", "kafka")]),
    ([], seen("kafka", "mysql"), [(NO_ENTRY, "a", "")]),  # once
    ([entry("orders-a", "kafka")], seen("kafka", "other"), []),  # what was folded is not judged
    # of a set, the one that may have it could be the one that does
    ([entry("orders-a", "kafka"), entry("orders-b", "mysql")], seen("kafka", "mysql", infos=BOTH), []),
    ([entry("orders-*", "kafka")], seen("kafka", "mysql", infos=BOTH), [(NEW, "ab", "mysql")]),
    ([entry("orders-a", "kafka")], seen("kafka", "mysql", infos=BOTH), [(NO_ENTRY, "b", "")]),
    ([entry("orders-a", "m", forbidden=("m",)), entry("orders-b", "m")], seen("m", infos=BOTH), []),
    ([entry("orders-*", "*", forbidden=("m",))], seen("m", infos=BOTH), [(FORBIDDEN, "ab", "m")]),
]


@pytest.mark.parametrize(("entries", "observed", "expected"), JUDGED)
def test_judged(
    entries: list[Expectation], observed: list[SeenPeer], expected: list[tuple[FindingKind, str, str]]
) -> None:
    for order in (observed, observed[::-1]):
        found = [(one.kind, "".join(owner.name[-1] for owner in one.owners), one.peer) for one in judge(entries, order)]
        assert found == expected


def test_a_missing_peer_names_its_entry() -> None:
    one = Expectation(("kafka",), (), "orders-*", LabelFilter("team", ("x", "y")))
    assert judge([one], []) == [Finding(MISSING, (), "orders-* team=x,y", "kafka")]
