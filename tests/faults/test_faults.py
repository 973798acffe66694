"""Every fault really happens, short: to one daemon after the other, or to one of its own.

``python -m tests.faults`` takes its time, one fault a daemon, and writes what the table of tests/README.md says.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.rows import ELSEWHERE, ROWS, CoveredElsewhere, Row
from tests.faults.scene import Cost, scene
from tests.faults.table import RESULTS
from tests.support.netns import needs_root

PACE = 0.4
UNDER_WAY = 3000
"""Bytes of a few packets, which is all that a table that is flushed may cost."""
SHORT = [row for row in ROWS if not row.by_hand]
ROOT = Path(__file__).parents[2]


def check(cost: Cost, *, loses: str) -> None:
    assert cost.wrong == 0, cost
    assert 0 <= cost.lost < cost.bytes, cost
    assert cost.lost == 0 or loses, cost
    assert cost.connections > cost.unnamed, cost


@pytest.mark.kernel
@needs_root
@pytest.mark.parametrize("row", [row for row in SHORT if row.alone], ids=lambda row: row.name)
def test_a_fault(row: Row, tmp_path: Path) -> None:
    with scene(tmp_path, row.settings) as made:
        made.pace = PACE
        row.act(made)
        check(made.cost(), loses=row.loses)
        assert "Traceback" not in made.daemon.log.read_text()


@pytest.mark.kernel
@needs_root
def test_one_fault_after_the_other(tmp_path: Path) -> None:
    with scene(tmp_path, {}) as made:
        made.pace = PACE
        before = made.resources()
        for row in SHORT:
            if not row.alone:
                row.act(made)
        after = made.resources()
        cost = made.cost()
        check(cost, loses="".join(row.loses for row in SHORT if not row.alone))
        assert cost.lost <= UNDER_WAY, cost
        assert after[0] <= before[0] + 8 and after[1] <= before[1] + 4, (before, after)
        assert "Traceback" not in made.daemon.log.read_text()


def test_the_results_are_of_these_faults_and_as_they_may_be() -> None:
    results = {name: Cost(**cost) for name, cost in json.loads(RESULTS.read_text()).items()}
    assert list(results) == [row.name for row in ROWS]
    for row in ROWS:
        check(results[row.name], loses=row.loses)


@pytest.mark.parametrize("other", ELSEWHERE, ids=lambda other: other.name)
def test_the_others_are_there(other: CoveredElsewhere) -> None:
    path, _, name = other.test.partition("::")
    assert f"\ndef {name}(" in (ROOT / path).read_text()
