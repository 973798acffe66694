"""Questions answered from pictures of clusters: owners, roles, clusters that are down, listings."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from flowmap.control.flink.cluster import Cluster
from flowmap.control.flink.control_plane import FlinkControlPlane
from flowmap.control.flink.deployments import Identity
from flowmap.control.flink.rest import Access, JobManagerRest
from flowmap.control.port import OwnersAnswer
from flowmap.errors import Transient
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import FLINK, Owner, Role
from tests.control.flink.fake import FakeRest

POLL = 0.05
TM, JM, STRANGER = "10.0.0.5", "10.0.0.1", "10.0.0.9"
JOB, OLD = "a" * 32, "b" * 32


def job(jid: str, name: str, *, state: str = "RUNNING", ago: float = 100.0, ended: float = 0.0) -> dict[str, Any]:
    now = time.time() * 1000
    end = now - ended * 1000 if ended else -1
    start = now - ago * 1000
    return {
        "jid": jid,
        "name": name,
        "state": state,
        "start-time": start,
        "end-time": end,
        "jobType": "STREAMING",
        "duration": (end if ended else now) - start,
        "last-modification": start,
        "tasks": {"running": 1},
    }


def task_manager(address: str, *, heard: float | None = 0.0) -> dict[str, Any]:
    heartbeat = 0 if heard is None else (time.time() - heard) * 1000
    return {
        "id": f"{address}:6122-ab",
        "path": f"pekko.tcp://flink@{address}:6122/user/rpc/taskmanager_0",
        "dataPort": 7000,
        "slotsNumber": 1,
        "freeSlots": 0,
        "assignedTasks": 1,
        "timeSinceLastHeartbeat": heartbeat,
    }


def answers(
    *addresses: str, jobs: tuple[dict[str, Any], ...] = (), alive: bool = True, session: bool = True
) -> dict[str, Any]:
    """A cluster whose TaskManagers all run :data:`JOB`."""
    settings = {"jobmanager.rpc.address": JM, "jobmanager.rpc.port": "6123", "blob.server.port": "6124"}
    settings |= {"high-availability.zookeeper.quorum": "10.0.0.7:2181,10.0.0.8"}
    found: dict[str, Any] = {
        "/jobs/overview": {"jobs": [job(JOB, "orders"), *jobs]},
        "/taskmanagers": {"taskmanagers": [task_manager(one) for one in addresses]},
        "/jobmanager/config": [{"key": key, "value": value} for key, value in settings.items()],
        "/overview": {"flink-version": "2.3.0"},
        "/jars": {"files": []} if session else 404,
    }
    for one in addresses:
        found[f"/taskmanagers/{one}:6122-ab"] = {"allocatedSlots": [{"jobId": JOB}]}
        found[f"/taskmanagers/{one}:6122-ab/logs"] = {"logs": []} if alive else Transient("timed out")
    return found


@contextlib.asynccontextmanager
async def plane(
    clusters: Mapping[str, dict[str, Any]], *, identity: Identity | None = None
) -> AsyncIterator[tuple[FlinkControlPlane, dict[str, FakeRest]]]:
    fakes = {name: FakeRest(given) for name, given in clusters.items()}
    made = [
        Cluster(
            JobManagerRest(Access(name, (f"http://{name}:8081",)), transport=fake), identity or Identity(), poll=POLL
        )
        for name, fake in fakes.items()
    ]
    control = FlinkControlPlane(made, poll=POLL)
    control.start()
    try:
        yield control, fakes
    finally:
        await control.aclose()


def ask(
    clusters: Mapping[str, dict[str, Any]],
    *,
    client: str = "",
    service: tuple[str, int] | None = None,
    identity: Identity | None = None,
) -> OwnersAnswer:
    async def run() -> OwnersAnswer:
        async with plane(clusters, identity=identity) as (control, _):
            source = Endpoint(Address.parse(client), 0) if client else None
            destination = Endpoint(Address.parse(service[0]), service[1]) if service else None
            return await control.find_owners(FLINK, "", source, destination)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("client", "owners", "roles"),
    [
        (TM, [("prod", "orders")], {Role.TASK_MANAGER}),
        (JM, [], {Role.JOB_MANAGER}),
        (STRANGER, [], set()),
    ],
)
def test_who_has_an_address(client: str, owners: list[tuple[str, str]], roles: set[str]) -> None:
    answer = ask({"prod": answers(TM)}, client=client)
    assert [(one.owner.namespace, one.owner.name) for one in answer.deployments] == owners
    assert {owner.deployment_id for owner in answer.roles} == roles
    assert answer.asked_at <= answer.answered_at
    assert answer.holders is not None
    assert answer.holders.known_until > -math.inf


@pytest.mark.parametrize(
    ("service", "roles"),
    [
        ((JM, 6123), {Role.SERVICE, Role.JOB_MANAGER}),
        ((JM, 6124), {Role.SERVICE, Role.JOB_MANAGER}),
        ((TM, 6122), {Role.SERVICE, Role.TASK_MANAGER}),
        ((TM, 7000), {Role.SERVICE, Role.TASK_MANAGER}),
        ((TM, 40000), {Role.TASK_MANAGER}),
        (("10.0.0.7", 2181), {Role.COORDINATION}),
        (("10.0.0.8", 2181), {Role.COORDINATION}),
        (("10.0.0.8", 9092), set()),
    ],
)
def test_what_an_endpoint_is_to_the_cluster(service: tuple[str, int], roles: set[str]) -> None:
    answer = ask({"prod": answers(TM)}, service=service)
    assert answer.deployments == ()
    assert {owner.deployment_id for owner in answer.roles} == roles


def test_a_sign_of_life_is_asked_for_and_confirms() -> None:
    quiet = answers(TM) | {"/taskmanagers": {"taskmanagers": [task_manager(TM, heard=9)]}}
    began = time.monotonic()
    holders = ask({"prod": quiet}, client=TM).holders
    assert holders is not None
    assert all(tenure.seen_until >= began for tenure in holders.tenures)


@pytest.mark.parametrize("heard", [9.0, None])
def test_without_a_sign_of_life_nothing_is_confirmed(heard: float | None) -> None:
    dead = answers(TM, alive=False) | {"/taskmanagers": {"taskmanagers": [task_manager(TM, heard=heard)]}}
    began = time.monotonic()
    holders = ask({"prod": dead}, client=TM).holders
    assert holders is not None
    assert all(tenure.seen_until < began for tenure in holders.tenures)


def test_a_job_begins_by_its_start() -> None:
    holders = ask({"prod": answers(TM)}, client=TM).holders
    assert holders is not None
    (tenure,) = (one for one in holders.tenures if one.owner.workspace == FLINK)
    assert tenure.begun_at == pytest.approx(time.monotonic() - 100, abs=5)


DOWN = {"/jobmanager/config": Transient("refused")}


def test_another_cluster_that_is_down_does_not_matter_for_a_known_address() -> None:
    answer = ask({"prod": answers(TM), "down": DOWN}, client=TM)
    assert [one.owner.name for one in answer.deployments] == ["orders"]


def test_an_unknown_address_could_be_of_the_cluster_that_is_down() -> None:
    with pytest.raises(Transient, match="down: refused") as raised:
        ask({"prod": answers(TM), "down": DOWN}, client=STRANGER)
    assert raised.value.retry_after == POLL


def test_a_service_may_be_of_the_cluster_that_is_down() -> None:
    answer = ask({"prod": answers(TM), "down": DOWN}, service=(STRANGER, 9092))
    assert answer.roles == {Role.UNREAD.of("down")}


def test_an_unreadable_answer_is_a_failure_not_an_empty_cluster() -> None:
    broken = answers(TM) | {"/taskmanagers": {"taskmanagers": [{"id": "x"}]}}
    with pytest.raises(Transient, match="prod: "):
        ask({"prod": broken}, client=TM)


@pytest.mark.parametrize(
    ("kind", "session", "expected"),
    [
        ("job_name", True, ("orders", "orders")),
        ("job_id", True, (JOB, "orders")),
        ("cluster", True, ("prod", "prod")),
        ("application", True, ("orders", "orders")),
        ("application", False, ("prod", "prod")),
    ],
)
def test_identity(kind: Any, session: bool, expected: tuple[str, str]) -> None:
    (one,) = ask({"prod": answers(TM, session=session)}, client=TM, identity=Identity(kind)).deployments
    assert one.owner[2:] == expected


def test_shared_addresses_have_a_second_candidate() -> None:
    async def run() -> frozenset[Owner]:
        rest = JobManagerRest(Access("prod", ("http://jm",)), transport=FakeRest(answers(TM)))
        control = FlinkControlPlane([Cluster(rest, Identity(), poll=POLL, shared=True)], poll=POLL)
        try:
            return (await control.find_owners(FLINK, "", Endpoint(Address.parse(TM), 0), None)).roles
        finally:
            await control.aclose()

    assert {owner.deployment_id for owner in asyncio.run(run())} == {Role.TASK_MANAGER, Role.HOST}


def test_listings() -> None:
    over = job(OLD, "orders", state="CANCELED", ago=500, ended=200)

    async def run() -> None:
        async with plane({"prod": answers(TM, jobs=(over,))}) as (control, _):
            (listed,) = (await control.list_deployments(FLINK, "prod")).items
            assert (listed.owner.name, listed.jobs_by_state) == ("orders", {"running": 1, "cancelled": 1})
            assert (listed.engine_version, listed.labels) == ("flink-2.3.0", {"cluster": "prod"})
            jobs = (await control.list_jobs(FLINK, "prod", "orders")).items
            assert [(one.job_id, one.status, one.over) for one in jobs] == [
                (JOB, "RUNNING", False),
                (OLD, "CANCELLED", True),
            ]
            assert all(one.ended_at is not None or not one.over for one in jobs)
            with pytest.raises(Transient):
                await control.list_deployments(FLINK, "other")
            skew = control.status().clock_skew
            assert skew is not None
            assert abs(skew) < 5

    asyncio.run(run())


def test_task_managers_are_read_one_by_one_only_after_a_change() -> None:
    async def run() -> list[int]:
        cluster = Cluster(
            JobManagerRest(Access("prod", ("http://jm",)), transport=FakeRest(answers(TM))), Identity(), poll=POLL
        )
        counts = []
        for _ in range(6):
            await cluster.read_once()
            counts.append(cluster.rest.calls["/taskmanagers/:id"])
        return counts

    assert asyncio.run(run()) == [1, 2, 3, 3, 3, 3]


class Found:
    """A discovery whose result the test sets."""

    def __init__(self) -> None:
        self.clusters: dict[str, Cluster] = {}

    def start(self) -> None:
        return

    async def changed(self, within: float) -> None:
        await asyncio.sleep(within)

    async def find(self) -> Mapping[str, Cluster]:
        return dict(self.clusters)

    async def aclose(self) -> None:
        return


def test_a_cluster_that_is_gone_ends_its_tenures() -> None:
    async def run() -> None:
        found = Found()
        rest = JobManagerRest(Access("jobs/prod", ("http://jm",)), transport=FakeRest(answers(TM)))
        found.clusters["jobs/prod"] = Cluster(rest, Identity(), poll=POLL)
        control = FlinkControlPlane([], poll=POLL, discovery=found)
        client = Endpoint(Address.parse(TM), 0)
        with pytest.raises(Transient):  # not looked yet: it could be of any cluster
            await control.find_owners(FLINK, "", client, None)
        await control.look_for_clusters()
        named = await control.find_owners(FLINK, "", client, None)
        assert [one.owner.namespace for one in named.deployments] == ["jobs/prod"]
        found.clusters.clear()
        await control.look_for_clusters()
        after = await control.find_owners(FLINK, "", client, None)
        assert after.deployments == ()
        assert after.holders is not None
        assert {tenure.owner.name for tenure in after.holders.tenures if tenure.gone_at < math.inf} >= {
            "orders",
            f"(taskmanager {TM}:6122-ab)",
        }
        await control.aclose()

    asyncio.run(run())
