"""Log lines of a member: what they are about, and how often they come."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowmap.errors import FleetError
from flowmap.fleet.reporting import LASTING, LOG_EVERY, SETTINGS_EVERY, Reporting
from flowmap.fleet.server.exchange import Reply
from tests.support.fleet import SETTINGS

REPLY = Reply(1.0, "e", 1.0, (), (), (), (), 0, 0.0, 3, 1, 0.0, 2.0, None)


@pytest.mark.parametrize(
    ("size", "rate", "words"),
    [(4, 2.0, []), (3, 2.0, ["4 hosts", "fleet.size"]), (4, 3.0, ["2 calls a second"])],
)
def test_settings(size: int, rate: float, words: list[str], caplog: pytest.LogCaptureFixture) -> None:
    reporting, settings = Reporting(), replace(SETTINGS, size=size, rate=rate)
    for now in (0.0, LASTING, LASTING + 1):
        reporting.take(REPLY, settings, now)
    assert len(caplog.records) == (1 if words else 0)
    assert all(word in caplog.text for word in words)
    reporting.take(REPLY, settings, SETTINGS_EVERY + LASTING)
    assert len(caplog.records) == (2 if words else 0)


def test_answers_with_another_key(caplog: pytest.LogCaptureFixture) -> None:
    reporting = Reporting()
    for reason, now in (("clock", 0.0), ("signature", 0.0), ("signature", 1.0), ("signature", LOG_EVERY)):
        reporting.refused(reason, now)
    assert len(caplog.records) == 2 and "fleet.key_file" in caplog.text


def test_a_server_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    reporting = Reporting()
    for now in (0.0, 1.0, LOG_EVERY):
        reporting.lost(FleetError("away", reason="connect"), now)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


def test_too_many_hosts_for_a_moment_are_no_line(caplog: pytest.LogCaptureFixture) -> None:
    """A daemon that is killed and restarted twice counts as three hosts until it has run for 25 s."""
    reporting, settings = Reporting(), replace(SETTINGS, size=3, rate=2.0)
    for now, missing in ((0.0, 1), (LASTING - 1, 2), (LASTING, 0), (LASTING + 1, 1), (2 * LASTING, 1)):
        reporting.take(replace(REPLY, missing=missing), settings, now)
    assert not caplog.records
    reporting.take(REPLY, settings, 2 * LASTING + 1)
    assert len(caplog.records) == 1


def test_a_server_answers_again_only_after_a_line_that_it_did_not(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    reporting = Reporting()
    for now in (0.0, 4.0, 8.0, LOG_EVERY):
        reporting.lost(FleetError("away", reason="connect"), now)
        reporting.reached()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * 2
    assert "2 more failures" in caplog.text
