"""flowmap replay of recordings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.replayed import run

ABSENT = "flowmap: --query: no such connection in the file"


@pytest.mark.parametrize(
    ("query", "until", "status", "state", "names", "said"),
    [
        (("10.0.0.1:40000", "10.1.0.1:9092"), None, 0, "attributed", ["x"], ""),  # it is over and forgotten
        (("10.0.0.2", "10.1.0.1"), None, 0, "attributed", ["x"], ""),
        (("10.0.0.2:7", "10.1.0.1:9092"), "2027-01-15T08:00:04Z", 3, "pending", [], ""),
        (("10.0.0.9", "10.1.0.1:9092"), None, 3, "pending", [], f"{ABSENT}\n"),
        # Its ends are those of x; it is still not there.
        (("10.0.0.1:1", "10.1.0.1:9092"), "2028-01-01T00:00:00Z", 3, "pending", [], f"{ABSENT} up to --until\n"),
    ],
)
def test_one_connection(
    path: Path,
    capsys: pytest.CaptureFixture[str],
    query: tuple[str, str],
    until: str | None,
    status: int,
    state: str,
    names: list[str],
    said: str,
) -> None:
    limit = [] if until is None else ["--until", until]
    found, out, err = run(capsys, str(path), "-o", "json", "--query", *query, *limit)
    answer = json.loads(out)
    assert (found, err, answer["state"]) == (status, said, state)
    assert [one["name"] for one in answer["deployments"]] == names
    run(capsys, str(path), "-o", "table", "--query", *query, *limit)


def test_a_recording_that_was_cut_says_so(path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(path.read_bytes()[:-30])
    status, out, err = run(capsys, str(cut), "-o", "json")
    assert status == 3
    assert len(json.loads(out)["flows"]) == 2
    assert err.startswith(f"flowmap: {cut} is cut off at byte ")
    assert err.count("\n") == 1


def test_dry_run(path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, err = run(capsys, str(path), "--dry-run", "-o", "json")
    assert (status, err) == (0, "")
    cost = json.loads(out)
    assert cost["recordedCalls"] == 4
    assert cost["callsByShape"] == {"client": 2, "sink": 1, "source": 1, "host": 1}
    config = tmp_path / "flowmap.yaml"
    config.write_text("control_plane: {workspace: w, namespaces: [ns]}\nattribute: {semantics: connection}\n")
    status, out, _ = run(capsys, str(path), "--dry-run", "-o", "table", "-c", str(config))
    assert status == 0
    assert "per 1,000 flows" in out
    assert "source" not in out
