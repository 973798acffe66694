"""The metrics page as the demo reads it."""

from __future__ import annotations

import pytest

from flowmap.sandbox.demo.scenario import Amount, SeriesName
from flowmap.sandbox.demo.scrape import read_page, samples

PAGE = """# HELP flowmap_deployment_transmit_bytes_total Bytes.
# TYPE flowmap_deployment_transmit_bytes_total counter
flowmap_deployment_transmit_bytes_total{deployment="orders",peer="kafka"} 100
flowmap_deployment_receive_bytes_total{deployment="orders",peer="kafka"} 20
flowmap_deployment_connections_total{deployment="orders",peer="kafka"} 2
flowmap_deployment_open_connections{deployment="orders",peer="kafka"} 1
flowmap_shared_transmit_bytes_total{deployments="b,a",peer="kafka"} 7
flowmap_unattributed_transmit_bytes_total{peer="dns",reason="unknown"} 5
flowmap_unattributed_transmit_bytes_total{peer="dns",reason="failed"} 6
flowmap_pending_transmit_bytes 3
flowmap_pending_receive_bytes 1
flowmap_observed_transmit_bytes_total{source="conntrack"} %d
flowmap_observed_receive_bytes_total{source="conntrack"} 21
flowmap_series 4
"""


@pytest.mark.parametrize(("observed", "conserved"), [(121, True), (122, False)])
def test_a_page(observed: int, conserved: bool) -> None:
    page = read_page(PAGE % observed)
    assert page.rows == {
        SeriesName(("orders",), "kafka"): Amount(100, 20, 2),
        SeriesName(("a", "b"), "kafka"): Amount(7, 0, None),
        SeriesName((), "dns"): Amount(11, 0, None),
    }
    assert page.open == {SeriesName(("orders",), "kafka"): 1}
    assert (page.pending, page.conserved) == (4, conserved)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a 1", [("a", {}, 1.0)]),
        ('a{x="1",y="2"} 1.5e3', [("a", {"x": "1", "y": "2"}, 1500.0)]),
        (r'a{x="say \"hi\"\n\\"} 1', [("a", {"x": 'say "hi"\n\\'}, 1.0)]),
        ("# a 1", []),
        ("", []),
    ],
)
def test_lines(line: str, expected: list[tuple[str, dict[str, str], float]]) -> None:
    assert [tuple(sample) for sample in samples(line)] == expected
