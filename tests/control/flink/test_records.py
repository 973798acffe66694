"""Answers of the REST interface as values; whatever else comes is a protocol error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.control.flink import records
from flowmap.control.flink.records import Host
from flowmap.errors import ProtocolError

READERS = (
    *(records.read_task_managers, records.read_slots, records.read_jobs, records.read_config, records.read_version),
    records.read_jars,
)
ELEMENT = {"id": "x", "dataPort": 1, "timeSinceLastHeartbeat": 0, "slotsNumber": 1, "freeSlots": 1, "assignedTasks": 0}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("pekko.tcp://flink@10.0.0.5:6122/user/rpc/taskmanager_0", Host("10.0.0.5", 6122)),
        ("pekko.ssl.tcp://flink@worker-1.example:6122/user/rpc/taskmanager_0", Host("worker-1.example", 6122)),
        ("akka.tcp://flink@10.0.0.5:6122/user/rpc/taskmanager_0", Host("10.0.0.5", 6122)),
        ("pekko.tcp://flink@[fd00:1::2]:6122/user/rpc/taskmanager_0", Host("fd00:1::2", 6122)),
    ],
)
def test_address_of_a_task_manager(path: str, expected: Host) -> None:
    (one,) = records.read_task_managers({"taskmanagers": [ELEMENT | {"path": path}]})
    assert (one.rpc, one.heartbeat) == (expected, None)


@pytest.mark.parametrize("path", ["pekko://flink/user/rpc/taskmanager_0", "10.0.0.5:6122", ""])
def test_task_manager_without_an_address(path: str) -> None:
    with pytest.raises(ProtocolError, match="no address"):
        records.read_task_managers({"taskmanagers": [ELEMENT | {"path": path}]})


@pytest.mark.parametrize(
    ("quorum", "expected"),
    [
        ("zk-1:2181,zk-2:2182/flink", (Host("zk-1", 2181), Host("zk-2", 2182))),
        ("10.0.0.7", (Host("10.0.0.7", 2181),)),
        (" zk-1 , [fd00::7]:2181", (Host("zk-1", 2181), Host("fd00::7", 2181))),
        ("", ()),
    ],
)
def test_zookeeper(quorum: str, expected: tuple[Host, ...]) -> None:
    settings = [{"key": "high-availability.zookeeper.quorum", "value": quorum}]
    assert records.read_config(settings).coordination == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("10.0.0.1", "10.0.0.1"), ("[fd00::1]", "fd00::1"), ("fd00::1", "fd00::1"), ("", None)]
)
def test_address_of_the_job_manager(text: str, expected: str | None) -> None:
    assert records.read_config([{"key": "jobmanager.rpc.address", "value": text}]).job_manager == expected


def test_ports_that_are_fixed() -> None:
    values = {"jobmanager.rpc.port": "6123", "blob.server.port": "0", "rest.port": "8081-8090"}
    found = records.read_config([{"key": key, "value": value} for key, value in values.items()])
    assert found.ports == {6123}


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["taskmanagers", "jobs", "allocatedSlots", "files", "id", "path", "key", "value", "jid"]),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=12,
)


@given(JSON)
def test_anything_else_is_a_protocol_error(answer: object) -> None:
    for read in READERS:
        try:
            read(answer)
        except ProtocolError:
            continue
