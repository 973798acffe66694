"""The history file on disk: limits, foreign files, errors by reason."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest

from flowmap.errors import HistoryError
from flowmap.history.file import PAGE, Limits, check_place, own_file, set_aside, size_of, translated


@pytest.mark.parametrize("max_size", [1 << 20, 4 << 20, 1 << 30])
def test_limits_fit_into_the_size(max_size: int) -> None:
    limits = Limits(3600.0, max_size)
    assert limits.log <= max_size // 8
    assert limits.pages * PAGE + limits.log + (32 << 10) <= max_size
    assert 64 <= limits.block_flows <= 8192


def test_own_file_sets_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "h"
    path.touch(mode=0o644)
    assert own_file(str(path)) == (path.stat().st_dev, path.stat().st_ino)
    assert path.stat().st_mode & 0o777 == 0o600
    assert size_of(str(path)) == 0 == size_of(str(tmp_path / "missing"))


def test_check_place(tmp_path: Path) -> None:
    check_place(str(tmp_path / "missing"))
    with pytest.raises(HistoryError, match="not a regular file") as caught:
        check_place(str(tmp_path))
    assert caught.value.reason == "foreign"


def test_set_aside_renames_with_the_log(tmp_path: Path) -> None:
    path = tmp_path / "h"
    for n in range(2):
        path.write_text(f"{n}")
        (tmp_path / "h-wal").write_text(f"log {n}")
        line = set_aside(str(path), HistoryError("garbled", reason="corrupt"))
        target = Path(line.removeprefix("garbled; renamed to "))
        assert (target.read_text(), Path(f"{target}-wal").read_text()) == (f"{n}", f"log {n}")
        assert not path.exists()


def of_sqlite(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("message")
    error.sqlite_errorcode = code
    return error


ERRORS = [
    (of_sqlite(sqlite3.SQLITE_CORRUPT), "corrupt"),
    (of_sqlite(sqlite3.SQLITE_FULL), "disk_full"),
    (of_sqlite(sqlite3.SQLITE_BUSY), "locked"),
    (of_sqlite(sqlite3.SQLITE_IOERR | 1 << 8), "io"),
    (of_sqlite(sqlite3.SQLITE_MISUSE), "error"),
    (OSError(errno.ENOSPC, "full"), "disk_full"),
    (OSError(errno.EROFS, "read-only"), "read_only"),
    (OSError(errno.EACCES, "denied"), "cannot_open"),
]


@pytest.mark.parametrize(("error", "reason"), ERRORS)
def test_errors_have_a_reason(error: Exception, reason: str, tmp_path: Path) -> None:
    with pytest.raises(HistoryError) as caught, translated(str(tmp_path / "h")):
        raise error
    assert caught.value.reason == reason
