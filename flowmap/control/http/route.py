"""The route of connections to the control plane: the proxy, and the trusted certificate authorities.

The configuration follows Prometheus' ``http_config``. A proxy carries ``https://`` only, in a tunnel (CONNECT,
RFC 9110, section 9.3.6), so it sees neither keys nor answers. Plain ``http://`` is only used for loopback and for the
metadata service of the instance, always directly.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from flowmap.control.http.endpoint import is_loopback
from flowmap.errors import ConfigError

_FORM = "not http://[user:password@]host[:port], or https:// for TLS to the proxy"
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. Its ``str`` hides the password."""

    scheme: str
    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    origin: str = "control_plane.proxy_url"
    """Where it was configured."""
    no_proxy: str | None = None
    """Hosts that bypass the proxy, in the form of the variable ``NO_PROXY``; None: no host."""

    @property
    def url(self) -> str:
        """Without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def __str__(self) -> str:
        if self.user is None:
            return self.url
        login = self.user if self.password is None else f"{self.user}:<secret>"
        return self.url.replace("://", f"://{login}@", 1)

    def carries(self, scheme: str, host: str) -> bool:
        """Whether calls to ``host`` go through it."""
        if scheme != "https":
            return False
        return self.no_proxy is None or not (is_loopback(host) or _named(host, self.no_proxy))


class Route(NamedTuple):
    """How every endpoint is reached."""

    proxy: Proxy | None = None
    tls: ssl.SSLContext | None = None
    """None: the authorities of the HTTP library."""

    def proxy_to(self, scheme: str, host: str) -> Proxy | None:
        """The proxy for ``host``; None for a direct connection."""
        return self.proxy if self.proxy is not None and self.proxy.carries(scheme, host) else None


DIRECT = Route()
"""No proxy, and the authorities of the HTTP library."""


def parse_proxy(text: str, *, origin: str = "control_plane.proxy_url", no_proxy: str | None = None) -> Proxy:
    """Read ``http://[user:password@]host[:port]``; ConfigError, without the text: it may contain a password."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError(_FORM) from None
    whole = parts.path in ("", "/") and not parts.query and not parts.fragment
    if parts.scheme not in _DEFAULT_PORTS or not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", host):
        raise ConfigError(_FORM)
    if not whole or port == 0 or not text.isprintable():
        raise ConfigError(_FORM)
    user, password = (None if part is None else unquote(part) for part in (parts.username, parts.password))
    return Proxy(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], user, password, origin, no_proxy)


def environment_proxy(environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for ``https://`` of ``HTTPS_PROXY`` and ``NO_PROXY``, or of their lower case; None if there is none.

    Loopback is always reached directly. ConfigError for an invalid value.
    """
    name, text = _first(environ, "https_proxy")
    if not text:
        return None
    _, no_proxy = _first(environ, "no_proxy")
    try:
        return parse_proxy(text if "://" in text else f"http://{text}", origin=name, no_proxy=no_proxy)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def trusting(ca_file: str) -> ssl.SSLContext:
    """A TLS context of a client that trusts only the authorities in ``ca_file`` (PEM); ConfigError names the file."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise ConfigError(f"control_plane.tls.ca_file: {ca_file}: holds no certificate in PEM") from error
    except OSError as error:
        raise ConfigError(f"control_plane.tls.ca_file: {ca_file}: cannot be read: {error.strerror}") from error


def _first(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """The variable in lower case, as curl and Python prefer it, or else in upper case, and its value."""
    variable = name if environ.get(name) else name.upper()
    return variable, environ.get(variable, "")


def _named(host: str, no_proxy: str) -> bool:
    # Its import takes 20 ms and is rarely needed. The type hints of the module lack the function.
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

    return bool(proxy_bypass_environment(host, {"no": no_proxy}))
