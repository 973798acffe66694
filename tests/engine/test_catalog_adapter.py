"""The catalog in the daemon: descriptions from both sources, and the gate before every call."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from flowmap.attribute.calls.budget import CallBudget, Permits
from flowmap.attribute.settings import AttributionSettings
from flowmap.control.catalog.catalog import DeploymentCatalog, Scope
from flowmap.control.port import ListedDeployment
from flowmap.engine.catalog_adapter import CatalogDirectory, Gate
from flowmap.engine.commands import TakeStep
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.deployment import DeploymentInfo, DeploymentKey, Job, JobSelection, Owner
from flowmap.query.live import LiveQueries
from tests.support.accounting import accounting_for
from tests.support.records import Record, batch_of

NS = "ns"
KEY = DeploymentKey("w", NS, "id")
JAR = "oss://bucket/a.jar"
ENTRY = ListedDeployment(
    Owner("w", NS, "id", "listed"), "BATCH", "9", "bob", {"team": "x"}, {"running": 2}, packages=(JAR,)
)
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
    packages=(JAR,),
)

DESCRIPTIONS: list[tuple[ListedDeployment | None, float, DeploymentInfo | None, DeploymentInfo | None]] = [
    # in the list, since when, what the last answer said, what comes of it
    (None, 0, None, None),
    (None, 0, TOLD, TOLD),
    (ENTRY, 200, None, LISTED),
    (ENTRY, 200, TOLD, LISTED),
    (ENTRY, 50, TOLD, replace(TOLD, packages=(JAR,))),
    (
        replace(ENTRY, labels=None, jobs_by_state=None),
        200,
        TOLD,
        replace(LISTED, labels={"team": "y"}, jobs_by_state={"failed": 1}),
    ),
    (replace(ENTRY, labels={}), 200, TOLD, replace(LISTED, labels={})),
    (replace(ENTRY, labels=None, jobs_by_state=None), 200, None, replace(LISTED, labels={}, jobs_by_state={})),
    (
        replace(ENTRY, owner=Owner("v", NS, "id", "listed")),
        200,
        TOLD,
        replace(LISTED, owner=Owner("v", NS, "id", "listed")),
    ),
]


def directory(entry: ListedDeployment | None, at: float) -> tuple[DeploymentCatalog, CatalogDirectory]:
    catalog = DeploymentCatalog([Scope("w", NS)])
    if entry is not None:
        catalog.apply_listing(Scope("w", NS), [entry], complete=True, at=at, now=at)
    return catalog, CatalogDirectory(catalog)


@pytest.mark.parametrize(("entry", "at", "told", "expected"), DESCRIPTIONS)
def test_newer_description_wins(
    entry: ListedDeployment | None, at: float, told: DeploymentInfo | None, expected: DeploymentInfo | None
) -> None:
    assert directory(entry, at)[1].describe(KEY, told) == expected


def test_jobs_describe_known_deployments() -> None:
    catalog, found = directory(None, 0)
    before = found.generation
    jobs = [Job("old", "FAILED", 1, 2, over=True), Job("new", "RUNNING", 3)]
    catalog.apply_jobs(DeploymentKey("w", NS, "id"), jobs, complete=True, asked_at=10, skew=0.5)
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
    """A thread that owns a budget, as the engine does."""

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
        (await gate.admit(True, 1))()
        (await gate.admit(True, 2))()
        release = await gate.admit(False, 1)
        assert thread.budget.in_flight == 1
        release()

    with BudgetThread(burst=10, max_in_flight=1) as thread:
        asyncio.run(go(Gate(thread.permits)))
    assert thread.budget.in_flight == 0
    assert thread.budget.available(0) == 1
    thread.budget.configure(rate=1.0, burst=10, max_in_flight=100)
    assert thread.budget.available(0) == 8


def test_cancelled_gate_keeps_no_permit() -> None:
    async def go(gate: Gate) -> None:
        for number in range(200):
            first, second = (asyncio.create_task(gate.admit(False, 1)) for _ in range(2))
            await asyncio.sleep(0.0001 * (number % 5))
            second.cancel()
            release = (await asyncio.gather(first, second, return_exceptions=True))[0]
            assert callable(release)
            release()

    with BudgetThread(burst=10_000, max_in_flight=1) as thread:
        asyncio.run(asyncio.wait_for(go(Gate(thread.permits)), 30))
    assert thread.budget.in_flight == 0


def test_times_follow_a_wall_clock_that_is_set() -> None:
    accounting = accounting_for(AttributionSettings(namespaces=(NS,)))
    queries = LiveQueries(accounting, source="test", epoch=1000.0)
    accounting.apply(TakeStep(batch_of(Record(RecordKind.OPENED, flags=int(Flag.PRESENT))), 7.0, 7.0))
    (row,) = accounting.table.live().tolist()
    for set_to, shown in ((1000.4, 1007.0), (1060.0, 1067.0)):
        queries.follow_clock(set_to)
        assert queries.flow(row).started_at == shown


def test_directory_of_several_workspaces() -> None:
    scopes = [Scope("w", NS), Scope("v", NS), Scope("v", "more")]
    catalog = DeploymentCatalog(scopes)
    directory = CatalogDirectory(catalog)
    for (workspace, namespace), identity, name in zip(scopes, "ab", ("first", "second"), strict=False):
        entry = replace(ENTRY, owner=Owner(workspace, namespace, identity, name))
        catalog.apply_listing(Scope(workspace, namespace), [entry], complete=True, at=100, now=100)
    described = [directory.describe(DeploymentKey(*one), None) for one in (("w", NS, "a"), ("v", NS, "b"))]
    assert [one.owner[:4:3] for one in described if one] == [("w", "first"), ("v", "second")]
    assert directory.describe(DeploymentKey("w", NS, "c"), None) is None
    told = replace(TOLD, owner=Owner("v", NS, "a", "told"))
    assert directory.describe(told.owner.key, told) == told, "the other workspace's deployment of that id is another"
    strange = replace(TOLD, owner=Owner("u", NS, "b", "told"))
    listed = directory.describe(strange.owner.key, strange)
    assert listed is not None and listed.owner.name == "second"
    report = directory.report()
    assert (report.deployments, report.suspicious, report.succeeded_at) == (2, False, None), "one namespace is missing"
