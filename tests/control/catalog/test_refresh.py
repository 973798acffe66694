"""The refresh of the catalog, at a running sandbox: changes, labels, faults, the order of questions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from flowmap.control.alibaba.api.client import ControlClient
from flowmap.control.alibaba.control_plane import AlibabaControlPlane, Label
from flowmap.control.catalog.catalog import DeploymentCatalog, Scope
from flowmap.control.catalog.refresh import SEEN_EVERY, CatalogRefresher
from flowmap.control.clock import Clock
from flowmap.model.deployment import DeploymentKey
from flowmap.model.status import CatalogStatus
from tests.support.control_clients import NAMESPACE, key
from tests.support.sandbox import RunningSandbox

EVERY = 60.0


@dataclass
class World:
    """A refresher at a sandbox, with a clock that stands until it is moved."""

    sandbox: RunningSandbox
    grace: float = 600.0
    label: str | None = None
    namespaces: Sequence[str] = (NAMESPACE,)
    seen: list[DeploymentKey] = field(default_factory=list)
    now: float = 1000.0
    admitted: list[tuple[str, int]] = field(default_factory=list)

    def run(self, *steps: Callable[[CatalogRefresher], None]) -> DeploymentCatalog:
        """Refresh until nothing is due; after each step that long again."""

        async def go() -> DeploymentCatalog:
            scopes = [Scope("sandbox", namespace) for namespace in self.namespaces]
            catalog = DeploymentCatalog(scopes, grace=self.grace)
            options: dict[str, Any] = {"endpoint": self.sandbox.url, "workspace": "sandbox", "credentials": key()}
            async with ControlClient(**options, timeout=4, admit=self._admit) as client:
                refresher = CatalogRefresher(
                    AlibabaControlPlane(client, label=Label.parse(self.label) if self.label else None),
                    catalog,
                    every=EVERY,
                    seen=self.last_seen,
                    clock=Clock(monotonic=lambda: self.now, chance=lambda: 0.5),
                )
                await self._settle(refresher)
                for step in steps:
                    step(refresher)
                    await self._settle(refresher)
            return catalog

        return asyncio.run(go())

    async def _settle(self, refresher: CatalogRefresher) -> None:
        for _ in range(100):
            if await refresher.turn() > 0:
                return
        raise AssertionError("there is always more to do")

    async def last_seen(self) -> list[DeploymentKey]:
        return self.seen

    async def _admit(self, operation: str, exchange: int) -> Callable[[], None]:
        self.admitted.append((operation, exchange))
        return lambda: None


SCOPE = Scope("sandbox", NAMESPACE)


def key_of(identity: str) -> DeploymentKey:
    return DeploymentKey(*SCOPE, identity)


def deployment(name: str, jobs: Sequence[Mapping[str, Any]] = (), **more: Any) -> dict[str, Any]:
    return {"id": f"id-{name}", "name": name, "jobs": list(jobs), **more}


def catalog_of(*deployments: Mapping[str, Any]) -> dict[str, Any]:
    return {"workspace": "sandbox", "namespaces": [NAMESPACE, "other"], "deployments": list(deployments)}


def names(catalog: DeploymentCatalog) -> list[str]:
    return sorted(entry.owner.name for entry in catalog.entries())


def later(world: World, seconds: float = EVERY + 1) -> Callable[[CatalogRefresher], None]:
    def step(_: CatalogRefresher) -> None:
        world.now += seconds

    return step


def test_deployments_and_the_jobs_of_those_seen(sandbox: RunningSandbox) -> None:
    jobs = [{"id": "old", "status": "FINISHED", "startTime": 100, "endTime": 200}, {"id": "new", "startTime": 300}]
    sandbox.set_catalog(catalog_of(deployment("a", jobs, labels={"team": "x"}), deployment("b", jobs)))
    before = time.time()
    catalog = World(sandbox, seen=[key_of("id-a")]).run()
    assert names(catalog) == ["a", "b"]
    found = catalog.entry(key_of("id-a"))
    assert found is not None
    assert (found[0].labels, found[0].jobs_by_state and found[0].jobs_by_state["running"]) == ({"team": "x"}, 1)
    listing = catalog.jobs(key_of("id-a"))
    assert listing is not None
    assert [(run.job_id, run.started_at, run.ended_at) for run in listing.jobs] == [
        ("new", 300, None),
        ("old", 100, 200),
    ]
    assert listing.complete
    assert before <= listing.asked_at <= time.time()
    assert listing.skew is not None
    assert abs(listing.skew) < 2
    assert catalog.jobs(key_of("id-b")) is None  # nobody saw it
    assert catalog.succeeded_at is not None


def test_changes_apply_at_the_next_refresh(sandbox: RunningSandbox) -> None:
    sandbox.set_catalog(catalog_of(deployment("a"), deployment("b")))
    world = World(sandbox, seen=[key_of("id-a")])
    counts: list[int] = []

    def change(_: CatalogRefresher) -> None:
        sandbox.set_catalog(catalog_of(deployment("a") | {"name": "renamed"}, deployment("b"), deployment("c")))
        counts.append(sandbox.requests["total"])
        world.now += EVERY - 1

    def look(refresher: CatalogRefresher) -> None:
        counts.append(sandbox.requests["total"])
        assert names(refresher.catalog) == ["a", "b"]
        world.now += 2

    assert names(world.run(change, look)) == ["b", "c", "renamed"]
    assert counts == [2, 2]  # one page of deployments, one of jobs
    assert sandbox.requests["total"] == 4


def test_order_of_job_listings(sandbox: RunningSandbox) -> None:
    sandbox.set_catalog(catalog_of(*(deployment(name) for name in "abc")))
    world = World(sandbox, seen=[key_of("id-b"), key_of("id-a")])

    def newcomer(_: CatalogRefresher) -> None:
        world.seen.insert(0, key_of("id-c"))
        world.now += SEEN_EVERY + 1

    world.run(newcomer, later(world, EVERY - SEEN_EVERY), later(world, SEEN_EVERY))
    parameters = [dict(request.parameters) for request in sandbox.recorded]
    asked = [one["deploymentId"] for one in parameters if "deploymentId" in one]
    assert asked == ["id-b", "id-a", "id-c", "id-b", "id-a", "id-c"]


def test_unseen_deployments_are_not_refreshed(sandbox: RunningSandbox) -> None:
    world = World(sandbox, seen=[key_of("id-a")])

    def gone(_: CatalogRefresher) -> None:
        world.seen.clear()
        world.now += EVERY + 1

    world.run(gone)
    assert sandbox.requests["byOperation"]["ListJobs"] == {"all": 1}
    assert sandbox.requests["byOperation"]["ListDeployments"] == {"all": 2}


def test_a_label_narrows(sandbox: RunningSandbox) -> None:
    sandbox.set_catalog(
        catalog_of(
            deployment("a", labels={"team": "x"}), deployment("b", labels={"team": "y"}), deployment("c", labels={})
        )
    )
    catalog = World(sandbox, label="team=x,z").run()
    assert names(catalog) == ["a"]
    assert set(sandbox.requests["byOperation"]) == {"GetDeploymentsByLabel"}


def test_unknown_namespace_does_not_stop_the_others(sandbox: RunningSandbox, caplog: pytest.LogCaptureFixture) -> None:
    sandbox.set_catalog(catalog_of(deployment("a"), deployment("b", namespace="other")))
    catalog = World(sandbox, namespaces=(NAMESPACE, "unheard-of", "other")).run()
    assert names(catalog) == ["a", "b"]
    assert catalog.succeeded_at is None
    (line,) = caplog.messages
    assert line.startswith("cannot list the deployments of unheard-of: ")


def test_empty_listing_applies_after_the_grace_time(sandbox: RunningSandbox, caplog: pytest.LogCaptureFixture) -> None:
    sandbox.set_catalog(catalog_of(*(deployment(name) for name in "abc")))
    world = World(sandbox, grace=100)
    states = []

    def empty(_: CatalogRefresher) -> None:
        sandbox.set_catalog(catalog_of())
        world.now += EVERY + 1

    def look(refresher: CatalogRefresher) -> None:
        states.append((refresher.status().suspicious, refresher.status().deployments))
        world.now += EVERY + 1

    catalog = world.run(empty, look, look, look)
    assert states == [(NAMESPACE, 3), (NAMESPACE, 3), (None, 0)]
    assert not names(catalog)
    assert caplog.messages == [
        "the listing of default-namespace lost more than half of its deployments, 0 are left: not applied "
        "unless it lasts for 10 min",
        "the listing of default-namespace stays small: applied, 0 deployments, before 3",
    ]


@pytest.mark.parametrize(("label", "operation"), [(None, "ListDeployments"), ("team=x", "GetDeploymentsByLabel")])
def test_empty_listing_by_a_fault_changes_nothing(sandbox: RunningSandbox, label: str | None, operation: str) -> None:
    sandbox.set_catalog(catalog_of(*(deployment(name, labels={"team": "x"}) for name in "abc")))
    world = World(sandbox, label=label)
    known = []

    def empty(_: CatalogRefresher) -> None:
        sandbox.set_faults([{"kind": "empty_list", "operation": operation}])
        world.now += EVERY + 1

    def look(refresher: CatalogRefresher) -> None:
        status = refresher.status()
        known.append(status.deployments)
        assert status.suspicious or "incomplete" in str(status.error)
        sandbox.set_faults([])
        world.now += EVERY + 1

    catalog = world.run(empty, look)
    assert known == [3]
    assert names(catalog) == ["a", "b", "c"]
    assert not catalog.suspicious


FAULTS: list[tuple[dict[str, Any], int, str | None]] = [
    # fault, requests it costs, what the status says
    ({"kind": "business", "status": 400, "code": "Whatever"}, 1, "Whatever"),
    ({"kind": "gateway"}, 1, "Forbidden.RAM"),
    ({"kind": "malformed"}, 3, "not JSON"),
    ({"kind": "error", "status": 503}, 3, "503"),
    ({"kind": "no_data"}, 1, "no list"),
    ({"kind": "redirect"}, 1, "redirect"),
    ({"kind": "hang"}, 2, "no complete answer"),
    ({"kind": "throttle", "retryAfterMs": 60_000}, 1, "Throttling.User"),
]


@pytest.mark.parametrize(("fault", "requests", "said"), FAULTS, ids=lambda value: str(value))
def test_failed_listing_changes_nothing(
    sandbox: RunningSandbox, fault: dict[str, Any], requests: int, said: str
) -> None:
    sandbox.set_catalog(catalog_of(deployment("a"), deployment("b")))
    world = World(sandbox)
    status: list[CatalogStatus] = []

    def fail(_: CatalogRefresher) -> None:
        sandbox.set_faults([fault])
        world.now += EVERY + 1

    def look(refresher: CatalogRefresher) -> None:
        status.append(refresher.status())
        sandbox.set_faults([])

    assert names(world.run(fail, look)) == ["a", "b"]
    (one,) = status
    assert said in str(one.error)
    assert (one.suspicious, one.deployments) == (None, 2)
    listings = [number for operation, number in world.admitted if operation == "ListDeployments"]
    assert listings == [1, *range(1, requests + 1)], "every attempt is admitted, repeats too"


def test_listing_with_a_bad_element_removes_nothing(sandbox: RunningSandbox) -> None:
    sandbox.set_catalog(catalog_of(deployment("a"), deployment("b")))
    world = World(sandbox)

    def spoil(_: CatalogRefresher) -> None:
        sandbox.set_faults([{"kind": "bad_element"}])
        sandbox.set_catalog(catalog_of(deployment("c")))
        world.now += EVERY + 1

    catalog = world.run(spoil)
    assert names(catalog) == ["a", "b", "c"]  # who was not readable may have been a or b
    assert not catalog.suspicious


def test_listing_that_fails_on_a_later_page_adds(sandbox: RunningSandbox) -> None:
    sandbox.set_catalog(catalog_of(*(deployment(f"{n:03}") for n in range(250))))
    sandbox.set_faults([{"kind": "business", "status": 400, "code": "Broken", "skip": 1}])
    catalog = World(sandbox).run()
    assert len(catalog) == 100
    assert catalog.succeeded_at is None


def test_failed_job_listing_does_not_delay_others(sandbox: RunningSandbox) -> None:
    sandbox.set_catalog(catalog_of(*(deployment(name, [{"id": f"job-{name}"}]) for name in "ab")))
    sandbox.set_faults([{"kind": "business", "status": 400, "operation": "ListJobs", "times": 1}])
    world = World(sandbox, seen=[key_of("id-a"), key_of("a/..b"), key_of("id-b")])
    catalog = world.run()
    assert catalog.jobs(key_of("id-a")) is None
    assert catalog.jobs(key_of("id-b")) is not None
    assert Counter(operation for operation, _ in world.admitted) == {"ListDeployments": 1, "ListJobs": 3}


def test_no_call_while_the_control_plane_rests(sandbox: RunningSandbox) -> None:
    sandbox.set_faults([{"kind": "throttle", "retryAfterMs": 60_000}])
    world = World(sandbox, seen=[key_of("id-a")])
    pauses = []

    async def once() -> None:
        options: dict[str, Any] = {"endpoint": sandbox.url, "workspace": "sandbox", "credentials": key()}
        async with ControlClient(**options, timeout=4) as client:
            refresher = CatalogRefresher(
                AlibabaControlPlane(client), DeploymentCatalog([SCOPE]), every=EVERY, seen=world.last_seen
            )
            pauses.extend([await refresher.turn(), await refresher.turn()])

    asyncio.run(once())
    assert pauses[0] == 0
    assert 50 < pauses[1] <= 60
    assert sandbox.requests["total"] == 1


def test_task_survives_a_defect(sandbox: RunningSandbox, caplog: pytest.LogCaptureFixture) -> None:
    async def go() -> None:
        seen, slept = asyncio.Event(), 0

        async def broken() -> list[DeploymentKey]:
            if not seen.is_set():
                seen.set()
                raise ZeroDivisionError
            again.set()
            return []

        async def sleep(seconds: float) -> None:
            nonlocal slept
            slept += 1
            await asyncio.sleep(0.001)

        again = asyncio.Event()
        options: dict[str, Any] = {"endpoint": sandbox.url, "workspace": "sandbox", "credentials": key()}
        async with ControlClient(**options, timeout=4) as client:
            refresher = CatalogRefresher(
                AlibabaControlPlane(client),
                DeploymentCatalog([SCOPE]),
                every=0.2,
                seen=broken,
                clock=Clock(sleep=sleep),
            )
            refresher.start()
            await asyncio.wait_for(again.wait(), 10)
            await refresher.aclose()
            await refresher.aclose()
        assert slept > 2

    with caplog.at_level(logging.ERROR):
        asyncio.run(go())
    assert "catalog not refreshed; next try in 0.2 s" in caplog.messages


@pytest.mark.parametrize("kind", ["empty_list", "wrong_types"])
def test_incomplete_job_listing_keeps_the_one_before(sandbox: RunningSandbox, kind: str) -> None:
    sandbox.set_catalog(catalog_of(deployment("a", [{"id": "j", "startTime": 100}])))
    world = World(sandbox, seen=[key_of("id-a")])
    status: list[CatalogStatus] = []

    def fail(_: CatalogRefresher) -> None:
        sandbox.set_faults([{"kind": kind, "operation": "ListJobs"}])
        world.now += EVERY + 1

    def look(refresher: CatalogRefresher) -> None:
        status.append(refresher.status())
        sandbox.set_faults([])

    listing = world.run(fail, look).jobs(key_of("id-a"))
    assert listing is not None
    assert ([run.job_id for run in listing.jobs], listing.complete) == (["j"], True)
    assert "is incomplete" in str(status[0].error)
