"""The catalog in the daemon: descriptions from both sources, and the gate before every call."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from flowmap.attribute.calls.budget import CallBudget, Permits
from flowmap.attribute.settings import AttributionSettings
from flowmap.control.alibaba.api.packages import FileUse
from flowmap.control.catalog.catalog import CatalogEntry, DeploymentCatalog, JobRun
from flowmap.engine.catalog_adapter import BY_IP, CatalogDirectories, CatalogDirectory, CatalogRefreshers, Gate
from flowmap.model.deployment import DeploymentInfo, JobSelection, Owner
from flowmap.query.live import LiveQueries
from tests.support.accounting import books_for

NS = "ns"
JAR = FileUse("jarUri", "oss://bucket/a.jar", "a.jar")
ENTRY = CatalogEntry("", NS, "id", "listed", "BATCH", "9", "bob", {"team": "x"}, {"running": 2}, (JAR, JAR))
TOLD = DeploymentInfo(
    Owner("w", NS, "id", "told"), "STREAMING", "8", "ann", {"team": "y"}, {"failed": 1}, seen_at=100.0
)
LISTED = DeploymentInfo(
    Owner("w", NS, "id", "listed"),
    "BATCH",
    "9",
    "bob",
    {"team": "x"},
    {"running": 2},
    seen_at=200.0,
    packages=("oss://bucket/a.jar",),
)

DESCRIPTIONS: list[tuple[CatalogEntry | None, float, DeploymentInfo | None, DeploymentInfo | None]] = [
    # in the list, since when, what the last answer said, what comes of it
    (None, 0, None, None),
    (None, 0, TOLD, TOLD),
    (ENTRY, 200, None, LISTED),
    (ENTRY, 200, TOLD, LISTED),
    (ENTRY, 50, TOLD, replace(TOLD, packages=("oss://bucket/a.jar",))),
    (
        replace(ENTRY, labels=None, jobs_by_state=None),
        200,
        TOLD,
        replace(LISTED, labels={"team": "y"}, jobs_by_state={"failed": 1}),
    ),
    (replace(ENTRY, labels={}), 200, TOLD, replace(LISTED, labels={})),
    (replace(ENTRY, labels=None, jobs_by_state=None), 200, None, replace(LISTED, labels={}, jobs_by_state={})),
    (replace(ENTRY, workspace="v"), 200, TOLD, replace(LISTED, owner=Owner("v", NS, "id", "listed"))),
]


def directory(entry: CatalogEntry | None, at: float) -> tuple[DeploymentCatalog, CatalogDirectory]:
    catalog = DeploymentCatalog([NS])
    if entry is not None:
        catalog.take_listing(NS, [entry], complete=True, at=at, now=at)
    return catalog, CatalogDirectory(catalog, "w")


@pytest.mark.parametrize(("entry", "at", "told", "expected"), DESCRIPTIONS)
def test_the_later_word_counts(
    entry: CatalogEntry | None, at: float, told: DeploymentInfo | None, expected: DeploymentInfo | None
) -> None:
    assert directory(entry, at)[1].describe(NS, "id", told) == expected


def test_jobs_belong_to_whoever_was_told_of_or_listed() -> None:
    catalog, found = directory(None, 0)
    before = found.generation
    runs = [JobRun("old", "FAILED", 1, 2, ()), JobRun("new", "RUNNING", 3, None, ())]
    catalog.take_jobs((NS, "id"), runs, complete=True, asked_at=10, skew=0.5)
    assert found.generation > before
    assert found.describe(NS, "id", None) is None
    info = found.describe(NS, "id", TOLD)
    assert info is not None
    assert info.listed is not None
    assert (info.job_selection, [job.job_id for job in info.jobs]) == (JobSelection.LATEST, ["new"])
    assert [(job.job_id, job.over, job.ended_at) for job in info.listed.jobs] == [
        ("new", False, None),
        ("old", True, 2),
    ]


class Owning:
    """A thread that owns a budget, as the writer does."""

    def __init__(self, *, burst: int, max_in_flight: int) -> None:
        self.budget = CallBudget(rate=1e-9, burst=burst, max_in_flight=max_in_flight)
        self.permits = Permits(self.budget)
        self._wanted = threading.Event()
        self._stopping = False
        self.permits.wake = self._wanted.set
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Owning:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._wanted.set()
        self._thread.join()
        self.permits.settle()

    def _run(self) -> None:
        while not self._stopping:
            self._wanted.wait()
            self._wanted.clear()
            self.permits.settle()
            self.permits.grant_first(0)
            self.permits.grant_spare(0)


def test_the_gate_charges_all_but_the_first_exchange_of_a_question() -> None:
    async def go(gate: Gate) -> None:
        (await gate.admit(BY_IP, 1))()
        (await gate.admit(BY_IP, 2))()
        release = await gate.admit("ListJobs", 1)
        assert owner.budget.in_flight == 1
        release()

    with Owning(burst=10, max_in_flight=1) as owner:
        asyncio.run(go(Gate(owner.permits)))
    assert owner.budget.in_flight == 0
    assert owner.budget.available(0) == 1
    assert owner.budget._tokens == pytest.approx(8)


def test_who_is_cancelled_at_the_gate_keeps_nothing() -> None:
    async def go(gate: Gate) -> None:
        for number in range(200):
            first, second = (asyncio.create_task(gate.admit("ListJobs", 1)) for _ in range(2))
            await asyncio.sleep(0.0001 * (number % 5))
            second.cancel()
            release = (await asyncio.gather(first, second, return_exceptions=True))[0]
            assert callable(release)
            release()

    with Owning(burst=10_000, max_in_flight=1) as owner:
        asyncio.run(asyncio.wait_for(go(Gate(owner.permits)), 30))
    assert owner.budget.in_flight == 0


def test_times_follow_a_wall_clock_that_is_set() -> None:
    queries = LiveQueries(books_for(AttributionSettings(namespaces=(NS,))), source="test", epoch=1000.0)
    queries.follow_clock(1000.4)
    assert queries._epoch == 1000.0
    queries.follow_clock(1060.0)
    assert queries._epoch == 1060.0


def test_several_workspaces_are_one_directory() -> None:
    catalogs = [DeploymentCatalog([NS]), DeploymentCatalog([NS, "more"])]
    entries = [replace(ENTRY, deployment_id="a", name="first"), replace(ENTRY, deployment_id="b", name="second")]
    both = CatalogDirectories([CatalogDirectory(catalog, name) for catalog, name in zip(catalogs, "wv", strict=True)])
    before = both.generation
    for catalog, entry in zip(catalogs, entries, strict=True):
        catalog.take_listing(NS, [entry], complete=True, at=100, now=100)
    assert both.generation > before
    described = [both.describe(NS, identity, None) for identity in "ab"]
    assert [one.owner[:4:3] for one in described if one] == [("w", "first"), ("v", "second")]
    assert both.describe(NS, "c", None) is None
    told = replace(TOLD, owner=Owner("v", NS, "a", "told"))
    assert both.describe(NS, "a", told) == told, "the other workspace's deployment of that id is another"
    strange = replace(TOLD, owner=Owner("u", NS, "b", "told"))
    listed = both.describe(NS, "b", strange)
    assert listed is not None and listed.owner.name == "second"
    report = both.report()
    assert (report.deployments, report.suspicious, report.succeeded_at) == (2, False, None), "one namespace is missing"


def test_several_refreshers_are_started_set_and_told_of_as_one() -> None:
    done: list[str] = []

    class Part:
        runs = True

        def __init__(self, name: str, at: float | None) -> None:
            self.name, self.at = name, at

        def start(self) -> None:
            done.append(f"start {self.name}")

        async def aclose(self) -> None:
            done.append(f"close {self.name}")

        def configure(self, *, every: float, label: object) -> None:
            done.append(f"{self.name} {every} {label}")

        def status(self) -> dict[str, object]:
            error = None if self.name == "a" else "no"
            return {"catalog_deployments": 2, "catalog_listed_at": self.at, "catalog_error": error}

    parts = [Part("a", 5.0), Part("b", 3.0)]
    both = CatalogRefreshers(parts)  # type: ignore[arg-type]
    both.start()
    both.configure(every=9.0, label=None)
    asyncio.run(both.aclose())
    assert done == ["start a", "start b", "a 9.0 None", "b 9.0 None", "close a", "close b"]
    assert both.status() == {"catalog_deployments": 4, "catalog_listed_at": 3.0, "catalog_error": "no"}
    parts[1].at = None
    assert (both.status()["catalog_listed_at"], both.runs) == (None, True)
    parts[0].runs = False
    assert not both.runs
