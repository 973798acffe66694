"""The likelier client by port, symmetric in both ports."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.sources.port_roles import DYNAMIC, SERVICES, likelier_client

EPHEMERAL = (32_768, 40_000)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (32_768, 9092, 1),
        (40_000, 9092, 1),
        (40_001, 9092, 0),  # not a client port of this host, nor dynamic
        (DYNAMIC, 9092, 1),
        (DYNAMIC - 1, 9092, 0),
        (9092, SERVICES - 1, 1),
        (SERVICES, 53, 1),
        (9092, SERVICES, 0),
        (35_000, DYNAMIC, 0),
        (53, 123, 0),
        (0, 0, 0),
        (65_535, 1, 1),
    ],
)
def test_client_ports(one: int, other: int, expected: int) -> None:
    ports = np.array([one], np.uint16), np.array([other], np.uint16)
    assert likelier_client(*ports, EPHEMERAL).tolist() == [expected]
    assert likelier_client(*ports[::-1], EPHEMERAL).tolist() == [-expected]
