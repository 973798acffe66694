"""Parsers of text in the configuration: durations, sizes, traffic patterns, listening addresses, endpoints.

Parsers raise ValueError with one sentence. Formatted values parse back to the same value.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from flowmap.control.http import endpoint, route
from flowmap.errors import ConfigError
from flowmap.flows.filter import Pattern
from flowmap.model import address
from flowmap.model.address import format_endpoint
from flowmap.model.peer_entry import EntryKind, read_entry

SECONDS = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
"""Units of a duration."""

BYTES = {"": 1, "B": 1} | {
    f"{prefix}{suffix}": base**power
    for suffix, base in (("iB", 1024), ("B", 1000))
    for power, prefix in enumerate(("K", "M", "G", "T"), start=1)
}
"""Units of a size: binary (``KiB``) and decimal (``KB``)."""

LONGEST = 3650 * SECONDS["d"]
"""Longest duration accepted. A longer one is a typing error."""

LAST_TIME = 253_402_300_799.0
"""9999-12-31T23:59:59Z in seconds since the epoch, the last time that RFC 3339 can write."""

LONGEST_INTERFACE = 127
"""Bytes of an interface's alternative name (ALTIFNAMSIZ in linux/if.h, less the zero byte); its own has at most 15."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|[wdhms])")
_ESCAPED_BYTE = re.compile(rb"\\x([0-9A-Fa-f]{2})")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def parse_duration(value: object) -> float:
    """Parse ``"30s"``, ``"1h30m"``, ``"7d"``, or a number of seconds, into seconds."""
    if isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value):
        value = float(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and re.fullmatch(f"-?(?:{_DURATION.pattern})+", value):
        seconds = sum(float(number) * SECONDS[unit] for number, unit in _DURATION.findall(value))
        seconds *= -1 if value.startswith("-") else 1
    else:
        raise ValueError('not a duration; write it like "30s", "10m", "1h30m" or "7d"')
    if seconds < 0:
        raise ValueError("a duration must not be negative")
    if not seconds <= LONGEST:  # also refuses nan
        raise ValueError("a duration must be between 0s and 3650d")
    return seconds


def format_duration(seconds: float) -> str:
    """Text that parses back to ``seconds``, to the microsecond: ``90s``, ``1h30m``, ``500ms``, ``0s``."""
    whole, microseconds = divmod(round(seconds * 1_000_000), 1_000_000)
    if microseconds and not whole and microseconds % 1000 == 0:
        return f"{microseconds // 1000}ms"
    if microseconds:
        return f"{whole}.{microseconds:06d}".rstrip("0") + "s"
    if whole < 120:
        return f"{whole}s"
    text = ""
    for unit in ("d", "h", "m", "s"):
        count, whole = divmod(whole, int(SECONDS[unit]))
        text += f"{count}{unit}" if count else ""
    return text


def parse_size(value: object) -> int:
    """Parse ``"64MiB"``, ``"1GiB"``, ``"10MB"`` or a whole number into bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    unit = next((unit for unit in BYTES if match and unit.lower() == match[2].lower()), None)
    if match is None or unit is None:
        raise ValueError('not a size; write it like "64MiB", "1GiB" or "10MB"')
    size = float(match[1]) * BYTES[unit] if "." in match[1] else int(match[1]) * BYTES[unit]
    if size != int(size):
        raise ValueError("a size must be a whole number of bytes")
    return int(size)


def format_size(size: int) -> str:
    """The shortest text that parses back to ``size``: ``64MiB``, ``10MB``, ``128``."""
    for unit, factor in sorted(BYTES.items(), key=lambda item: -item[1]):
        if size and factor > 1 and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def parse_pattern(value: str) -> str:
    """Check a traffic pattern (see :mod:`flowmap.flows.filter`) and return it unchanged."""
    Pattern.parse(value)
    return value


def parse_service(value: str) -> str:
    """Check an entry of a peer: a network or a host name, with or without a port, or ``file_sd:PATH``."""
    entry = read_entry(value)
    if entry.kind is EntryKind.FILE and not entry.text:
        raise ValueError(f"{value!r} has no path; write it like file_sd:/etc/prometheus/kafka.json")
    if entry.kind is not EntryKind.PATTERN:
        return value
    if Pattern.parse(value).network is None:
        raise ValueError(f'{value!r} has no address; write it like "10.100.2.0/24:9092"')
    return value


def parse_network(value: str) -> str:
    """A network, or one address, in its usual form: ``10.0.0.0/8`` for ``10.0.0.1/8`` and ``::ffff:10.0.0.0/104``."""
    try:
        return str(address.parse_network(value))
    except ValueError as error:
        raise ValueError(f'{value!r} is not a network; write it like "10.100.0.0/16"') from error


class Listen(NamedTuple):
    """An address to listen on."""

    host: str
    """Address or name, without brackets. ``0.0.0.0`` or ``::``: every interface."""
    port: int
    """0: the kernel chooses a free port."""

    @classmethod
    def parse(cls, value: object) -> Listen:
        """Parse ``127.0.0.1:10817`` or ``[::1]:10817``."""
        if isinstance(value, Listen):
            return value
        match = re.fullmatch(
            r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})", value if isinstance(value, str) else ""
        )
        if match is None or int(match[3]) > 65535 or not _is_host(match[1]):
            raise ValueError('not an address to listen on; write it like "127.0.0.1:10817" or "[::1]:10817"')
        return cls(match[1] or match[2], int(match[3]))

    def __str__(self) -> str:
        return format_endpoint(self.host, self.port)

    @property
    def is_loopback(self) -> bool:
        """Whether only this host can reach the address. Of names, only localhost is safe."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"


def _is_host(six: str | None) -> bool:
    try:
        return six is None or ipaddress.ip_address(six).version == 6
    except ValueError:
        return False


def parse_proxy(value: object) -> route.Proxy:
    """Parse ``http://[user:password@]host[:port]``. Error messages never quote it."""
    if isinstance(value, route.Proxy):
        return value
    try:
        return route.parse_proxy(value if isinstance(value, str) else "")
    except ConfigError as error:
        raise ValueError(str(error)) from None


def parse_endpoint(value: str) -> str:
    """Check ``https://host[:port]``, or ``http://`` for a loopback host. No other parts are allowed."""
    try:
        return endpoint.parse_endpoint(value).url
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("endpoint: ")) from error


def parse_job_manager(value: str) -> str:
    """Check ``http://host[:port]`` or ``https://host[:port]``, and return it without a slash at the end."""
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    bare = parts.path in ("", "/") and not parts.query and not parts.fragment and parts.username is None
    if parts.scheme not in ("http", "https") or not host or port == 0 or not bare or not value.isprintable():
        raise ValueError(f"{value.partition('@')[2] or value!r} is not http://host[:port] or https://host[:port]")
    return value.rstrip("/")


class ValkeyUrl(NamedTuple):
    """The parts of a URL of Valkey or Redis."""

    tls: bool
    username: str | None
    host: str
    port: int
    database: int


def split_valkey(url: str) -> ValkeyUrl:
    """The parts of ``redis[s]://[user@]host[:port][/database]``; ValueError for anything else, without a password."""
    try:
        parts = urlsplit(url)
        host, port, path = parts.hostname, parts.port, parts.path.strip("/")
    except ValueError:
        host, port, path, parts = None, None, "", urlsplit("")
    shown = url.rpartition("@")[2]
    if parts.password is not None:
        raise ValueError(f"{shown!r}: no password in the URL, which answers and logs show; use password_file")
    bare = not parts.query and not parts.fragment and (not path or path.isdecimal())
    if parts.scheme not in ("redis", "rediss") or not host or port == 0 or not bare or not url.isprintable():
        raise ValueError(f"{shown!r} is not redis[s]://[user@]host[:port][/database]")
    return ValkeyUrl(parts.scheme == "rediss", parts.username or None, host, port or 6379, int(path or 0))


def parse_valkey(value: str) -> str:
    """Check the URL of a Valkey or Redis server."""
    split_valkey(value)
    return value


def parse_api_server(value: str) -> str:
    """Check ``in-cluster`` or the URL of a Kubernetes API server."""
    return value if value == "in-cluster" else parse_job_manager(value)


def parse_interface(text: str) -> str:
    r"""Parse the name of an interface into the form of :func:`format_interface`.

    Any byte may be written as ``\xff``. Environment variables may also contain the byte itself.
    """
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = b""
    name = _ESCAPED_BYTE.sub(lambda found: bytes((int(found[1], 16),)), data)
    # ip(8) refuses the same. An interface's own name is shorter and has no colon, an alternative one may have it.
    if not 1 <= len(name) <= LONGEST_INTERFACE or re.search(rb"[/\0\s]", name):
        raise ValueError(f"{text!r} is not an interface name: 1 to {LONGEST_INTERFACE} bytes, no / or white space")
    return format_interface(name)


def format_interface(name: bytes) -> str:
    r"""The name of an interface as printable text.

    The kernel allows nearly any byte. Bytes that are not printable UTF-8, and the backslash, become ``\xff``, so that
    two names never look alike.
    """
    text = name.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(char if char.isprintable() and char != "\\" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


def loopback_port(url: str) -> int | None:
    """Port of a control plane on loopback; None for another host. ``url``: from :func:`parse_endpoint`."""
    parts = urlsplit(url)
    if not endpoint.is_loopback(parts.hostname or ""):
        return None
    return parts.port or (443 if parts.scheme == "https" else 80)


MOST_NAMESPACES = 1024
_NAMESPACES = "write host, all, or a list of names and paths, such as [blue, /run/netns/green]"


def parse_network_namespaces(value: object) -> object:
    """``host``, ``all``, or names and paths of network namespaces; ValueError for anything else."""
    if value in ("host", "all"):
        return value
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MOST_NAMESPACES:
        raise ValueError(_NAMESPACES)
    for one in value:
        if not isinstance(one, str) or not _names_namespace(one):
            raise ValueError(f"{one!r} is neither a name nor a path of a network namespace; {_NAMESPACES}")
    return tuple(dict.fromkeys(value))


def _names_namespace(text: str) -> bool:
    is_path = text.startswith("/")
    return text.isprintable() and len(text) > is_path and (is_path or "/" not in text)
