"""Containers and units at the endpoints of flows: their labels, and the names they go by."""

from __future__ import annotations

import pytest

from flowmap.model.workload import CONFLICTING, Workload

ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("container", "called", "expected"),
    [
        (ID, ID, True),
        (ID, ID[:12], True),
        (ID, ID[:11], False),
        (ID, ID[1:20], False),
        ("short", "short", True),
        (None, "", False),
        (None, ID, False),
    ],
)
def test_is_called(container: str | None, called: str, expected: bool) -> None:
    assert Workload(container=container).is_called(called) is expected


LABELS = [
    (Workload(), ("unknown", "unknown")),
    (CONFLICTING, ("unknown", "unknown")),
    (Workload("/"), ("unknown", "unknown")),
    (Workload("/kafka.service", unit="kafka.service"), ("", "kafka.service")),
    (Workload("/init.scope"), ("", "unknown")),
    (Workload("/docker/c", container="c"), ("c", "")),
    (Workload("/docker-c.scope", container="c", unit="docker-c.scope"), ("c", "docker-c.scope")),
    (Workload("/user.slice"), ("", "")),
    (Workload("/docker/c", container="c", container_name="taskmanager"), ("taskmanager", "")),
]


@pytest.mark.parametrize(("workload", "labels"), LABELS)
def test_labels(workload: Workload, labels: tuple[str, str]) -> None:
    assert workload.labels == labels


def test_is_called_by_its_name() -> None:
    named = Workload(container=ID, container_name="taskmanager")
    assert named.is_called("taskmanager") and named.is_called(ID) and not named.is_called("task")
