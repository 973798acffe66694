"""The catalog: what becomes of listings, in which order whatever they come."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmap.control.alibaba.api.models import Deployment, Job
from flowmap.control.catalog.catalog import JOBS_EACH, LISTED_JOBS, CatalogEntry, DeploymentCatalog, JobRun

NS = "ns"


def entry(letter: str, **changes: Any) -> CatalogEntry:
    plain = CatalogEntry(
        "w", NS, f"id-{letter}", letter, "STREAMING", "vvr", "ann", {"team": letter}, {"running": 1}, ()
    )
    return replace(plain, **changes)


def entries(names: str) -> list[CatalogEntry]:
    return [entry(name) for name in names]


def names(catalog: DeploymentCatalog) -> str:
    return "".join(sorted(one.name for one in catalog.entries()))


LISTINGS: list[tuple[list[tuple[str, bool, float]], str, str]] = [
    # listings (names, complete, monotonic second), the last verdict, what is known then
    ([("", True, 0)], "taken", ""),
    ([("abc", True, 0)], "taken", "abc"),
    ([("abc", True, 0), ("bcd", True, 1)], "taken", "bcd"),
    ([("abcd", True, 0), ("ab", True, 1)], "taken", "ab"),
    ([("abcd", True, 0), ("a", True, 1)], "suspicious", "abcd"),
    ([("a", True, 0), ("", True, 1)], "suspicious", "a"),
    ([("abcd", True, 0), ("ae", True, 1)], "suspicious", "abcde"),
    ([("abcd", True, 0), ("", True, 1), ("", True, 10.9)], "suspicious", "abcd"),
    ([("abcd", True, 0), ("", True, 1), ("", True, 11)], "believed", ""),
    ([("abcd", True, 0), ("", True, 1), ("abc", True, 5)], "taken", "abc"),
    # what was full again is not half believed already
    ([("abcd", True, 0), ("", True, 1), ("abcd", True, 5), ("", True, 11)], "suspicious", "abcd"),
    # all others: still compared with what was last taken, not with the sum
    ([("ab", True, 0), ("cd", True, 1), ("cd", True, 2)], "suspicious", "abcd"),
    ([("ab", True, 0), ("cd", True, 1), ("cd", True, 11)], "believed", "cd"),
    # a listing with something missing only adds, and neither begins nor ends a suspicion
    ([("abc", True, 0), ("d", False, 1)], "incomplete", "abcd"),
    ([("ab", False, 0)], "incomplete", "ab"),
    ([("abcd", True, 0), ("", True, 1), ("ab", False, 5), ("", True, 11)], "believed", ""),
    ([("abc", True, 0), ("a", False, 1), ("abc", True, 2)], "taken", "abc"),
]


@pytest.mark.parametrize(("listings", "verdict", "known"), LISTINGS)
def test_listings(listings: list[tuple[str, bool, float]], verdict: str, known: str) -> None:
    catalog = DeploymentCatalog([NS], grace=10)
    last = ""
    for listed, complete, now in listings:
        last = catalog.take_listing(NS, entries(listed), complete=complete, at=1000 + now, now=now)
    assert (last, names(catalog)) == (verdict, known)
    assert catalog.suspicious == ((NS,) if verdict == "suspicious" else ())
    assert len(catalog) == len(known)


def test_a_new_name_new_labels_and_a_new_state_are_taken_over() -> None:
    catalog = DeploymentCatalog([NS])
    catalog.take_listing(NS, [entry("a")], complete=True, at=1, now=1)
    changed = entry("a", name="b", labels={}, jobs_by_state={"failed": 1}, engine_version="9")
    catalog.take_listing(NS, [changed], complete=True, at=2, now=2)
    assert catalog.entry(NS, "id-a") == (changed, 2)


def test_what_a_listing_leaves_out_of_a_deployment_stays_as_it_was() -> None:
    catalog = DeploymentCatalog([NS])
    catalog.take_listing(NS, [entry("a")], complete=True, at=1, now=1)
    catalog.take_listing(NS, [entry("a", labels=None, jobs_by_state=None)], complete=True, at=2, now=2)
    assert catalog.entry(NS, "id-a") == (entry("a"), 2)


def test_even_a_suspicious_listing_tells_of_those_it_has() -> None:
    catalog = DeploymentCatalog([NS])
    catalog.take_listing(NS, entries("abc"), complete=True, at=1, now=1)
    renamed = entry("a", name="z")
    assert catalog.take_listing(NS, [renamed], complete=True, at=2, now=2) == "suspicious"
    assert catalog.entry(NS, "id-a") == (renamed, 2)
    assert catalog.entry(NS, "id-b") == (entry("b"), 1)  # as old as it is
    assert catalog.take_listing(NS, [renamed], complete=True, at=3, now=3) == "suspicious"
    assert catalog.entry(NS, "id-b") == (entry("b"), 1)


def test_namespaces_are_apart_and_share_the_limit() -> None:
    catalog = DeploymentCatalog(["x", "y"], limit=4)
    catalog.take_listing("x", entries("abc"), complete=True, at=1, now=1)
    assert not catalog.succeeded_at
    catalog.take_listing("y", entries("defg"), complete=True, at=2, now=2)
    assert (len(catalog), catalog.left_out) == (4, 3)
    assert catalog.succeeded_at == 1
    assert catalog.entry("x", "id-d") is None
    assert catalog.entry("y", "id-d") is not None
    assert catalog.entry("z", "id-d") is None
    catalog.take_listing("y", [], complete=True, at=3, now=3)
    assert (catalog.suspicious, catalog.left_out) == (("y",), 0)
    catalog.take_listing("x", entries("ab"), complete=False, at=4, now=4)
    assert catalog.succeeded_at == 1  # an incomplete listing is no success


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.sets(st.sampled_from("abcdefgh")), st.booleans(), st.floats(0, 8)), max_size=12),
    st.integers(1, 8),
)
def test_whatever_comes_nothing_is_lost_before_its_time(steps: list[tuple[set[str], bool, float]], limit: int) -> None:
    catalog, now = DeploymentCatalog([NS], limit=limit, grace=10), 0.0
    for listed, complete, pause in steps:
        now += pause
        before = set(names(catalog))
        verdict = catalog.take_listing(NS, entries("".join(sorted(listed))), complete=complete, at=now, now=now)
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
            assert verdict == "believed"


def run(number: int, status: str = "RUNNING", start: int | None = None, end: int | None = None) -> JobRun:
    return JobRun(f"job-{number}", status, start, end, ())


def test_jobs_not_over_come_first_then_the_newest() -> None:
    catalog = DeploymentCatalog([NS])
    runs = [run(1, "FAILED", 100, 150), run(2, "RUNNING", 50), run(3, "FINISHED", 200, 250), run(4, "STARTING")]
    catalog.take_jobs((NS, "id"), runs, complete=True, asked_at=300, skew=0.5)
    listing = catalog.jobs(NS, "id")
    assert listing is not None
    assert [one.job_id for one in listing.jobs] == ["job-4", "job-2", "job-3", "job-1"]
    assert (listing.complete, listing.known_from, listing.skew) == (True, -math.inf, 0.5)
    assert catalog.jobs(NS, "other") is None


@pytest.mark.parametrize(
    ("runs", "known_from"),
    [
        ([run(n, "FINISHED", n, n + 5) for n in range(1, JOBS_EACH + 4)], 8),
        ([run(n, "FINISHED", n) for n in range(1, JOBS_EACH + 4)], math.inf),
        ([run(n, "RUNNING", n) for n in range(1, JOBS_EACH + 4)], math.inf),
        ([run(n, "FINISHED", n, n + 5) for n in range(1, JOBS_EACH + 1)], -math.inf),
    ],
)
def test_old_jobs_are_left_out_and_it_is_said_since_when_all_are_known(runs: list[JobRun], known_from: float) -> None:
    catalog = DeploymentCatalog([NS])
    catalog.take_jobs((NS, "id"), runs, complete=True, asked_at=300, skew=None)
    listing = catalog.jobs(NS, "id")
    assert listing is not None
    assert len(listing.jobs) == JOBS_EACH
    assert listing.known_from == known_from


def test_the_jobs_of_those_longest_not_listed_go_first() -> None:
    catalog = DeploymentCatalog([NS])
    for number in range(LISTED_JOBS):
        catalog.take_jobs((NS, str(number)), [], complete=True, asked_at=1, skew=None)
    catalog.take_jobs((NS, "0"), [], complete=True, asked_at=2, skew=None)
    catalog.take_jobs((NS, "new"), [], complete=True, asked_at=3, skew=None)
    assert catalog.jobs(NS, "1") is None
    assert all(catalog.jobs(NS, key) for key in ("0", "2", "new"))


JOBS: list[tuple[dict[str, Any], JobRun]] = [
    ({"jobId": "j"}, JobRun("j", "", None, None, ())),
    (
        {"jobId": "j", "startTime": 1660190835, "endTime": 1660277235, "status": {"currentJobStatus": "FAILED"}},
        JobRun("j", "FAILED", 1660190835, 1660277235, ()),
    ),
    # as in the document's example: a job that runs and has an end
    (
        {"jobId": "j", "startTime": 1660190835, "endTime": 1660277235, "status": {"currentJobStatus": "RUNNING"}},
        JobRun("j", "RUNNING", 1660190835, None, ()),
    ),
    (
        {"jobId": "j", "startTime": 0, "endTime": 0, "status": {"currentJobStatus": "cancelled"}},
        JobRun("j", "CANCELLED", None, None, ()),
    ),
    ({"jobId": "j", "startTime": 1660190835000}, JobRun("j", "", 1660190835, None, ())),
]


@pytest.mark.parametrize(("element", "kept"), JOBS)
def test_what_is_kept_of_a_job(element: dict[str, Any], kept: JobRun) -> None:
    assert JobRun.of(Job.model_validate(element)) == kept


def test_what_is_kept_of_a_deployment() -> None:
    element = {
        "deploymentId": "id",
        "creator": "27",
        "artifact": {
            "kind": "JAR",
            "jarArtifact": {"jarUri": "https://host/a.jar?Signature=secret", "mainArgs": "--password hunter2"},
            "sqlArtifact": {"sqlScript": "SELECT 'secret'"},
        },
    }
    kept = CatalogEntry.of(Deployment.model_validate(element), NS)
    assert (kept.workspace, kept.namespace, kept.name, kept.creator) == ("", NS, "id", "27")
    assert (kept.labels, kept.jobs_by_state) == (None, None)
    assert [use.name for use in kept.files] == ["a.jar"]
    assert "secret" not in repr(kept)
    assert "hunter2" not in repr(kept)
