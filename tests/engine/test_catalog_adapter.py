"""The catalog in the daemon: descriptions from both sources, and the gate before every call."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from flowmap.attribute.calls.budget import CallBudget, Permits
from flowmap.attribute.settings import AttributionSettings
from flowmap.control.alibaba.catalog.catalog import CatalogEntry, DeploymentCatalog, JobRun
from flowmap.control.alibaba.catalog.packages import FileUse
from flowmap.engine.catalog_adapter import BY_IP, CatalogDirectories, CatalogDirectory, CatalogRefreshers, Gate
from flowmap.model.deployment import DeploymentInfo, DeploymentKey, JobSelection, Owner
from flowmap.query.live import LiveQueries
from tests.support.accounting import accounting_for

NS = "ns"
KEY = DeploymentKey("w", NS, "id")
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
def test_newer_description_wins(
    entry: CatalogEntry | None, at: float, told: DeploymentInfo | None, expected: DeploymentInfo | None
) -> None:
    assert directory(entry, at)[1].describe(KEY, told) == expected


def test_jobs_of_listed_deployments() -> None:
    catalog, found = directory(None, 0)
    before = found.generation
    runs = [JobRun("old", "FAILED", 1, 2, ()), JobRun("new", "RUNNING", 3, None, ())]
    catalog.take_jobs((NS, "id"), runs, complete=True, asked_at=10, skew=0.5)
    assert found.generation > before
    assert found.describe(KEY, None) is None
    info = found.describe(KEY, TOLD)
    assert info is not None
    assert info.listed is not None
    assert (info.job_selection, [job.job_id for job in info.jobs]) == (JobSelection.LATEST, ["new"])
    assert [(job.job_id, job.over, job.ended_at) for job in info.listed.jobs] == [
        ("new", False, None),
        ("old", True, 2),
    ]


class BudgetThread:
    """A thread that owns a budget, as the writer does."""

    def __init__(self, *, burst: int, max_in_flight: int) -> None:
        self.budget = CallBudget(rate=1e-9, burst=burst, max_in_flight=max_in_flight)
        self.permits = Permits(self.budget)
        self._wanted = threading.Event()
        self._stopping = False
        self.permits.on_request(self._wanted.set)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> BudgetThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._wanted.set()
        self._thread.join()
        self.permits.apply_given_back()

    def _run(self) -> None:
        while not self._stopping:
            self._wanted.wait()
            self._wanted.clear()
            self.permits.apply_given_back()
            self.permits.grant_first(0)
            self.permits.grant_spare(0)


def test_gate_charges_repeats_and_the_catalog() -> None:
    async def go(gate: Gate) -> None:
        (await gate.admit(BY_IP, 1))()
        (await gate.admit(BY_IP, 2))()
        release = await gate.admit("ListJobs", 1)
        assert thread.budget.in_flight == 1
        release()

    with BudgetThread(burst=10, max_in_flight=1) as thread:
        asyncio.run(go(Gate(thread.permits)))
    assert thread.budget.in_flight == 0
    assert thread.budget.available(0) == 1
    assert thread.budget._tokens == pytest.approx(8)


def test_cancelled_gate_keeps_no_permit() -> None:
    async def go(gate: Gate) -> None:
        for number in range(200):
            first, second = (asyncio.create_task(gate.admit("ListJobs", 1)) for _ in range(2))
            await asyncio.sleep(0.0001 * (number % 5))
            second.cancel()
            release = (await asyncio.gather(first, second, return_exceptions=True))[0]
            assert callable(release)
            release()

    with BudgetThread(burst=10_000, max_in_flight=1) as thread:
        asyncio.run(asyncio.wait_for(go(Gate(thread.permits)), 30))
    assert thread.budget.in_flight == 0


def test_times_follow_a_wall_clock_that_is_set() -> None:
    queries = LiveQueries(accounting_for(AttributionSettings(namespaces=(NS,))), source="test", epoch=1000.0)
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
    described = [both.describe(DeploymentKey(*one), None) for one in (("w", NS, "a"), ("v", NS, "b"))]
    assert [one.owner[:4:3] for one in described if one] == [("w", "first"), ("v", "second")]
    assert both.describe(DeploymentKey("w", NS, "c"), None) is None
    told = replace(TOLD, owner=Owner("v", NS, "a", "told"))
    assert both.describe(told.owner.key, told) == told, "the other workspace's deployment of that id is another"
    strange = replace(TOLD, owner=Owner("u", NS, "b", "told"))
    listed = both.describe(strange.owner.key, strange)
    assert listed is not None and listed.owner.name == "second"
    report = both.report()
    assert (report.deployments, report.suspicious, report.succeeded_at) == (2, False, None), "one namespace is missing"


def test_several_refreshers_as_one() -> None:
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
