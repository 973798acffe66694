"""What cannot be read in /proc, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowmap.system import proc
from flowmap.system.proc import COSTS, Unknown, read, unreadable

ROWS = [
    # what there is, the file, and what is read of it
    ([], "self/task", "{proc} is not mounted"),
    ([], "sys/kernel/x", "{proc} is not mounted"),
    (["self/"], "sys/kernel/x", "{proc}/sys is hidden from this process"),
    (["self/"], "stat", "{proc}/stat does not exist"),
    (["self/", "sys/kernel/"], "sys/kernel/x", "{proc}/sys/kernel/x does not exist"),
    (["self/", "stat/"], "stat", "{proc}/stat: Is a directory"),
]


@pytest.mark.parametrize(("there", "name", "cause"), ROWS)
def test_cause(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: list[str], name: str, cause: str) -> None:
    monkeypatch.setattr(proc, "PROC", tmp_path)
    monkeypatch.setattr(proc, "SYS", tmp_path / "sys")
    for one in there:
        (tmp_path / one).mkdir(parents=True)
    assert read(tmp_path / name) == Unknown(cause.format(proc=tmp_path), absent="does not exist" in cause)


def test_bytes_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"a\xffb\n")
    assert read(tmp_path / "x") == "a\\xffb\n"


def test_costs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(proc, "PROC", tmp_path)
    assert list(unreadable()) == [f"{tmp_path} is not mounted: {cost}" for cost in COSTS.values()]
    (tmp_path / "self" / "task").mkdir(parents=True)
    (tmp_path / "stat").touch()
    assert list(unreadable()) == []
