"""TLS, users and access of the HTTP server, and web configuration files."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flowmap.config import (
    load,
    read_web_config,
)
from tests.support.config_files import BCRYPT, problems_of

EXPOSED = [
    ("127.0.0.1:1", True),
    ("127.9.9.9:1", True),
    ("[::1]:1", True),
    ("localhost:1", True),
    ("0.0.0.0:1", False),
    ("[::]:1", False),
    ("192.0.2.1:1", False),
    ("localhost.example.com:1", False),
]


@pytest.mark.parametrize(("listen", "loopback"), EXPOSED)
@pytest.mark.parametrize(
    ("guard", "enough"),
    [
        ({}, False),
        ({"allowed_hosts": ["x"], "access": {"query": []}}, False),
        ({"insecure": True}, True),
        ({"users": {"ann": BCRYPT}}, True),
        ({"tls": {"cert_file": "a", "key_file": "b"}}, True),
    ],
)
def test_other_hosts_need_a_guard(
    tmp_path: Path, listen: str, loopback: bool, guard: dict[str, object], enough: bool
) -> None:
    text = yaml.safe_dump({"http": {"listen": listen, **guard}})
    if loopback or enough:
        (tmp_path / "flowmap.yaml").write_text(text)
        assert str(load(str(tmp_path / "flowmap.yaml"), {}).http.listen) == listen
    else:
        (line,) = problems_of(tmp_path, text)
        assert "insecure: true" in line


WEB_PROBLEMS = [
    ("tls_server_config:\n  cert_fil: x\n  key_file: y\n", ["web.yml:2", "unknown key (did you mean cert_file?)"]),
    ("tls: {}\n", ["web.yml:1: tls: unknown key"]),
    ("basic_auth_users:\n  ann: hunter2\n", ["web.yml:2: basic_auth_users.ann: is not a bcrypt hash"]),
    (f"basic_auth_users:\n  'a:b': {BCRYPT}\n", ["web.yml:2: basic_auth_users.a:b: a user name must not"]),
    ("http_server_config:\n  headers:\n    X-Powered-By: me\n", ["web.yml:3", "X-Powered-By: unknown key"]),
    ("http_server_config: {headers: {X-Frame-Options: no}}\n", ["web.yml:1", "should be 'deny' or 'sameorigin'"]),
    (
        'http_server_config: {headers: {Strict-Transport-Security: "a\\nb: c"}}\n',
        ["web.yml:1", "must be printable ASCII on one line"],
    ),
    (
        "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequireAndVerifyClientCert}\n",
        ["web.yml:1", "client_ca_file and a client_auth_type that verifies go together"],
    ),
    (
        "tls_server_config: {cert_file: a, key_file: b, min_version: TLS10}\n",
        ["web.yml:1: tls_server_config.min_version: should be 'TLS12' or 'TLS13'"],
    ),
    (
        "tls_server_config: {cert_file: a, key_file: b, cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]}\n",
        ["web.yml:1: tls_server_config.cipher_suites.0: must be one of TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"],
    ),
    ("[]\n", ["web.yml:1: must be a mapping of sections, like tls_server_config: {…}"]),
]


@pytest.mark.parametrize(("text", "parts"), WEB_PROBLEMS)
def test_a_web_configuration_that_is_wrong(tmp_path: Path, text: str, parts: list[str]) -> None:
    (tmp_path / "web.yml").write_text(text)
    lines = problems_of(tmp_path, f"http:\n  web_config: {tmp_path}/web.yml\n")
    assert all(line.startswith("flowmap.yaml:2: http.web_config: web.yml:") for line in lines)
    assert all(any(part in line for line in lines) for part in parts), lines
    assert "hunter2" not in "\n".join(lines)


@pytest.mark.parametrize(("text", "guards"), [("", False), (f"basic_auth_users: {{ann: {BCRYPT}}}\n", True)])
def test_web_configuration_as_guard(tmp_path: Path, text: str, guards: bool) -> None:
    (tmp_path / "web.yml").write_text(text)
    config = f"http: {{listen: '0.0.0.0:1', web_config: {tmp_path}/web.yml}}\n"
    if guards:
        (tmp_path / "flowmap.yaml").write_text(config)
        assert load(str(tmp_path / "flowmap.yaml"), {}).http.web_config == f"{tmp_path}/web.yml"
    else:
        (line,) = problems_of(tmp_path, config)
        assert line.startswith("flowmap.yaml:1: http.web_config: listen 0.0.0.0:1: other hosts")


def test_files_of_a_web_configuration_are_beside_it(tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: a.pem, key_file: /k.pem}\n")
    tls = read_web_config(f"{tmp_path}/web.yml").tls_server_config
    assert tls is not None
    assert tls.files == (f"{tmp_path}/a.pem", "/k.pem")
