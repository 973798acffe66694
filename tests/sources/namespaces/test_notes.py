"""Notes about other network namespaces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flowmap.opener.protocol import Report
from flowmap.sources.namespaces.client import OpenerClient
from flowmap.sources.namespaces.notes import KEYS, notes_about, problem_of
from flowmap.sources.namespaces.pace import SharedPace

FINE = Report(3, 3, 0, 0, 0, (), "")

PROBLEMS = [
    (FINE, ""),
    (replace(FINE, over_limit=2), "2 are over the limit (raise LimitNOFILE)"),
    (replace(FINE, failed=1, cause="no permission"), "1 cannot be entered: no permission"),
    (replace(FINE, missing=("blue", "red")), "not found: blue, red"),
    (replace(FINE, hidden=1), "those of 1 process may not be read"),
    (replace(FINE, failed=1, hidden=4), "1 cannot be entered; those of 4 processes may not be read"),
]


@pytest.mark.parametrize(("report", "problem"), PROBLEMS)
def test_problem_of_a_search(report: Report, problem: str) -> None:
    assert problem_of(report) == problem


def test_notes_are_about_what_is_wrong(tmp_path: Path) -> None:
    client = OpenerClient(tmp_path / "opener.sock", None, conntrack=False)
    pace = SharedPace(1.0)
    assert notes_about(client, FINE, pace) == {}
    assert not client.connect()
    pace.total = 3600.0
    notes = notes_about(client, replace(FINE, failed=1), pace)
    assert notes.keys() == KEYS
    assert notes["namespaces"] == "1 cannot be entered"
    assert notes["opener"].startswith("no new network namespaces are read: ")
