"""Findings from the daemon's answer, with their traffic."""

from __future__ import annotations

from flowmap.cli.expect.judging import finding_json, judged, without_deployment
from flowmap.model.expectation import Expectation
from flowmap.model.selection import LabelFilter
from tests.support.observed_edges import deployment, edge

EDGES = [edge("kafka", deployment("orders")), edge("mysql", deployment("orders"), deployment("report"), sent=90)]


def test_findings_have_their_traffic() -> None:
    found = judged([Expectation(("kafka",), (), "*")], EDGES, with_missing=True)
    keys = ("workspace", "namespace", "deploymentId", "name")
    both = [{key: deployment(name)[key] for key in keys} for name in ("orders", "report")]
    assert [finding_json(one) for one in found] == [
        {
            "kind": "new",
            "deployments": both,
            "entry": None,
            "peer": "mysql",
            "bytes": 95,
            "firstSeen": None,
            "lastSeen": "2026-11-21T20:16:07.000Z",
        }
    ]


def test_missing_peers_only_if_everything_was_seen() -> None:
    entries = [Expectation(("kafka", "mysql", "gone"), (), "*")]
    assert [finding_json(one)["kind"] for one in judged(entries, EDGES, with_missing=True)] == ["missing"]
    assert judged(entries, EDGES, with_missing=False) == []


def test_labels_count() -> None:

    entries = [Expectation(("*",), (), None, LabelFilter("team", ("o", "r")))]
    assert judged(entries, EDGES, with_missing=True) == []


def test_entries_for_no_deployment() -> None:
    named = [Expectation((), (), name) for name in ("orders", "id-report", "ord*", "order", "nosuch-*")]
    label = Expectation((), (), None, LabelFilter("team", ("z",)))
    assert without_deployment([*named, label], EDGES) == ["order", "nosuch-*", "team=z"]
