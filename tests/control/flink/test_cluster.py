"""The recorded answers of a real session cluster: tests/data/flink."""

from __future__ import annotations

import asyncio

from flowmap.control.flink.cluster import Cluster
from flowmap.control.flink.deployments import Identity, file_name_of_jar
from flowmap.control.flink.picture import place
from flowmap.control.flink.rest import Access, JobManagerRest
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import FLINK, Role
from tests.control.flink.fake import FakeRest, recorded


def read() -> Cluster:
    rest = JobManagerRest(Access("prod", ("http://10.200.0.1:8081",)), transport=FakeRest(recorded("session-2.3")))
    cluster = Cluster(rest, Identity(), poll=2.0)
    asyncio.run(cluster.read_once())
    return cluster


def test_owners_by_address() -> None:
    cluster = read()
    assert cluster.version == "2.3.0"
    names = {
        address: {
            held.owner.name
            for held in cluster.picture.present(place(Address.parse(address)))
            if held.owner.workspace == FLINK
        }
        for address in ("10.200.1.2", "10.200.2.2", "10.200.3.2")
    }
    assert names == {"10.200.1.2": {"orders"}, "10.200.2.2": {"clicks", "audit"}, "10.200.3.2": set()}


def test_own_endpoints() -> None:
    cluster = read()
    jm = Address.parse("10.200.0.1")
    assert {held.owner for held in cluster.picture.present(place(jm))} == {Role.JOB_MANAGER.of("prod")}
    for port in (6123, 6124, 8081):
        assert {held.owner for held in cluster.picture.present(Endpoint(jm, port))} == {Role.SERVICE.of("prod")}
    for one in cluster.task_managers.values():
        for port in (one.listed.rpc.port, one.listed.data_port):
            at = Endpoint(one.addresses[0], port)
            assert {held.owner for held in cluster.picture.present(at)} == {Role.SERVICE.of("prod")}


def test_jobs_that_ended_have_an_end() -> None:
    states = {job.name: (job.state, job.over, job.ended_at is not None) for job in read().jobs.values()}
    assert states["orders"] == ("RUNNING", False, False)
    assert states["old"] == ("CANCELED", True, True)


def test_uploaded_jars() -> None:
    rest = JobManagerRest(Access("prod", ("http://10.200.0.1:8081",)), transport=FakeRest(recorded("session-2.3")))
    names = asyncio.run(Cluster(rest, Identity(), poll=2.0).jars())
    assert [file_name_of_jar(name) for name in names] == ["job.jar"]
