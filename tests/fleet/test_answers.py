"""Signed answers: read back exactly, refused when one bit differs, and their instants hold the truth."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.control.port import ListedDeployment
from flowmap.fleet.answers import KEPT, MAX_SIZE, Refused, Shared, Signer, carries, instants_of
from flowmap.fleet.requests import Kind
from flowmap.fleet.server.clock import Bounds
from flowmap.model.deployment import DeploymentInfo, Job, Owner

OWNER = Owner("ws", "ns", "d-1", "orders")
INFO = DeploymentInfo(OWNER, "STREAMING", "1.17", "creator", {"team": "a"}, {"running": 1}, seen_at=5.0)
ANSWER = Shared(100.0, 100.5, Bounds(-0.5, 0.5), owners=(INFO,))
LISTING = replace(
    ANSWER, owners=(), deployments=tuple(ListedDeployment(OWNER, labels={"n": "v" * n}) for n in range(99))
)
JOBS = replace(
    ANSWER, owners=(), jobs=(Job("j", "RUNNING", 1.0), Job("k", "FAILED", 1.0, 2.0, over=True)), gap="a page"
)
KEY, OTHER = b"k" * 32, b"o" * 32


@pytest.mark.parametrize("shared", [ANSWER, LISTING, JOBS, replace(ANSWER, owners=(), unreadable=3)])
def test_an_answer_is_read_back(shared: Shared) -> None:
    signer = Signer("scope", [KEY])
    data = signer.encode("question", shared)
    assert data is not None and signer.decode("question", data) == shared


def test_a_large_answer_is_compressed_and_one_too_large_is_not_shared() -> None:
    signer = Signer("scope", [KEY])
    small, large = signer.encode("q", ANSWER), signer.encode("q", LISTING)
    assert small is not None and large is not None
    assert (small[:1], large[:1]) == (b"j", b"z") and len(large) < 4000
    assert signer.encode("q", replace(ANSWER, gap="x" * MAX_SIZE)) is None


@given(st.data())
def test_no_bit_can_be_changed(data: st.DataObject) -> None:
    signer = Signer("scope", [KEY])
    whole = bytearray(signer.encode("question", ANSWER) or b"")
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Refused) as refused:
        signer.decode("question", bytes(whole))
    assert refused.value.reason == "signature"


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        Signer("scope", [KEY]).decode("question", data)


@pytest.mark.parametrize(
    ("signer", "question"),
    [
        (Signer("scope", [OTHER]), "question"),
        (Signer("other scope", [KEY]), "question"),
        (Signer("scope", [KEY]), "other question"),
        (Signer("scope", []), "question"),
    ],
    ids=["key", "scope", "question", "no key"],
)
def test_an_answer_counts_for_its_fleet_scope_and_question_only(signer: Signer, question: str) -> None:
    data = Signer("scope", [KEY]).encode("question", ANSWER)
    with pytest.raises(Refused):
        signer.decode(question, data or b"")


def test_a_key_is_replaced_host_by_host() -> None:
    old, both, new = Signer("s", [OTHER]), Signer("s", [KEY, OTHER]), Signer("s", [KEY])
    from_old, from_both = old.encode("q", ANSWER) or b"", both.encode("q", ANSWER) or b""
    assert both.decode("q", from_old) == ANSWER
    assert new.decode("q", from_both) == ANSWER
    with pytest.raises(Refused):
        new.decode("q", from_old)


@pytest.mark.parametrize("body", [b"{}", b"[]", b"not json", b'{"asked": 1, "answered": 2, "ahead": [0]}'])
def test_a_signed_answer_that_cannot_be_read_is_refused(body: bytes) -> None:
    signer = Signer("scope", [KEY])
    for form in (b"j", b"z"):
        with pytest.raises(Refused) as refused:
            signer.decode("q", signer.seal("q", form, body))
        assert refused.value.reason == "malformed"


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(0, 1), st.floats(0, 1), st.floats(0, 5), st.floats(0, 60))
def test_the_instants_hold_the_truth(
    asker: float, receiver: float, asker_error: float, own_error: float, took: float, ago: float
) -> None:
    # True time is the server's. The asker's wall clock and the receiver's monotonic clock are off by any amount.
    answered = 10_000.0 - ago
    asked = answered - took
    shared = Shared(asked - asker, answered - asker, Bounds(asker - asker_error, asker + asker_error / 3))
    own = Bounds(receiver - own_error / 2, receiver + own_error)
    now = 10_000.0 - receiver
    instants = instants_of(shared, own, now=now, wall=now)
    assert instants.asked <= asked - receiver + 1e-6
    assert min(answered - receiver, now) <= instants.answered + 1e-6
    assert instants.answered <= now
    assert instants.uncertainty == pytest.approx(4 / 3 * asker_error + 1.5 * own_error, abs=1e-6)


@pytest.mark.parametrize(
    ("shared", "own", "why"),
    [
        (ANSWER, Bounds(0, 0), None),
        (replace(ANSWER, answered=99.0), Bounds(0, 0), "contradict"),
        (replace(ANSWER, ahead=Bounds(1, 0)), Bounds(0, 0), "contradict"),
        (replace(ANSWER, asked=300.0, answered=300.0), Bounds(0, 0), "future"),
        (ANSWER, Bounds(-100, -100), "future"),
        (ANSWER, Bounds(KEPT, KEPT), "old"),
    ],
)
def test_impossible_times_are_refused(shared: Shared, own: Bounds, why: str | None) -> None:
    if why is None:
        assert instants_of(shared, own, now=110.0, wall=110.0).asked == pytest.approx(99.5)
        return
    with pytest.raises(Refused, match=why) as refused:
        instants_of(shared, own, now=110.0, wall=110.0)
    assert refused.value.reason == "time"


@pytest.mark.parametrize(
    ("ahead", "own", "wall", "skew"),
    [
        (Bounds(-0.1, 0.1), Bounds(0, 0), 110.0, 0.0),
        (Bounds(3, 5), Bounds(4, 4), 110.0, 4.0),  # the asker's clock is 4 s late
        (Bounds(0, 0), Bounds(0, 0), 117.0, 7.0),  # this host's wall clock is 7 s early
    ],
)
def test_wrong_clocks_are_reported(ahead: Bounds, own: Bounds, wall: float, skew: float) -> None:
    shared = replace(ANSWER, ahead=ahead)
    assert instants_of(shared, own, now=110.0, wall=wall).skew == pytest.approx(skew)


@pytest.mark.parametrize("kind", list(Kind))
def test_an_answer_of_another_kind_does_not_count(kind: Kind) -> None:
    fitting = {Kind.OWNERS: ANSWER, Kind.DEPLOYMENTS: LISTING, Kind.JOBS: JOBS}
    assert [other for other, shared in fitting.items() if carries(kind, shared)] == [kind]
