"""The answers of a JobManager's REST interface as values, for Flink 1.20 and 2.x.

Only what flowmap uses is read. ProtocolError for an answer that is not in the documented form: a part that is missing
could be an owner, so an answer is used whole or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from flowmap.errors import ProtocolError

ENDED_STATES = frozenset(("CANCELED", "FINISHED", "FAILED"))

_PATH = re.compile(r"[a-z.+]+://[^@/]+@(?P<host>\[[0-9A-Fa-f:.]+\]|[^:/\[\]]+):(?P<port>\d{1,5})/")
"""``pekko.tcp://flink@10.0.0.1:6122/user/rpc/taskmanager_0``; ``pekko.ssl.tcp`` with TLS, ``akka`` before 1.18."""

_QUORUM = re.compile(r"^\s*(?P<host>\[[0-9A-Fa-f:.]+\]|[^:,\s]+)(?::(?P<port>\d+))?\s*$")

ZOOKEEPER_PORT = 2181


class Host(NamedTuple):
    """A host as the cluster names it, and a port."""

    name: str
    """An address or a name, without brackets."""
    port: int


class ListedTaskManager(NamedTuple):
    """An element of ``/taskmanagers``."""

    id: str
    rpc: Host
    data_port: int
    heartbeat: float | None
    """Epoch seconds of the last heartbeat by the JobManager's clock; None if none has arrived yet."""
    facts: tuple[int, int, int]
    """Slots, free slots and assigned tasks: they change with what runs there."""


class ListedJob(NamedTuple):
    """An element of ``/jobs/overview``. Times are epoch seconds by the JobManager's clock."""

    id: str
    name: str
    state: str
    mode: str
    """``STREAMING`` or ``BATCH``; empty where the answer has none."""
    started_at: float
    ended_at: float | None
    read_at: float
    """When the JobManager made the answer: the start and the duration of the job."""
    changes: tuple[object, ...]
    """State, last modification and number of tasks by state: they change with what runs."""

    @property
    def over(self) -> bool:
        return self.state in ENDED_STATES


class Configured(NamedTuple):
    """What ``/jobmanager/config`` says about the cluster's own endpoints."""

    job_manager: str | None
    """Address or name of the JobManager for its TaskManagers."""
    ports: frozenset[int]
    """Fixed ports of RPC, blob and REST."""
    coordination: tuple[Host, ...]
    """ZooKeeper."""
    cluster_id: str | None
    may_stand_by: bool = False
    """Whether another JobManager may lead, whose random ports are in its own configuration only."""


def read_task_managers(answer: object) -> tuple[ListedTaskManager, ...]:
    """The TaskManagers of ``/taskmanagers``."""
    return tuple(_task_manager(one) for one in _list(answer, "taskmanagers"))


def read_slots(answer: object) -> frozenset[str]:
    """The ids of the jobs that have a slot, from ``/taskmanagers/:id``."""
    return frozenset(_text(one, "jobId") for one in _list(answer, "allocatedSlots"))


def read_jobs(answer: object) -> tuple[ListedJob, ...]:
    """The jobs of ``/jobs/overview``, those that have ended included."""
    return tuple(_job(one) for one in _list(answer, "jobs"))


def read_config(answer: object) -> Configured:
    """The own endpoints in ``/jobmanager/config``."""
    if not isinstance(answer, list):
        raise ProtocolError("the configuration is not a list")
    values = {_text(one, "key"): _text(one, "value") for one in answer}
    ports = (values.get(key, "") for key in ("jobmanager.rpc.port", "blob.server.port", "rest.port"))
    quorum = values.get("high-availability.zookeeper.quorum", "")
    return Configured(
        values.get("jobmanager.rpc.address", "").strip("[]") or None,
        frozenset(int(port) for port in ports if port.isdecimal() and 0 < int(port) < 65536),
        tuple(_quorum(quorum)),
        values.get("kubernetes.cluster-id") or values.get("high-availability.cluster-id"),
        values.get("high-availability.type", values.get("high-availability", "none")).lower() != "none"
        and values.get("high-availability.jobmanager.port", "0") == "0",
    )


def read_version(answer: object) -> str:
    """The version of Flink in ``/overview``."""
    return _text(answer, "flink-version")


def read_jars(answer: object) -> tuple[str, ...]:
    """The file names of the uploaded jars in ``/jars``."""
    return tuple(_text(one, "name") for one in _list(answer, "files"))


def read_published(answer: object) -> Mapping[str, str]:
    """What the author of a job chose to publish, from ``/jobs/:id/config``."""
    execution = answer.get("execution-config") if isinstance(answer, Mapping) else None
    published = execution.get("user-config") if isinstance(execution, Mapping) else None
    found = published if isinstance(published, Mapping) else {}
    return {str(key): value for key, value in found.items() if isinstance(value, str)}


def _task_manager(element: object) -> ListedTaskManager:
    path = _text(element, "path")
    match = _PATH.match(path)
    if match is None:
        raise ProtocolError(f"the path of a TaskManager has no address: {path[:80]!r}")
    heartbeat = _number(element, "timeSinceLastHeartbeat")
    return ListedTaskManager(
        _text(element, "id"),
        Host(match["host"].strip("[]"), int(match["port"])),
        int(_number(element, "dataPort")),
        heartbeat / 1000 if heartbeat > 0 else None,
        (
            int(_number(element, "slotsNumber")),
            int(_number(element, "freeSlots")),
            int(_number(element, "assignedTasks", 0)),
        ),
    )


def _job(element: object) -> ListedJob:
    started, ended, duration = (_number(element, key) / 1000 for key in ("start-time", "end-time", "duration"))
    tasks = element.get("tasks") if isinstance(element, Mapping) else None
    counts = tuple(sorted(tasks.items())) if isinstance(tasks, Mapping) else ()
    state = _text(element, "state")
    return ListedJob(
        _text(element, "jid"),
        _text(element, "name"),
        state,
        str(element.get("jobType", "")) if isinstance(element, Mapping) else "",
        started,
        ended if ended > 0 else None,
        started + duration,
        (state, _number(element, "last-modification"), counts),
    )


def _quorum(text: str) -> Iterator[Host]:
    for part in text.split("/", maxsplit=1)[0].split(","):
        if match := _QUORUM.match(part):
            yield Host(match["host"].strip("[]"), int(match["port"] or ZOOKEEPER_PORT))


def _list(answer: object, key: str) -> list[Any]:
    found = answer.get(key) if isinstance(answer, Mapping) else None
    if not isinstance(found, list):
        raise ProtocolError(f"the answer has no list {key!r}")
    return found


def _text(element: object, key: str) -> str:
    found = element.get(key) if isinstance(element, Mapping) else None
    if not isinstance(found, str):
        raise ProtocolError(f"an element has no text {key!r}")
    return found


def _number(element: object, key: str, default: float | None = None) -> float:
    found = element.get(key, default) if isinstance(element, Mapping) else None
    if not isinstance(found, (int, float)) or isinstance(found, bool):
        raise ProtocolError(f"an element has no number {key!r}")
    return found
