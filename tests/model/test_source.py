"""Statistics of a source."""

from __future__ import annotations

from dataclasses import fields

from flowmap.model.source import SourceStats


def test_a_snapshot_does_not_change() -> None:
    stats = SourceStats(up=True, records=1, lost={"malformed": 1}, notes={"offload": "text"}, interfaces={"eth0": True})
    taken, before = stats.snapshot(), stats.snapshot()
    stats.up, stats.records = False, 2
    for field in fields(stats):
        if isinstance(value := getattr(stats, field.name), dict):
            value["more"] = 1
    assert taken == before != stats


def test_losses_and_full_reads_are_added_up() -> None:
    stats = SourceStats()
    lost = stats.lost
    for number in (2, 0, 3):
        stats.count_lost("malformed", number)
    for reason in ("start", "timer", "timer"):
        stats.count_resync(reason)
    assert (stats.lost, stats.resyncs) == ({"malformed": 5}, {"start": 1, "timer": 2})
    assert lost == {}, "a mapping that another thread reads stays as it is"
