"""check: until when the server's certificate is taken, with real certificates."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from flowmap.cli.check import tls as check_tls
from flowmap.config import Config, load
from flowmap.sources.base import Finding


def issued(directory: Path, *, days: float) -> dict[str, str]:
    """Files of a certificate that ends in ``days``."""
    now = datetime.now(UTC)
    made = trustme.CA().issue_cert("localhost", not_before=now - timedelta(365), not_after=now + timedelta(days))
    made.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    made.private_key_pem.write_to_path(directory / "key.pem")
    return {"cert_file": str(directory / "cert.pem"), "key_file": str(directory / "key.pem")}


def told(config: Config) -> Finding:
    (one,) = check_tls.look(config)
    assert one.name == "http.certificate" and bool(one.remedy) == (one.level != "ok")
    return one


def configured(tls: dict[str, str]) -> Config:
    return load(None, {"FLOWMAP__HTTP__TLS": json.dumps(tls)})


@pytest.mark.parametrize(
    ("days", "level", "message"),
    [
        (100.5, "ok", "is valid for 100 more days"),
        (3.2, "degraded", "is valid for 3 more days"),
        (-1.0, "degraded", "certificate has expired: clients that verify it cannot connect"),
    ],
)
def test_remaining_days(tmp_path: Path, days: float, level: str, message: str) -> None:
    tls = issued(tmp_path, days=days)
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n")
    by_file = load(None, {"FLOWMAP__HTTP__WEB_CONFIG": str(tmp_path / "web.yml")})
    for config in (configured(tls), by_file):
        one = told(config)
        assert (one.level, message in one.message) == (level, True), one


def test_unusable_certificate(tmp_path: Path) -> None:
    tls = issued(tmp_path, days=100)
    config = configured(tls)
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(tmp_path / "key.pem")
    assert told(config).level == "failed"
    (tmp_path / "cert.pem").unlink()
    assert told(config).level == "failed"


def test_without_tls() -> None:
    assert list(check_tls.look(load(None, {}))) == []
