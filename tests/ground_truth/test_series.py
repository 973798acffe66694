"""Results of many runs: a line each, and their sums."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.ground_truth.series import SUMS, Options, Result, carry_out_all, sums

OPTIONS = Options(quick=True, duration=1.0, clients=1, rate=1.0, grace=2.0, slack=2.5)
ONE = Result(
    1, "none", 2.0, "", flows=100, right=60, attributable=40, attributed=40, calls=90, faulty_calls=10, allowed=200.0,
    bytes=1500, named_within=(1.0, 5.0),
)  # fmt: skip
OTHER = Result(
    2, "none", 4.0, "", flows=300, right=180, wrong=1, attributable=160, attributed=159, calls=100, allowed=100.0,
    bytes=500, missing=3, named_within=(2.0, 8.0), failures=("misattributed",),
)  # fmt: skip
LATE = Result(1, "late", 1.0, "", flows=10, named_within=(1.0, 1.0))


def test_runs_in_the_file_are_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "results"
    file.write_text("".join(json.dumps(asdict(one)) + "\n" for one in (ONE, LATE)))
    found = list(carry_out_all([(1, "none"), (1, "late")], OPTIONS, jobs=1, file=file))
    assert [(one.seed, one.mode, one.flows, one.share) for one in found] == [
        (1, "none", 100, 100.0),
        (1, "late", 10, 100.0),
    ]


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([LATE], [{"MODE": "late", "RUNS": 1, "ATTRIBUTABLE": 0, "SHARE %": "-", "FAILED": 0}]),
        (
            [LATE, ONE, OTHER],
            [
                {
                    "MODE": "none", "RUNS": 2, "FLOWS": 400, "WRONG": 1, "ATTRIBUTABLE": 200, "NAMED": 199,
                    "SHARE %": 99.5, "BYTES": "2.0 kB", "MISSING": 3, "CALLS/1000": 500,
                    "CALLS/ALLOWED": "at most 1.00", "MEDIAN s": "2, 2", "FAILED": 1,
                },
                {"MODE": "late", "RUNS": 1},
                {"MODE": "all", "RUNS": 3, "FLOWS": 410, "LOAD": "2, 4"},
            ],
        ),
    ],
)  # fmt: skip
def test_sums(results: list[Result], expected: list[dict[str, object]]) -> None:
    rows = [dict(zip(SUMS, row, strict=True)) for row in sums(results)]
    assert [{name: row[name] for name in wanted} for row, wanted in zip(rows, expected, strict=True)] == expected
