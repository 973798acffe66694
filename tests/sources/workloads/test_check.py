"""What ``flowmap check`` reports about containers and processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowmap.sources.workloads import check
from flowmap.system.cgroups import Mount
from flowmap.system.privileges import Capability

NO_TREE = Mount(None, cause="no cgroup v2 tree is mounted here")


@pytest.mark.parametrize(
    ("ids", "hybrid", "level", "words"),
    [
        ("visible", False, "ok", "are known from"),
        ("visible", True, "degraded", "cgroup v1 is in use"),
        ("hidden", False, "degraded", "1 of 2 cgroups with sockets are not in the tree"),
        ("none", False, "degraded", "the kernel reports no cgroups"),
        ("no sockets", False, "ok", "are known from"),
    ],
)
def test_containers(tmp_path: Path, ids: str, hybrid: bool, level: str, words: str) -> None:
    (tmp_path / "a.service").mkdir()
    one = os.stat(tmp_path / "a.service").st_ino
    reported = {"visible": {one, 0}, "hidden": {one, 1 << 60}, "none": {0}, "no sockets": set[int]()}[ids]
    (found,) = check.findings(reported, processes="off", mount=Mount(tmp_path, hybrid=hybrid))
    assert (found.name, found.level) == ("sockets.containers", level) and words in found.message
    assert bool(found.remedy) == (level != "ok")


def test_without_a_tree() -> None:
    (found,) = check.findings({5}, processes="off", mount=NO_TREE)
    assert found.level == "degraded" and NO_TREE.cause in found.message and "/sys/fs/cgroup" in found.remedy


@pytest.mark.parametrize(
    ("readable", "held", "setting", "level", "words"),
    [
        (True, True, "all", "ok", "can be read"),
        (True, True, "auto", "ok", "drops CAP_SYS_PTRACE"),
        (True, False, "auto", "ok", "can be read"),
        (False, False, "auto", "ok", "others need CAP_SYS_PTRACE"),
        (False, False, "all", "degraded", "CAP_SYS_PTRACE is missing"),
    ],
)
def test_processes(
    monkeypatch: pytest.MonkeyPatch, readable: bool, held: bool, setting: str, level: str, words: str
) -> None:
    monkeypatch.setattr(check, "held", lambda: {Capability.SYS_PTRACE} if held else set())
    monkeypatch.setattr(check, "_reads_others", lambda: readable)
    _, found = check.findings(set(), processes=setting, mount=NO_TREE)
    assert (found.name, found.level) == ("sockets.processes", level) and words in found.message
