"""The catalog: what becomes of listings, in which order whatever they come."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmap.control.catalog.catalog import JOBS_EACH, LISTED_JOBS, DeploymentCatalog, Scope
from flowmap.control.port import ListedDeployment
from flowmap.model.deployment import ENDED, DeploymentKey, Job, Owner

NS = Scope("w", "ns")
KEY = DeploymentKey(*NS, "id")


def entry(letter: str, name: str = "", **changes: Any) -> ListedDeployment:
    owner = Owner(*NS, f"id-{letter}", name or letter)
    plain = ListedDeployment(owner, "STREAMING", "vvr", "ann", {"team": letter}, {"running": 1})
    return replace(plain, **changes)


def key_of(letter: str, scope: Scope = NS) -> DeploymentKey:
    return DeploymentKey(*scope, f"id-{letter}")


def entries(names: str) -> list[ListedDeployment]:
    return [entry(name) for name in names]


def names(catalog: DeploymentCatalog) -> str:
    return "".join(sorted(one.owner.name for one in catalog.entries()))


LISTINGS: list[tuple[list[tuple[str, bool, float]], str, str]] = [
    # listings (names, complete, monotonic second), the last verdict, what is known then
    ([("", True, 0)], "applied", ""),
    ([("abc", True, 0)], "applied", "abc"),
    ([("abc", True, 0), ("bcd", True, 1)], "applied", "bcd"),
    ([("abcd", True, 0), ("ab", True, 1)], "applied", "ab"),
    ([("abcd", True, 0), ("a", True, 1)], "suspicious", "abcd"),
    ([("a", True, 0), ("", True, 1)], "suspicious", "a"),
    ([("abcd", True, 0), ("ae", True, 1)], "suspicious", "abcde"),
    ([("abcd", True, 0), ("", True, 1), ("", True, 10.9)], "suspicious", "abcd"),
    ([("abcd", True, 0), ("", True, 1), ("", True, 11)], "confirmed", ""),
    ([("abcd", True, 0), ("", True, 1), ("abc", True, 5)], "applied", "abc"),
    # what was full again is not half believed already
    ([("abcd", True, 0), ("", True, 1), ("abcd", True, 5), ("", True, 11)], "suspicious", "abcd"),
    # all others: still compared with what was last taken, not with the sum
    ([("ab", True, 0), ("cd", True, 1), ("cd", True, 2)], "suspicious", "abcd"),
    ([("ab", True, 0), ("cd", True, 1), ("cd", True, 11)], "confirmed", "cd"),
    # a listing with something missing only adds, and neither begins nor ends a suspicion
    ([("abc", True, 0), ("d", False, 1)], "incomplete", "abcd"),
    ([("ab", False, 0)], "incomplete", "ab"),
    ([("abcd", True, 0), ("", True, 1), ("ab", False, 5), ("", True, 11)], "confirmed", ""),
    ([("abc", True, 0), ("a", False, 1), ("abc", True, 2)], "applied", "abc"),
]


@pytest.mark.parametrize(("listings", "verdict", "known"), LISTINGS)
def test_listings(listings: list[tuple[str, bool, float]], verdict: str, known: str) -> None:
    catalog = DeploymentCatalog([NS], grace=10)
    last = ""
    for listed, complete, now in listings:
        last = catalog.apply_listing(NS, entries(listed), complete=complete, at=1000 + now, now=now)
    assert (last, names(catalog)) == (verdict, known)
    assert catalog.suspicious == ((NS,) if verdict == "suspicious" else ())
    assert len(catalog) == len(known)


def test_changes_apply_at_once() -> None:
    catalog = DeploymentCatalog([NS])
    catalog.apply_listing(NS, [entry("a")], complete=True, at=1, now=1)
    changed = entry("a", name="b", labels={}, jobs_by_state={"failed": 1}, engine_version="9")
    catalog.apply_listing(NS, [changed], complete=True, at=2, now=2)
    assert catalog.entry(key_of("a")) == (changed, 2)


def test_missing_fields_are_kept() -> None:
    catalog = DeploymentCatalog([NS])
    catalog.apply_listing(NS, [entry("a")], complete=True, at=1, now=1)
    catalog.apply_listing(NS, [entry("a", labels=None, jobs_by_state=None)], complete=True, at=2, now=2)
    assert catalog.entry(key_of("a")) == (entry("a"), 2)


def test_suspicious_listing_updates_its_deployments() -> None:
    catalog = DeploymentCatalog([NS])
    catalog.apply_listing(NS, entries("abc"), complete=True, at=1, now=1)
    renamed = entry("a", name="z")
    assert catalog.apply_listing(NS, [renamed], complete=True, at=2, now=2) == "suspicious"
    assert catalog.entry(key_of("a")) == (renamed, 2)
    assert catalog.entry(key_of("b")) == (entry("b"), 1)  # as old as it is
    assert catalog.apply_listing(NS, [renamed], complete=True, at=3, now=3) == "suspicious"
    assert catalog.entry(key_of("b")) == (entry("b"), 1)


def test_namespaces_are_apart_and_share_the_limit() -> None:
    x, y = Scope("w", "x"), Scope("w", "y")
    catalog = DeploymentCatalog([x, y], limit=4)
    catalog.apply_listing(x, entries("abc"), complete=True, at=1, now=1)
    assert not catalog.succeeded_at
    catalog.apply_listing(y, entries("defg"), complete=True, at=2, now=2)
    assert (len(catalog), catalog.left_out) == (4, 3)
    assert catalog.succeeded_at == 1
    assert catalog.entry(key_of("d", Scope("w", "x"))) is None
    assert catalog.entry(key_of("d", Scope("w", "y"))) is not None
    assert catalog.entry(key_of("d", Scope("w", "z"))) is None
    catalog.apply_listing(y, [], complete=True, at=3, now=3)
    assert (catalog.suspicious, catalog.left_out) == ((y,), 0)
    catalog.apply_listing(x, entries("ab"), complete=False, at=4, now=4)
    assert catalog.succeeded_at == 1  # an incomplete listing is no success


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.sets(st.sampled_from("abcdefgh")), st.booleans(), st.floats(0, 8)), max_size=12),
    st.integers(1, 8),
)
def test_any_listings(steps: list[tuple[set[str], bool, float]], limit: int) -> None:
    catalog, now = DeploymentCatalog([NS], limit=limit, grace=10), 0.0
    for listed, complete, pause in steps:
        now += pause
        before = set(names(catalog))
        verdict = catalog.apply_listing(NS, entries("".join(sorted(listed))), complete=complete, at=now, now=now)
        after = set(names(catalog))
        assert len(catalog) <= limit
        assert after <= before | listed
        assert len(after & listed) == min(limit, len(listed)), "what is listed is known, as far as there is room"
        assert catalog.left_out == max(0, len(listed) - limit)
        if verdict in ("incomplete", "suspicious"):
            assert len(after) == min(limit, len(before | listed)), "nothing that there is room for is lost"
        else:
            assert after <= listed
        if before and not after:
            assert verdict == "confirmed"


def run(number: int, status: str = "RUNNING", start: int | None = None, end: int | None = None) -> Job:
    return Job(f"job-{number}", status, start, end, status in ENDED)


def test_order_of_jobs() -> None:
    catalog = DeploymentCatalog([NS])
    runs = [run(1, "FAILED", 100, 150), run(2, "RUNNING", 50), run(3, "FINISHED", 200, 250), run(4, "STARTING")]
    catalog.apply_jobs(KEY, runs, complete=True, asked_at=300, skew=0.5)
    listing = catalog.jobs(KEY)
    assert listing is not None
    assert [one.job_id for one in listing.jobs] == ["job-4", "job-2", "job-3", "job-1"]
    assert (listing.complete, listing.known_from, listing.skew) == (True, -math.inf, 0.5)
    assert catalog.jobs(key_of("other")) is None


@pytest.mark.parametrize(
    ("runs", "known_from"),
    [
        ([run(n, "FINISHED", n, n + 5) for n in range(1, JOBS_EACH + 4)], 8),
        ([run(n, "FINISHED", n) for n in range(1, JOBS_EACH + 4)], math.inf),
        ([run(n, "RUNNING", n) for n in range(1, JOBS_EACH + 4)], math.inf),
        ([run(n, "FINISHED", n, n + 5) for n in range(1, JOBS_EACH + 1)], -math.inf),
    ],
)
def test_old_jobs_are_dropped(runs: list[Job], known_from: float) -> None:
    catalog = DeploymentCatalog([NS])
    catalog.apply_jobs(KEY, runs, complete=True, asked_at=300, skew=None)
    listing = catalog.jobs(KEY)
    assert listing is not None
    assert len(listing.jobs) == JOBS_EACH
    assert listing.known_from == known_from


def test_oldest_listings_of_jobs_are_dropped() -> None:
    catalog = DeploymentCatalog([NS])
    for number in range(LISTED_JOBS):
        catalog.apply_jobs(key_of(str(number)), [], complete=True, asked_at=1, skew=None)
    catalog.apply_jobs(key_of("0"), [], complete=True, asked_at=2, skew=None)
    catalog.apply_jobs(key_of("new"), [], complete=True, asked_at=3, skew=None)
    assert catalog.jobs(key_of("1")) is None
    assert all(catalog.jobs(key_of(key)) for key in ("0", "2", "new"))
