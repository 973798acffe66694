"""The harness can fail: what is wrong is found to be wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowmap.attribute.questions import UNREADABLE
from tests.ground_truth.observer import Imbalance, Seen, fallen, imbalances
from tests.ground_truth.plan import TCP, UDP, Connect, Fate
from tests.ground_truth.truth import Connection
from tests.ground_truth.verdict import Bytes, Series, Verdict, error_in, explain, judge, matched, udp_bytes

END = ("10.2.0.10", 9000)


def connection(
    number: int = 0, owner: str | None = "a", *, began: float = 100.0, possible: tuple[str, ...] = (), port: int = 5
) -> Connection:
    plan = Connect(0, number, "10.1.0.1", port, TCP, 0, owner, 1.0, 0.1, 10, Fate.CLOSE)
    could = frozenset(possible or ((owner,) if owner else ()))
    return Connection(plan, END, END, could, began, ended=began + 1)


def said(state: str, *owners: str, started: float | None = 100.1, at: float = 101.0) -> Seen:
    return Seen(at, started, state, frozenset(owners), (10, 20), {})


def listing(one: Connection, *seen: Seen) -> dict[tuple[str, str, int, str, int], list[Seen]]:
    return {one.tuple: list(seen)}


ERRORS = [
    (connection(), said("attributed", "a"), ""),
    (connection(), said("pending"), ""),
    (connection(), said("unknown"), ""),
    (connection(), said("attributed", "b"), "it is of a, and was said to be of b"),
    (connection(), said("shared", "b", "c"), "it is of a, and was said to be of b, c"),
    (connection(), said("shared", "a", "b"), "it is of a; b had nothing to do with it"),
    (connection(possible=("a", "b")), said("shared", "a", "b"), ""),
    (connection(possible=("a", "b")), said("attributed", "b"), "it is of a, and was said to be of b"),
    (connection(), said("shared", "a", UNREADABLE), ""),
    (connection(owner=None), said("unknown"), ""),
    (connection(owner=None), said("attributed", "a"), "it is nobody's, and was said to be of a"),
]


@pytest.mark.parametrize(("one", "seen", "error"), ERRORS)
def test_what_counts_as_a_wrong_name(one: Connection, seen: Seen, error: str) -> None:
    assert error_in(one, seen) == error


def verdict(one: Connection, *seen: Seen, opened: dict[Series, int] | None = None, must: bool = True) -> Verdict:
    return judge([one], {one.plan.number} if must else set(), listing(one, *seen), opened or {})


def test_a_right_name_is_right() -> None:
    found = verdict(connection(), said("pending"), said("attributed", "a"))
    assert (found.right, found.wrong, found.attributed, found.share) == (1, [], 1, 100.0)


def test_a_wrong_name_is_found_though_it_is_corrected_later() -> None:
    found = verdict(connection(), said("attributed", "b"), said("attributed", "a"))
    assert [wrong.what for wrong in found.wrong] == ["it is of a, and was said to be of b"]
    assert "b" in str(explain(found.wrong[0], []))


def test_a_missing_name_lowers_the_share() -> None:
    found = verdict(connection(), said("unknown"))
    assert (found.right, found.wrong, found.share, found.states["unknown"]) == (0, [], 0.0, 1)
    assert [one.plan.number for one, _ in found.missed] == [0]
    assert verdict(connection(), said("unknown"), must=False).share == 100.0
    assert verdict(connection()).states["never listed"] == 1


PEER = f"{END[0]}:{END[1]}"


def test_more_connections_than_were_made_are_an_error() -> None:
    assert not verdict(connection(), said("attributed", "a"), opened={("a", PEER, "tcp"): 1}).wrong
    found = verdict(connection(), said("attributed", "a"), opened={("a", PEER, "tcp"): 2})
    assert [wrong.connection for wrong in found.wrong] == [None]
    assert verdict(connection(), said("pending"), opened={("b", PEER, "tcp"): 1}).wrong
    assert verdict(connection(owner=None), said("pending"), opened={("b", PEER, "tcp"): 1}).wrong


def test_silence_that_outlasts_the_kernel_makes_two_flows_of_a_connection() -> None:
    counted = {("a", PEER, "tcp"): 2}
    assert verdict(connection(), said("attributed", "a"), opened=counted).wrong
    assert not verdict(replace(connection(), parts=2), said("attributed", "a"), opened=counted).wrong


def test_a_listed_flow_is_the_last_of_its_tuple_that_had_begun() -> None:
    first, second = connection(0, "a", began=100), connection(1, "b", began=110)
    seen = {first.tuple: [said("attributed", "a"), said("attributed", "b", started=110.02)]}
    assert {number: len(found) for number, found in matched([first, second], seen).items()} == {0: 1, 1: 1}
    assert not judge([first, second], {0, 1}, seen, {}).wrong
    older = {
        first.tuple: [said("attributed", "a", started=None, at=109), said("attributed", "b", started=None, at=120)]
    }
    assert not judge([first, second], {0, 1}, older, {}).wrong
    stolen = {first.tuple: [said("attributed", "a"), said("attributed", "a", started=110.02)]}
    assert [wrong.connection for wrong in judge([first, second], {0, 1}, stolen, {}).wrong] == [second]


GOOD = Bytes(1, (), (), (100, 200), (100, 200), {"a": (60, 70)}, {"a": (60, 70)})

BYTES = [
    (GOOD, False, 0),
    (replace(GOOD, observed=(99, 200)), False, 1),
    (replace(GOOD, observed=(99, 200)), True, 0),
    (replace(GOOD, observed=(101, 200)), True, 1),
    (replace(GOOD, named={"a": (61, 70)}), False, 1),
    (replace(GOOD, named={"b": (1, 0)}), False, 1),
    (replace(GOOD, imbalances=(Imbalance(0, "transmit", 5, 4),)), True, 1),
    (replace(GOOD, fallen=("x",)), True, 1),
    (replace(GOOD, named_udp={("a", PEER): (5, 9)}, sent_udp={("a", PEER): (5, 9)}), False, 0),
    (replace(GOOD, named_udp={("a", PEER): (5, 9)}, sent_udp={("a", PEER): (5, 8)}), False, 1),
    (replace(GOOD, named_udp={("b", PEER): (1, 0)}, sent_udp={("a", PEER): (5, 9)}), False, 1),
]


@pytest.mark.parametrize(("counted", "losses_allowed", "faults"), BYTES)
def test_lost_and_invented_bytes_are_reported(counted: Bytes, losses_allowed: bool, faults: int) -> None:
    assert len(counted.faults(losses_allowed=losses_allowed)) == faults


def test_bytes_of_udp_are_known_by_deployment_and_peer() -> None:
    made = [replace(connection(n, owner), sent=10, exchanges=2) for n, owner in enumerate(("a", "a", "b", None))]
    for one in made[1:]:
        one.plan = replace(one.plan, protocol=UDP)
    assert udp_bytes(made, 28) == {("a", PEER): (66, 76), ("b", PEER): (66, 76)}


def page(observed: float, named: float, waiting: float) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        ("flowmap_observed_transmit_bytes_total", frozenset({("source", "conntrack")})): observed,
        ("flowmap_deployment_transmit_bytes_total", frozenset({("deployment_id", "a")})): named,
        ("flowmap_pending_transmit_bytes", frozenset()): waiting,
    }


def test_a_page_that_does_not_add_up_is_noticed() -> None:
    assert imbalances(page(10, 6, 4), 1.0) == []
    assert imbalances(page(10, 6, 3), 1.0) == [Imbalance(1.0, "transmit", 10, 9)]
    assert imbalances(page(10, 6, 5), 1.0) == [Imbalance(1.0, "transmit", 10, 11)]


def test_a_counter_that_falls_is_noticed_and_a_gauge_may() -> None:
    assert fallen(page(10, 6, 4), page(10, 6, 0)) == []
    assert len(fallen(page(10, 6, 4), page(10, 5, 4))) == 1
    assert len(fallen(page(10, 6, 4), {})) == 2
