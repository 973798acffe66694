"""Which deployments a question finds, in both readings."""

from __future__ import annotations

from typing import Any

import pytest

from flowmap.catalog_file.catalog import parse_catalog
from flowmap.catalog_file.matching import Index, IpQuestion

CATALOG: dict[str, Any] = {
    "namespaces": ["n", "other"],
    "deployments": [
        {"id": "reader", "addresses": ["10.0.0.1"], "reads": ["10.9.0.1:9092"]},
        {"id": "writer", "addresses": ["10.0.0.2"], "writes": ["10.9.0.1:9092", "10.9.0.2"]},
        {
            "id": "copier",
            "addresses": ["10.0.0.3", "10.0.0.1"],
            "reads": ["10.9.0.1:9092"],
            "writes": ["10.9.0.3:3306"],
        },
        {"id": "six", "addresses": ["2001:db8::1"], "writes": ["[2001:db8::9]:9092"]},
        {
            "id": "moved",
            "addresses": [{"ip": "10.0.0.7", "since": 100, "until": 200}],
            "reads": ["10.9.0.1:9092"],
            "connections": [{"client": "10.0.0.7:4000", "server": "10.9.0.1:9092"}],
        },
        {"id": "next", "addresses": [{"ip": "10.0.0.7", "since": 200}], "reads": ["10.9.0.1:9092"]},
        {"id": "elsewhere", "namespace": "other", "addresses": ["10.0.0.1"], "reads": ["10.9.0.1:9092"]},
    ],
}

ROWS: list[tuple[IpQuestion, float, set[str], set[str]]] = [
    # question, when, by connection, by data flow
    (IpQuestion(src_ip="10.0.0.1"), 0, {"reader", "copier"}, set()),
    (IpQuestion(src_ip="10.0.0.9"), 0, set(), set()),
    (IpQuestion(src_ip="2001:db8::1"), 0, {"six"}, set()),
    (IpQuestion(dst_ip="10.9.0.1", dst_port=9092), 0, {"reader", "writer", "copier", "moved", "next"}, {"writer"}),
    (IpQuestion(dst_ip="10.9.0.1", dst_port=9093), 0, set(), set()),
    (IpQuestion(dst_ip="10.9.0.1"), 0, {"reader", "writer", "copier", "moved", "next"}, {"writer"}),
    (IpQuestion(dst_ip="10.9.0.2", dst_port=1), 0, {"writer"}, {"writer"}),
    (IpQuestion(dst_ip="2001:db8::9", dst_port=9092), 0, {"six"}, {"six"}),
    (IpQuestion(src_ip="10.9.0.1", src_port=9092), 0, set(), {"reader", "copier", "moved", "next"}),
    (IpQuestion("10.0.0.1", None, "10.9.0.1", 9092), 0, {"reader", "copier"}, set()),
    (IpQuestion("10.0.0.1", None, "10.9.0.3", 3306), 0, {"copier"}, set()),
    (IpQuestion("10.9.0.1", 9092, "10.9.0.3", 3306), 0, set(), {"copier"}),
    (IpQuestion("10.0.0.1", 4000, "10.9.0.1", 9092), 0, {"reader", "copier"}, set()),
    (IpQuestion(src_ip="10.0.0.7"), 99, set(), set()),
    (IpQuestion(src_ip="10.0.0.7"), 100, {"moved"}, set()),
    (IpQuestion(src_ip="10.0.0.7"), 200, {"next"}, set()),
    (IpQuestion("10.0.0.7", 4000, "10.9.0.1", 9092), 150, {"moved"}, set()),
    (IpQuestion("10.0.0.7", 4001, "10.9.0.1", 9092), 150, {"moved"}, set()),
    (IpQuestion("10.0.0.7", 4000, "10.9.0.1", 9092), 250, set(), set()),
]


def index(semantics: str) -> Index:
    deployments = [{"namespace": "n", "name": entry["id"], **entry} for entry in CATALOG["deployments"]]
    return Index(parse_catalog({**CATALOG, "deployments": deployments, "semantics": semantics}))


def _id(value: object) -> str:
    """A set is written the same way in every process, so that workers agree on the names of the tests."""
    return str(sorted(value)) if isinstance(value, set) else str(value)


@pytest.mark.parametrize(("question", "now", "by_connection", "by_dataflow"), ROWS, ids=_id)
def test_both_readings(question: IpQuestion, now: float, by_connection: set[str], by_dataflow: set[str]) -> None:
    expected = {"connection": by_connection, "dataflow": by_dataflow, "both": by_connection | by_dataflow}
    for semantics, wanted in expected.items():
        found = index(semantics).by_ip("n", question, now=now)
        assert {entry.id for entry in found} == wanted, semantics


def test_a_connection_known_to_another_deployment_is_not_the_question() -> None:
    catalog = {
        "deployments": [
            {
                "id": name,
                "name": name,
                "addresses": ["10.0.0.1"],
                "reads": ["10.9.0.1:1"],
                "connections": [{"client": f"10.0.0.1:{port}", "server": "10.9.0.1:1"}],
            }
            for name, port in (("a", 1000), ("b", 2000))
        ]
    }
    known = Index(parse_catalog(catalog))
    for port, wanted in ((1000, ["a"]), (2000, ["b"]), (3000, ["a", "b"])):
        found = known.by_ip("default-namespace", IpQuestion("10.0.0.1", port, "10.9.0.1", 1), now=0)
        assert [entry.id for entry in found] == wanted


def test_namespaces_are_apart() -> None:
    found = index("both").by_ip("other", IpQuestion(src_ip="10.0.0.1"), now=0)
    assert [entry.id for entry in found] == ["elsewhere"]


@pytest.mark.parametrize(
    ("question", "shape"),
    [
        (IpQuestion("c"), "client"),
        (IpQuestion(None, None, "s", 1), "sink"),
        (IpQuestion("s", 1), "source"),
        (IpQuestion("c", None, "s", 1), "link"),
        (IpQuestion("c", 2, "s", 1), "exact"),
        (IpQuestion(None, None, "s"), "other"),
    ],
)
def test_shapes(question: IpQuestion, shape: str) -> None:
    assert question.shape == shape
