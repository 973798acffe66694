"""The demo's bookkeeping: truth, verdict, and what is read from a scrape."""

from __future__ import annotations

import pytest

from flowmap.catalog_file.catalog import parse_catalog
from flowmap.sandbox.demo import scenario
from flowmap.sandbox.demo.jobs import Truth
from flowmap.sandbox.demo.scenario import LINKS, SERVICES, Amount, ExpectedVerdict, SeriesName, judge
from flowmap.sandbox.demo.scrape import Page, Sample, read_page, samples

PORTS = {name: port for name, (_, port) in SERVICES.items()}
A, B = SeriesName(("a",), "kafka"), SeriesName(("b",), "kafka")
BOTH, NOBODY = SeriesName(("a", "b"), "kafka"), SeriesName((), "kafka")

VERDICTS = [
    (
        "equal",
        {A: Amount(5, 7), NOBODY: Amount(1, 1)},
        {A: Amount(5, 7), NOBODY: Amount(1, 1)},
        ExpectedVerdict(12, 0, 0),
    ),
    ("connections do not matter", {A: Amount(5, 7, 9)}, {A: Amount(5, 7, 1)}, ExpectedVerdict(12, 0, 0)),
    (
        "taken from another",
        {A: Amount(6, 7), B: Amount(2, 0)},
        {A: Amount(5, 7), B: Amount(3, 0)},
        ExpectedVerdict(14, 1, 1),
    ),
    ("a name for nobody's", {A: Amount(5, 0)}, {NOBODY: Amount(5, 0)}, ExpectedVerdict(0, 5, 5)),
    ("no name for somebody's", {NOBODY: Amount(5, 0)}, {A: Amount(5, 0)}, ExpectedVerdict(0, 0, 5)),
    ("one of a set", {A: Amount(5, 0)}, {BOTH: Amount(5, 0)}, ExpectedVerdict(0, 5, 5)),
    ("one direction for the other", {A: Amount(5, 7)}, {A: Amount(7, 5)}, ExpectedVerdict(10, 2, 2)),
    ("nothing seen", {}, {A: Amount(5, 7)}, ExpectedVerdict(0, 0, 12)),
]


@pytest.mark.parametrize(("seen", "truth", "verdict"), [row[1:] for row in VERDICTS], ids=[row[0] for row in VERDICTS])
def test_verdict(seen: dict[SeriesName, Amount], truth: dict[SeriesName, Amount], verdict: ExpectedVerdict) -> None:
    assert judge(seen, truth) == verdict
    assert verdict.right == (verdict.misattributed == verdict.missing == 0)


def test_truth_is_added_up_by_deployment_and_peer() -> None:
    twins = [number for number, link in enumerate(LINKS) if link.deployments == ("clickstream-sessions",)]
    assert len(twins) == 2
    rows = scenario.expected([Truth(str(number), 10, 100, 1) for number in twins])
    assert rows == {SeriesName(("clickstream-sessions",), "clickstream-kafka"): Amount(20, 200, 2)}


def test_the_scenario_has_every_kind_of_traffic() -> None:
    states = {SeriesName(link.deployments, link.service).state for link in LINKS}
    assert states == {"attributed", "shared", "unknown"}
    assert any(link.connections == 0 for link in LINKS)
    users = [link for link in LINKS if link.service == "orders-kafka" and len(link.deployments) == 1]
    assert len({link.deployments for link in users}) == 2


def test_addresses_tell_task_managers_and_services_apart() -> None:
    ends = [end for end, _ in SERVICES.values()]
    owners: dict[str, set[tuple[str, ...]]] = {}
    for link in LINKS:
        owners.setdefault(link.task_manager, set()).add(link.deployments)
    assert len(set(ends)) == len(ends)
    assert not set(ends) & owners.keys()
    assert all(len(sets) == 1 for sets in owners.values())


def test_the_catalog_is_one_the_control_plane_takes() -> None:
    catalog = parse_catalog(scenario.catalog(77, PORTS))
    assert {entry.name for entry in catalog.deployments} == {name for link in LINKS for name in link.deployments}
    by_name = {entry.name: entry for entry in catalog.deployments}
    assert [entry.ip for entry in by_name["clickstream-sessions"].addresses] == ["127.77.0.13", "127.77.0.14"]
    assert by_name["warehouse-loader"].writes == (("127.77.2.20", 3306),)


SAMPLES = [
    ("a 1", [Sample("a", {}, 1.0)]),
    ('a{x="1",y="b c"} 2.5', [Sample("a", {"x": "1", "y": "b c"}, 2.5)]),
    (r'a{x="q\"} \\ \n,y=\"z"} 3', [Sample("a", {"x": 'q"} \\ \n,y="z'}, 3.0)]),
    ('a{x="} 7"} 3', [Sample("a", {"x": "} 7"}, 3.0)]),
    ("a{} 1e3", [Sample("a", {}, 1000.0)]),
    ("# HELP a words\n# TYPE a counter\n\na 1\n", [Sample("a", {}, 1.0)]),
    ("not a sample at all", []),
]


@pytest.mark.parametrize(("text", "expected"), SAMPLES)
def test_samples(text: str, expected: list[Sample]) -> None:
    assert list(samples(text)) == expected


PAGE = r"""
flowmap_deployment_transmit_bytes_total{deployment="a",peer="kafka",protocol="tcp"} 5
flowmap_deployment_receive_bytes_total{deployment="a",peer="kafka",protocol="tcp"} 7
flowmap_deployment_connections_total{deployment="a",peer="kafka",protocol="tcp"} 2
flowmap_deployment_open_connections{deployment="a",peer="kafka",protocol="tcp"} 1
flowmap_deployment_tcp_retransmits_total{deployment="a",peer="kafka",protocol="tcp"} 99
flowmap_shared_transmit_bytes_total{deployments="b,a",peer="kafka"} 11
flowmap_shared_receive_bytes_total{deployments="b,a",peer="kafka"} 0
flowmap_unattributed_transmit_bytes_total{reason="unknown",peer="kafka"} 1
flowmap_unattributed_transmit_bytes_total{reason="failed",peer="kafka"} 2
flowmap_unattributed_receive_bytes_total{reason="unknown",peer="kafka"} 4
flowmap_pending_transmit_bytes 3
flowmap_pending_receive_bytes 0
flowmap_observed_transmit_bytes_total{source="sockets"} 22
flowmap_observed_receive_bytes_total{source="sockets"} 11
flowmap_ignored_bytes_total{source="sockets"} 1000
"""


def test_page() -> None:
    rows = {A: Amount(5, 7, 2), BOTH: Amount(11, 0, None), NOBODY: Amount(3, 4, None)}
    assert read_page(PAGE) == Page(rows, {A: 1}, 3, True)


@pytest.mark.parametrize("line", ["flowmap_pending_transmit_bytes 3", "flowmap_pending_receive_bytes 0"])
def test_a_byte_too_many_or_too_few_is_not_conserved(line: str) -> None:
    name, _, value = line.partition(" ")
    for off in (-1, 1):
        assert not read_page(PAGE.replace(line, f"{name} {int(value) + off}")).conserved
