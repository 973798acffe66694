"""TLS, users and headers of the HTTP server, in the web configuration format that Prometheus exporters share
(github.com/prometheus/exporter-toolkit, docs/web-configuration.md). The same models serve inside flowmap.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from flowmap.config.fields import Section

ANONYMOUS = "anonymous"
LOOPBACK = "loopback"
RESERVED = (ANONYMOUS, LOOPBACK)
"""Words of http.access that no user may be called: everybody, and whoever asks from this host."""

LARGEST_COST = 16
"""Highest cost of a password hash: one check takes some 4 s, twice that with each step above."""

CIPHERS = {
    f"TLS_ECDHE_{key}_WITH_{go}": f"ECDHE-{key}-{name}"
    for key in ("ECDSA", "RSA")
    for go, name in (
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
        ("CHACHA20_POLY1305", "CHACHA20-POLY1305"),
    )
}
"""Cipher suites of TLS 1.2 by the names of the format, with OpenSSL's; those of TLS 1.3 can't be chosen."""

# Versions, cost, salt and digest as every implementation of bcrypt writes them.
_HASH = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")


def _bcrypt(secret: SecretStr) -> SecretStr:
    match = _HASH.fullmatch(secret.get_secret_value())
    if match is None:
        raise ValueError("is not a bcrypt hash; make one with: htpasswd -nBC 10 NAME")
    if not 4 <= int(match[1]) <= LARGEST_COST:
        raise ValueError(f"the cost of a bcrypt hash must be from 4 to {LARGEST_COST}")
    return secret


def _user(name: str) -> str:
    if not re.fullmatch(r"[^\x00-\x1f\x7f:]+", name):
        raise ValueError("a user's name is not empty and has neither colons nor control characters")
    if name in RESERVED:
        raise ValueError(f"no user can be called {name}: the word has a meaning in http.access")
    return name


def _cipher(name: str) -> str:
    if name not in CIPHERS:
        raise ValueError(f"is none of {', '.join(CIPHERS)}")
    return name


def _one_line(text: str) -> str:
    if not re.fullmatch(r"[\x20-\x7e]*", text):
        raise ValueError("must be printable ASCII on one line")
    return text


UserName = Annotated[str, AfterValidator(_user)]
Hash = Annotated[SecretStr, AfterValidator(_bcrypt)]
HeaderText = Annotated[str, AfterValidator(_one_line)]
Version = Literal["TLS12", "TLS13"]
Users = dict[UserName, Hash]


class TlsServer(Section):
    """Certificate and key, and who must show a certificate."""

    cert_file: str = Field(min_length=1, description="Certificate in PEM, with the chain behind it.")
    key_file: str = Field(min_length=1, description="Its key in PEM, without a passphrase.")
    client_auth_type: Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"] = Field(
        default="NoClientCert", description="Whether clients show a certificate."
    )
    client_ca_file: str | None = Field(default=None, min_length=1, description="Authorities of clients' certificates.")
    client_allowed_sans: tuple[str, ...] = Field(
        default=(), description="A client's certificate must be for one of these names; empty: for any."
    )
    min_version: Version = Field(default="TLS12", description="Oldest version of TLS.")
    max_version: Version = Field(default="TLS13", description="Newest version of TLS.")
    cipher_suites: tuple[Annotated[str, AfterValidator(_cipher)], ...] = Field(
        default=(), description="Cipher suites of TLS 1.2; empty: OpenSSL's choice."
    )
    prefer_server_cipher_suites: bool = Field(default=True, description="Whether the server's order of suites counts.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.client_auth_type == "NoClientCert") != (self.client_ca_file is None):
            raise ValueError("client_ca_file and a client_auth_type that verifies go together")
        if self.client_allowed_sans and self.client_auth_type != "RequireAndVerifyClientCert":
            raise ValueError("client_allowed_sans needs client_auth_type RequireAndVerifyClientCert")
        if (self.min_version, self.max_version) == ("TLS13", "TLS12"):
            raise ValueError("min_version is above max_version")
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """Every file these settings name."""
        return tuple(name for name in (self.cert_file, self.key_file, self.client_ca_file) if name is not None)


class HttpHeaders(Section):
    """Headers of every answer that may be chosen; the others are fixed."""

    content_security_policy: HeaderText | None = Field(default=None, alias="Content-Security-Policy")
    strict_transport_security: HeaderText | None = Field(default=None, alias="Strict-Transport-Security")
    x_content_type_options: Literal["nosniff"] | None = Field(default=None, alias="X-Content-Type-Options")
    x_frame_options: Literal["deny", "sameorigin"] | None = Field(default=None, alias="X-Frame-Options")
    x_xss_protection: HeaderText | None = Field(default=None, alias="X-XSS-Protection")


class HttpServerSettings(Section):
    """What else the format has for a server."""

    http2: bool = Field(default=True, description="Accepted; flowmap speaks HTTP/1.1 whatever stands here.")
    headers: HttpHeaders = Field(default=HttpHeaders(), description="Headers of every answer.")


class Access(Section):
    """Who may do what: users, or anonymous (everybody), or loopback (whoever asks from this host)."""

    scrape: tuple[str, ...] | None = Field(
        default=None, description="Who may read /metrics. Null: every user, or everybody where there are no users."
    )
    query: tuple[str, ...] | None = Field(
        default=None, description="The same for /api/v1, / and all other paths. []: nobody."
    )
    health: tuple[str, ...] = Field(default=(ANONYMOUS,), description="The same for /-/healthy and /-/ready.")

    def strangers(self, users: Iterable[str]) -> list[str]:
        """Names in the lists that are neither of ``users`` nor words."""
        listed = {*(self.scrape or ()), *(self.query or ()), *self.health}
        return sorted(listed - set(users) - set(RESERVED))


class WebConfig(Section):
    """A web configuration file."""

    tls_server_config: TlsServer | None = Field(default=None, description="Certificate and key; null: plain HTTP.")
    http_server_config: HttpServerSettings = Field(default=HttpServerSettings(), description="Headers of answers.")
    basic_auth_users: Users = Field(default={}, description="Users and bcrypt hashes of passwords.")
