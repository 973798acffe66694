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
"""Words of http.access that are no user names: every client, and clients on this host."""

LARGEST_COST = 16
"""Highest cost of a password hash. One check takes about 4 s, and each step doubles that."""

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
"""OpenSSL's names of the TLS 1.2 cipher suites, by their names in the format. TLS 1.3 has no choice."""

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
        raise ValueError("a user name must not be empty or contain colons or control characters")
    if name in RESERVED:
        raise ValueError(f"{name} is reserved in http.access; choose another user name")
    return name


def _cipher(name: str) -> str:
    if name not in CIPHERS:
        raise ValueError(f"must be one of {', '.join(CIPHERS)}")
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
    """Certificate and key of the server, and which client certificates it requires."""

    cert_file: str = Field(min_length=1, description="Certificate in PEM, followed by its chain.")
    key_file: str = Field(min_length=1, description="Key of the certificate in PEM, without a passphrase.")
    client_auth_type: Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"] = Field(
        default="NoClientCert", description="Whether clients must present a certificate."
    )
    client_ca_file: str | None = Field(default=None, min_length=1, description="CA certificates that verify clients.")
    client_allowed_sans: tuple[str, ...] = Field(
        default=(), description="Names of which a client certificate must have one. Empty: any."
    )
    min_version: Version = Field(default="TLS12", description="Lowest TLS version.")
    max_version: Version = Field(default="TLS13", description="Highest TLS version.")
    cipher_suites: tuple[Annotated[str, AfterValidator(_cipher)], ...] = Field(
        default=(), description="Cipher suites of TLS 1.2. Empty: OpenSSL's default."
    )
    prefer_server_cipher_suites: bool = Field(default=True, description="Use the server's order of cipher suites.")

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
        """The files in these settings."""
        return tuple(name for name in (self.cert_file, self.key_file, self.client_ca_file) if name is not None)


class HttpHeaders(Section):
    """Configurable response headers."""

    content_security_policy: HeaderText | None = Field(default=None, alias="Content-Security-Policy")
    strict_transport_security: HeaderText | None = Field(default=None, alias="Strict-Transport-Security")
    x_content_type_options: Literal["nosniff"] | None = Field(default=None, alias="X-Content-Type-Options")
    x_frame_options: Literal["deny", "sameorigin"] | None = Field(default=None, alias="X-Frame-Options")
    x_xss_protection: HeaderText | None = Field(default=None, alias="X-XSS-Protection")


class HttpServerSettings(Section):
    """The section http_server_config of the format."""

    http2: bool = Field(default=True, description="Accepted and ignored: flowmap uses HTTP/1.1.")
    headers: HttpHeaders = Field(default=HttpHeaders(), description="Response headers.")


class Access(Section):
    """Who may do what: names of users, anonymous (every client), loopback (clients on this host)."""

    scrape: tuple[str, ...] | None = Field(
        default=None, description="Who may read /metrics. null: every user, or every client if there are no users."
    )
    query: tuple[str, ...] | None = Field(
        default=None, description="Who may read /api/v1, / and all other paths. []: no client."
    )
    health: tuple[str, ...] = Field(default=(ANONYMOUS,), description="Who may read /-/healthy and /-/ready.")

    def unknown_users(self, users: Iterable[str]) -> list[str]:
        """Names in the lists that are neither in ``users`` nor reserved words."""
        listed = {*(self.scrape or ()), *(self.query or ()), *self.health}
        return sorted(listed - set(users) - set(RESERVED))


class WebConfig(Section):
    """A web configuration file."""

    tls_server_config: TlsServer | None = Field(default=None, description="Certificate and key. null: plain HTTP.")
    http_server_config: HttpServerSettings = Field(default=HttpServerSettings(), description="Response headers.")
    basic_auth_users: Users = Field(default={}, description="Users with bcrypt hashes of their passwords.")
