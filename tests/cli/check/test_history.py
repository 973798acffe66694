"""check: whether a history could be kept here, with each thing taken away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowmap.cli.check import history as check_history
from flowmap.config import load


def finding_at(path: Path, size: str = "1MiB") -> tuple[str, str]:
    environ = {"FLOWMAP__HISTORY__PATH": str(path), "FLOWMAP__HISTORY__MAX_SIZE": size}
    (one,) = check_history.look(load(None, environ))
    assert one.name == "history.path" and bool(one.remedy) == (one.level != "ok")
    return one.level, one.message.replace(str(path), "FILE").replace(str(path.parent), "DIR")


def test_without_history() -> None:
    assert list(check_history.look(load(None, {}))) == []


def test_writable_path(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    assert finding_at(file) == ("ok", "FILE can be written")
    assert not file.exists(), "a look makes nothing"
    file.write_bytes(b"")
    assert finding_at(file) == ("ok", "FILE can be written")


def test_obstacles(tmp_path: Path) -> None:
    assert finding_at(tmp_path / "none" / "history.db") == (
        "degraded",
        "DIR is not a directory: no history is kept",
    )
    (tmp_path / "history.db").mkdir()
    assert finding_at(tmp_path / "history.db") == ("degraded", "FILE is not a file: no history is kept")
    (tmp_path / "file").write_bytes(b"")
    assert finding_at(tmp_path / "file" / "history.db") == (
        "degraded",
        "DIR is not a directory: no history is kept",
    )


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_unwritable_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert finding_at(tmp_path / "history.db") == (
        "degraded",
        "DIR cannot be written by this user: no history is kept",
    )
    tmp_path.chmod(0o700)


def test_full_disk(tmp_path: Path) -> None:
    level, message = finding_at(tmp_path / "history.db", "1000TiB")
    assert (level, message.endswith("MiB: history stops on a full disk")) == ("degraded", True)
