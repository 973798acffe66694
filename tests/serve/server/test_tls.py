"""The context of the server's TLS, and the names of a client's certificate."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from flowmap.config import TlsServer
from flowmap.errors import ConfigError
from flowmap.serve.server.tls import names, server_context
from tests.support.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("tls"))
    for name in ("server", "other"):
        made.issue(name, "localhost")
    (made.directory / "text.pem").write_text("hello")
    return made


def settings(authority: Authority, **given: Any) -> TlsServer:
    files = {"cert_file": str(authority.directory / "server.pem"), "key_file": str(authority.directory / "server.key")}
    return TlsServer.model_validate(files | given)


@pytest.mark.parametrize(
    ("given", "least", "most", "mode"),
    [
        ({}, "TLSv1_2", "TLSv1_3", ssl.CERT_NONE),
        ({"min_version": "TLS13"}, "TLSv1_3", "TLSv1_3", ssl.CERT_NONE),
        ({"max_version": "TLS12"}, "TLSv1_2", "TLSv1_2", ssl.CERT_NONE),
        ({"client_auth_type": "RequireAndVerifyClientCert"}, "TLSv1_2", "TLSv1_3", ssl.CERT_REQUIRED),
        ({"client_auth_type": "VerifyClientCertIfGiven"}, "TLSv1_2", "TLSv1_3", ssl.CERT_OPTIONAL),
    ],
)
def test_settings(authority: Authority, given: dict[str, Any], least: str, most: str, mode: ssl.VerifyMode) -> None:
    if "client_auth_type" in given:
        given = given | {"client_ca_file": str(authority.file)}
    context = server_context(settings(authority, **given))
    assert (context.minimum_version.name, context.maximum_version.name, context.verify_mode) == (least, most, mode)


def test_only_the_chosen_ciphers(authority: Authority) -> None:
    suite = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
    context = server_context(settings(authority, cipher_suites=[suite], max_version="TLS12"))
    old = {one["name"] for one in context.get_ciphers() if one["protocol"] != "TLSv1.3"}
    assert old == {"ECDHE-RSA-AES128-GCM-SHA256"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cert_file": "missing.pem"}, "no such file or directory"),
        ({"key_file": "other.key"}, "the key does not belong to the certificate"),
        ({"cert_file": "text.pem"}, "server.key: "),
        ({"client_ca_file": "text.pem", "client_auth_type": "RequireAndVerifyClientCert"}, "text.pem: "),
        ({"client_ca_file": "missing.pem", "client_auth_type": "RequireAndVerifyClientCert"}, "missing.pem: no such"),
    ],
)
def test_files_that_cannot_be_used(authority: Authority, given: dict[str, str], said: str) -> None:
    paths = {key: str(authority.directory / value) if "file" in key else value for key, value in given.items()}
    with pytest.raises(ConfigError, match=said):
        server_context(settings(authority, **paths))


@pytest.mark.parametrize(
    ("certificate", "expected"),
    [
        (None, set()),
        ({}, set()),
        ({"subject": ((("commonName", "old"),),)}, set()),
        ({"subjectAltName": (("DNS", "prometheus"), ("IP Address", "10.0.0.1"))}, {"prometheus", "10.0.0.1"}),
    ],
)
def test_names_of_a_client(certificate: dict[str, Any] | None, expected: set[str]) -> None:
    assert names(certificate) == expected


def test_errors_name_the_file_in_full(authority: Authority, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    with pytest.raises(ConfigError, match=str(missing)):
        server_context(settings(authority, cert_file=str(missing)))
