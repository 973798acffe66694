"""Stale connections and peers that are not expected, counted for the metrics."""

from __future__ import annotations

from flowmap.engine.findings import Findings, count_stale, count_unexpected
from flowmap.export.series import SeriesKey
from flowmap.model.deployment import DeploymentInfo, Owner
from flowmap.model.expectation import Expectation, FindingKind
from flowmap.model.findings import ConnectionLimits, StaleReason
from flowmap.model.selection import LabelFilter
from tests.support import live_traffic
from tests.support.accounting import accounting_for
from tests.support.live_traffic import EPOCH
from tests.support.open_connections import OVER, RUNNING, listed, open_connections

X, Y = (Owner("", "ns", f"id-{name}", name) for name in "xy")  # as series have them


def test_unexpected_peers_of_the_series() -> None:
    accounting = accounting_for()
    whole = X._replace(workspace="w")
    accounting.deployments[whole.key] = DeploymentInfo(whole, labels={"team": "t"})
    for owners, peer in (((X,), "kafka"), ((X,), "mysql"), ((X,), "redis"), ((Y,), "kafka")):
        accounting.series_table.series(SeriesKey("deployment", owners, "", peer, "tcp"), now=0)
    entries = (Expectation(("kafka", "gone"), ("redis",), None, LabelFilter("team", ("t",))),)
    assert count_unexpected(accounting, entries) == {
        ((whole,), FindingKind.NEW): 1,
        ((whole,), FindingKind.FORBIDDEN): 1,
        ((Y,), FindingKind.NO_ENTRY): 1,
    }
    assert count_unexpected(accounting, None) == {}


def test_a_report_is_kept_for_a_while_and_a_change_counts_at_once() -> None:
    accounting = accounting_for()
    findings = Findings(ConnectionLimits(), None)
    before = findings.report(accounting)
    accounting.series_table.series(SeriesKey("deployment", (X,), "", "kafka", "tcp"), now=0)
    assert findings.report(accounting) is before
    findings.configure(ConnectionLimits(), (Expectation((), (), "x"),))
    assert findings.report(accounting).unexpected == {((X,), FindingKind.NEW): 1}


def test_stale_connections() -> None:
    traffic = open_connections()
    of_x, of_y = live_traffic.X, live_traffic.Y
    listed(traffic, of_x, RUNNING)
    listed(traffic, of_y, OVER)
    counts = count_stale(traffic.accounting, ConnectionLimits(connections=1), epoch=EPOCH)
    assert counts == {
        ((of_x,), StaleReason.OLDER_THAN_RUN): 2,
        ((of_y,), StaleReason.JOB_ENDED): 1,
        ((of_x,), StaleReason.ABOVE_LIMIT): 1,
    }
    assert count_stale(accounting_for(), ConnectionLimits(1, 1.0), epoch=EPOCH) == {}
