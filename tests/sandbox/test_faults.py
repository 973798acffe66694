"""Every kind of fault has its function."""

from __future__ import annotations

from typing import get_args

from flowmap.sandbox.fault_book import DESCRIPTIONS, Kind
from flowmap.sandbox.faults import KINDS


def test_every_kind_is_carried_out() -> None:
    assert set(KINDS) == set(get_args(Kind)) == set(DESCRIPTIONS)
