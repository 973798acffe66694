"""Containers and units at the endpoints of flows."""

from __future__ import annotations

import pytest

from flowmap.model.workload import Workload

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
