"""What is wrong with sources, as lines of the log: what is looked at, and what is said then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flowmap.daemon.source_log import LOSS_EVERY, SourceLog
from flowmap.model.source import SourceFacts, SourceStats

Said = list[tuple[str, str]]
"""Level and line."""
GONE = "missing; its packets count as soon as it appears"


def noted(**notes: str) -> SourceStats:
    return SourceStats(notes={key.replace("_", " "): note for key, note in notes.items()})


def warned(*lines: str) -> Said:
    return [("WARNING", line) for line in lines]


NOTES: list[tuple[str, list[tuple[SourceStats, Said]]]] = [
    ("nothing", [(noted(), [])]),
    ("from-the-start", [(noted(a="x"), warned("capture: a: x")), (noted(a="x"), [])]),
    ("later", [(noted(), []), (noted(a="x", b="y"), warned("capture: a: x", "capture: b: y"))]),
    ("over", [(noted(a="x"), warned("capture: a: x")), (noted(), [("INFO", "capture: a: resolved")])]),
    (
        "again",
        [
            (noted(a="x"), warned("capture: a: x")),
            (noted(), [("INFO", "capture: a: resolved")]),
            (noted(), []),
            (noted(a="x"), warned("capture: a: x")),
        ],
    ),
    ("numbers-grow", [(noted(a="9 flows"), warned("capture: a: 9 flows")), (noted(a="10 flows"), [])]),
    (
        "comes-and-goes-under-one-key",
        [
            (noted(interface_n0=GONE), warned(f"capture: interface n0: {GONE}")),
            (noted(interface_n0="was missing 1 times"), warned("capture: interface n0: was missing 1 times")),
            (noted(interface_n0=GONE), warned(f"capture: interface n0: {GONE}")),
        ],
    ),
]


def counted(overruns: int = 0, **lost: int) -> SourceStats:
    return SourceStats(lost=lost, overruns=overruns)


LOSSES: list[tuple[str, list[tuple[float, SourceStats, Said]]]] = [
    ("nothing", [(0, counted(), []), (99, counted(odd=0), [])]),
    ("before-the-first-look", [(0, counted(odd=1), warned("capture: lost 1 records (odd)"))]),
    (
        "what-grew",
        [
            (0, counted(), []),
            (1, counted(ring_full=5), warned("capture: lost 5 records (ring_full)")),
            (99, counted(ring_full=8), warned("capture: lost 3 records (ring_full)")),
            (999, counted(ring_full=8), []),
        ],
    ),
    (
        "once-a-minute",
        [
            (0, counted(odd=1), warned("capture: lost 1 records (odd)")),
            (LOSS_EVERY - 1, counted(odd=3), []),
            (LOSS_EVERY, counted(odd=7), warned("capture: lost 6 records (odd)")),
            (LOSS_EVERY + 1, counted(odd=9), []),
            (2 * LOSS_EVERY, counted(odd=9), warned("capture: lost 2 records (odd)")),
        ],
    ),
    (
        "several-reasons",
        [(0, counted(odd=2, malformed=3, late=0), warned("capture: lost 5 records (odd 2, malformed 3)"))],
    ),
    (
        "overruns",
        [
            (0, counted(1), warned("capture: the kernel dropped events once; a full read follows")),
            (99, counted(4), warned("capture: the kernel dropped events 3 times; a full read follows")),
        ],
    ),
    (
        "both",
        [
            (
                *(0, counted(2, truncated=1)),
                warned("capture: lost 1 records (truncated); the kernel dropped events 2 times; a full read follows"),
            )
        ],
    ),
    (
        "counted-overruns-are-no-second-loss",
        [
            (0, counted(1, ring_full=5), warned("capture: lost 5 records (ring_full)")),
            (99, counted(2, ring_full=5), []),
        ],
    ),
    ("starts-again-from-nothing", [(0, counted(odd=5), warned("capture: lost 5 records (odd)")), (99, counted(), [])]),
]


class Looks:
    """One look after the other at a source, and what each says."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        self._caplog = caplog
        self._source: Any = SimpleNamespace(
            facts=SourceFacts("capture", "ip", announces_births=True), stats=SourceStats()
        )
        self._source_log = SourceLog([self._source])

    def said(self, now: float, stats: SourceStats) -> Said:
        for name in ("notes", "lost", "overruns"):
            setattr(self._source.stats, name, getattr(stats, name))
        self._caplog.clear()
        self._source_log.check(now)
        return [(record.levelname, record.getMessage()) for record in self._caplog.records]


@pytest.mark.parametrize("steps", [row[1] for row in NOTES], ids=[row[0] for row in NOTES])
def test_degradations(caplog: pytest.LogCaptureFixture, steps: list[tuple[SourceStats, Said]]) -> None:
    looks = Looks(caplog)
    assert [looks.said(0.0, stats) for stats, _ in steps] == [said for _, said in steps]


@pytest.mark.parametrize("steps", [row[1] for row in LOSSES], ids=[row[0] for row in LOSSES])
def test_losses(caplog: pytest.LogCaptureFixture, steps: list[tuple[float, SourceStats, Said]]) -> None:
    looks = Looks(caplog)
    assert [looks.said(now, stats) for now, stats, _ in steps] == [said for _, _, said in steps]


def test_each_source_for_itself(caplog: pytest.LogCaptureFixture) -> None:
    sources: list[Any] = [
        SimpleNamespace(facts=SourceFacts(name, "ip", announces_births=True), stats=counted(1))
        for name in ("conntrack", "sockets")
    ]
    sources[1].stats.notes["failed"] = "no"
    SourceLog(sources).check(0.0)
    assert caplog.messages == [
        "conntrack: the kernel dropped events once; a full read follows",
        "sockets: failed: no",
        "sockets: the kernel dropped events once; a full read follows",
    ]


def test_maps_that_are_changed_in_place(caplog: pytest.LogCaptureFixture) -> None:
    stats = SourceStats()
    source: Any = SimpleNamespace(facts=SourceFacts("sockets", "ip", announces_births=True), stats=stats)
    source_log = SourceLog([source])
    for at, number in ((0.0, 2), (LOSS_EVERY, 5)):
        stats.lost["late"] = number
        source_log.check(at)
    assert caplog.messages == ["sockets: lost 2 records (late)", "sockets: lost 3 records (late)"]
