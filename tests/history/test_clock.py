"""The offset of wall time, and the number of a boot."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from flowmap.history.clock import boot, epoch


def test_epoch_turns_monotonic_into_wall_time() -> None:
    assert time.monotonic() + epoch() == pytest.approx(time.time(), abs=1.0)


def test_an_unknown_boot_is_never_the_same(tmp_path: Path) -> None:
    assert boot() == boot()
    unknown = tmp_path / "boot_id"
    assert boot(unknown) != boot(unknown)
    unknown.write_text("not-a-number\n")
    assert boot(unknown) != boot(unknown)
    assert 0 <= boot(unknown) < 1 << 63
