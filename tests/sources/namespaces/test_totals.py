"""Statistics of all namespaces, added up by kind of source."""

from __future__ import annotations

from flowmap.sources.namespaces.totals import Totals
from tests.support.scripted_source import ScriptedSource


def test_what_was_counted_since_the_last_time_is_added() -> None:
    own, other = ScriptedSource(), ScriptedSource()
    own.stats.records, own.stats.lost, own.stats.resyncs = 10, {"late": 1}, {"timer": 1}
    totals = Totals([other], [own])
    other.stats.records, other.stats.overruns = 5, 2
    other.stats.count_lost("late", 3)
    other.stats.count_resync("start")
    totals.add()
    totals.add()
    other.stats.records += 1
    totals.add()
    assert (own.stats.records, own.stats.overruns) == (16, 2)
    assert (own.stats.lost, own.stats.resyncs) == ({"late": 4}, {"timer": 1, "start": 1})
