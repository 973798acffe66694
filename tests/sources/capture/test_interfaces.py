"""Interfaces by the names of the configuration."""

from __future__ import annotations

import pytest

from flowmap.sources.capture.interfaces import Interface, by_name

ETH0, LO = Interface("eth0", 2, True, ("uplink", "wan")), Interface("lo", 1, False)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([], {"eth0": ETH0, "lo": LO}),
        (["eth0"], {"eth0": ETH0}),
        (["uplink"], {"uplink": ETH0}),
        (["wan", "eth0"], {"wan": ETH0, "eth0": ETH0}),
        (["eth1"], {}),
        (["eth1", "lo"], {"lo": LO}),
    ],
)
def test_own_and_alternative_names(wanted: list[str], expected: dict[str, Interface]) -> None:
    assert by_name([LO, ETH0], wanted) == expected
    assert list(by_name([LO, ETH0], ())) == ["lo", "eth0"]
