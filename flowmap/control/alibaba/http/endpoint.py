"""Where the control plane is: a checked origin, from a URL or a region. Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from flowmap.errors import ConfigError

_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_DEFAULT_PORTS = {"https": 443, "http": 80}


class Endpoint(NamedTuple):
    """An origin: scheme, and host with the port where it is not the scheme's own."""

    scheme: str
    authority: str
    """As it goes into the ``Host`` header, which is signed."""

    @property
    def url(self) -> str:
        """Without a path."""
        return f"{self.scheme}://{self.authority}"


def endpoint_of_region(region: str, *, product: str = "ververica") -> Endpoint:
    """The public endpoint of a region, by the rule that holds for every entry of the vendor's table."""
    return Endpoint("https", f"{product}.{region_id(region)}.aliyuncs.com")


def region_id(text: str) -> str:
    """``text`` if it is a region id; ConfigError."""
    if not _REGION.fullmatch(text):
        raise ConfigError(f"region: {text!r} is not a region id such as cn-hangzhou")
    return text


def parse_endpoint(text: str) -> Endpoint:
    """Read ``https://host[:port]``; plain ``http://`` only for this machine, since requests carry tokens."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        # The parser's error quotes what it took for the port, which may be the middle of a password.
        raise ConfigError("endpoint: not https://host[:port]") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigError("endpoint: a user or password does not belong into the URL")
    if not text.isprintable():  # the parser drops line ends in silence
        raise ConfigError(f"endpoint: {text!r} has characters that do not print")
    if parts.scheme not in _DEFAULT_PORTS or not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", host):
        raise ConfigError(f"endpoint: {text!r} is not https://host[:port]")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigError(f"endpoint: {text!r} has more than https://host[:port]")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigError(f"endpoint: {text!r}: plain http:// is accepted for loopback only")
    if port == 0:
        raise ConfigError(f"endpoint: {text!r}: port 0 is no port")
    shown = f"[{host}]" if ":" in host else host
    default = port is None or port == _DEFAULT_PORTS[parts.scheme]
    return Endpoint(parts.scheme, shown if default else f"{shown}:{port}")


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine by its address, or by the name ``localhost``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
