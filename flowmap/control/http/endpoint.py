"""Endpoints of control planes: checked origins, from a URL or a region. Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from flowmap.errors import ConfigError

_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_DEFAULT_PORTS = {"https": 443, "http": 80}


class Endpoint(NamedTuple):
    """An origin: the scheme, and the host with the port unless it is the scheme's default."""

    scheme: str
    authority: str
    """Value of the ``Host`` header, which is signed."""

    @property
    def url(self) -> str:
        """Without a path."""
        return f"{self.scheme}://{self.authority}"


def endpoint_of_region(region: str, *, product: str = "ververica") -> Endpoint:
    """The public endpoint of a region, by the rule of the vendor's table."""
    return Endpoint("https", f"{product}.{region_id(region)}.aliyuncs.com")


def region_id(text: str) -> str:
    """``text`` if it is a region id; ConfigError."""
    if not _REGION.fullmatch(text):
        raise ConfigError(f"region: {text!r} is not a region id such as cn-hangzhou")
    return text


def parse_endpoint(text: str) -> Endpoint:
    """Read ``https://host[:port]``; plain ``http://`` only for loopback, since requests carry tokens."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        # The parser's error quotes the supposed port, which may be part of a password.
        raise ConfigError("endpoint: not https://host[:port]") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigError("endpoint: the URL must not contain a user or password")
    if not text.isprintable():  # the parser drops line ends
        raise ConfigError(f"endpoint: {text!r} has unprintable characters")
    if parts.scheme not in _DEFAULT_PORTS or not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", host):
        raise ConfigError(f"endpoint: {text!r} is not https://host[:port]")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigError(f"endpoint: {text!r} has more than https://host[:port]")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigError(f"endpoint: {text!r}: plain http:// is accepted for loopback only")
    if port == 0:
        raise ConfigError(f"endpoint: {text!r}: port 0 is not a port")
    shown = f"[{host}]" if ":" in host else host
    default = port is None or port == _DEFAULT_PORTS[parts.scheme]
    return Endpoint(parts.scheme, shown if default else f"{shown}:{port}")


def is_loopback(host: str) -> bool:
    """Whether ``host`` is a loopback address or ``localhost``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
