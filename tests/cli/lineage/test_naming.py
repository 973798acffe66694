"""Names of datasets, with OpenLineage's own rules as oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from openlineage.client.naming import dataset as rules

from flowmap.cli.lineage.naming import Dataset, dataset


def named(peer: str, *endpoints: str) -> Dataset:
    return dataset({"peer": peer, "endpoints": list(endpoints)})


ORACLE: list[tuple[str, str, Callable[[], Any]]] = [
    ("orders", "9092", lambda: rules.Kafka("10.0.0.9", "9092", "t")),
    ("orders-kafka", "19092", lambda: rules.Kafka("10.0.0.9", "19092", "t")),
    ("orders", "3306", lambda: rules.MySQL("10.0.0.9", "3306", "d", "t")),
    ("MariaDB main", "33060", lambda: rules.MySQL("10.0.0.9", "33060", "d", "t")),
    ("orders", "5432", lambda: rules.Postgres("10.0.0.9", "5432", "d", "s", "t")),
    ("orders", "9042", lambda: rules.Cassandra("10.0.0.9", "9042", "k", "t")),
    ("orders", "1521", lambda: rules.Oracle("10.0.0.9", "1521", "n", "s", "t")),
    ("orders", "8020", lambda: rules.HDFS("10.0.0.9", "8020", "/p")),
    ("trino", "8080", lambda: rules.Trino("10.0.0.9", "8080", "c", "s", "t")),
]


@pytest.mark.parametrize(("peer", "port", "rule"), ORACLE)
def test_namespaces_are_those_of_the_rules(peer: str, port: str, rule: Callable[[], Any]) -> None:
    assert named(peer, f"10.0.0.9:{port}") == Dataset(rule().get_namespace(), peer)


OTHERS = [
    ("features", ("10.0.0.9:6379",), Dataset("10.0.0.9:6379", "features")),
    ("10.0.0.9:3306", (), Dataset("mysql://10.0.0.9:3306", "10.0.0.9:3306")),
    ("[2001:db8::1]:9092", (), Dataset("kafka://[2001:db8::1]:9092", "[2001:db8::1]:9092")),
    ("orders-kafka", (), Dataset("kafka://orders-kafka", "orders-kafka")),
    ("postgres-to-kafka", ("10.0.0.9:1",), Dataset("postgres://10.0.0.9:1", "postgres-to-kafka")),  # the first word
    ("kafkaesque", ("10.0.0.9:1",), Dataset("10.0.0.9:1", "kafkaesque")),  # no part of a word
    ("cluster", ("10.0.0.1:9092", "10.0.0.2:9092"), Dataset("kafka://10.0.0.1:9092", "cluster")),
]


@pytest.mark.parametrize(("peer", "endpoints", "expected"), OTHERS)
def test_other_names(peer: str, endpoints: tuple[str, ...], expected: Dataset) -> None:
    assert named(peer, *endpoints) == expected
