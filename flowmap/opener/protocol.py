"""Messages between the daemon and the opener, over a Unix socket of type SOCK_SEQPACKET.

A message is one packet: a JSON object with its ``type`` and fields. The daemon sends one :class:`Hello`. The opener
answers with :class:`Welcome` or :class:`Refused`, then sends :class:`Opened` (with descriptors, SCM_RIGHTS),
:class:`Named` and :class:`Gone` as namespaces appear, get names and disappear, and a :class:`Report` after a search
that changed something.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from flowmap.errors import DecodeError

VERSION = 1
"""Changes with every change that the other side of an older version would misread."""
MESSAGE_LIMIT = 64 << 10
"""Bytes of the largest message."""
NAMESPACE_LIMIT = 4096
"""Namespaces that one daemon gets at a time at most."""
NAMES_LIMIT = 1024
"""Names in one :class:`Hello`."""

SOCK_DIAG, ROUTE, NETFILTER = 4, 0, 12  # linux/netlink.h
SOCKETS = (SOCK_DIAG, SOCK_DIAG, ROUTE, ROUTE)
"""Netlink protocols of the descriptors of every :class:`Opened`, in order: queries and destroy events of sockets,
lists and changes of addresses."""
CONNTRACK = (NETFILTER, NETFILTER)
"""Those that follow with ``Hello.conntrack``: dumps and events."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What the daemon wants."""

    version: int
    own: int
    """Inode of the daemon's own network namespace, which is left out."""
    wanted: tuple[str, ...] | None
    """Names and paths of namespaces; None: all."""
    conntrack: bool
    """Whether to open sockets for conntrack too."""
    limit: int
    """Namespaces for which the daemon has room."""
    clock: float
    """The daemon's monotonic clock, now."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """The opener accepts the daemon."""

    version: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The opener closes the connection; ``why`` is one line."""

    version: int
    why: str


class Range(NamedTuple):
    """The ports that the kernel assigns to clients."""

    first: int
    last: int


class Tracking(NamedTuple):
    """conntrack in a namespace, when it was entered; -1 where a value cannot be read."""

    entries: int
    accounting: int
    events: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A network namespace, with the descriptors of sockets in it (``SOCKETS``, ``CONNTRACK``)."""

    inode: int
    name: str | None
    """Of the file that keeps it, such as ``/run/netns/NAME``; None without one."""
    absent_at: float | None
    """Monotonic seconds at which a search did not find it; None if it may be older than the connection."""
    ports: Range | None
    tracking: Tracking
    descriptors: int
    """Number of descriptors beside the message."""


@dataclass(frozen=True, slots=True)
class Named:
    """A namespace that was opened before has another name now."""

    inode: int
    name: str | None


@dataclass(frozen=True, slots=True)
class Gone:
    """No process and no file keeps the namespace any more: the daemon must close its descriptors."""

    inode: int


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a search. Every namespace that is open now was reported before."""

    found: int
    """Network namespaces that are wanted, without the daemon's own."""
    opened: int
    over_limit: int
    """Found, and left out because of a limit."""
    failed: int
    """Found, but not entered."""
    hidden: int
    """Processes whose namespace may not be read."""
    missing: tuple[str, ...]
    """Wanted names and paths that are no network namespace now; at most eight."""
    cause: str
    """Why namespaces are not entered or processes are hidden; empty if none is."""


Message = Hello | Welcome | Refused | Opened | Named | Gone | Report

_TYPES: dict[str, type[Message]] = {
    one.__name__.lower(): one for one in (Hello, Welcome, Refused, Opened, Named, Gone, Report)
}


def encode(message: Message) -> bytes:
    """One packet."""
    return json.dumps({"type": type(message).__name__.lower(), **asdict(message)}, separators=(",", ":")).encode()


def decode(packet: bytes) -> Message:
    """The message in a packet; DecodeError if it is none of this version."""
    try:
        fields: dict[str, Any] = json.loads(packet)
        return _READ[_TYPES[fields.pop("type")]](fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DecodeError(f"message of the opener: {type(error).__name__}: {error}") from error


def decode_hello(packet: bytes) -> Hello:
    """The first message of a daemon; of another version only ``version`` counts."""
    message = decode(packet)
    if not isinstance(message, Hello):
        raise DecodeError("message of the opener: the first one is no hello")
    return message


def _hello(fields: dict[str, Any]) -> Hello:
    version = _number(fields["version"])
    if version != VERSION:
        return Hello(version, 0, (), conntrack=False, limit=0, clock=0.0)
    wanted = fields["wanted"]
    names = None if wanted is None else tuple(_text(name) for name in _list(wanted, NAMES_LIMIT))
    clock = float(fields["clock"])
    return Hello(version, _number(fields["own"]), names, fields["conntrack"] is True, _number(fields["limit"]), clock)


def _opened(fields: dict[str, Any]) -> Opened:
    ports, absent = fields["ports"], fields["absent_at"]
    return Opened(
        _number(fields["inode"]),
        _name(fields["name"]),
        None if absent is None else float(absent),
        None if ports is None else Range(*(_number(port) for port in ports)),
        Tracking(*(int(one) for one in fields["tracking"])),
        _number(fields["descriptors"]),
    )


def _report(fields: dict[str, Any]) -> Report:
    found, opened, over_limit, failed, hidden = (_number(fields[name]) for name in _COUNTS)
    missing = tuple(_text(name) for name in _list(fields["missing"], NAMES_LIMIT))
    return Report(found, opened, over_limit, failed, hidden, missing, _text(fields["cause"]))


_COUNTS = ("found", "opened", "over_limit", "failed", "hidden")
_READ: dict[type[Message], Callable[[dict[str, Any]], Message]] = {
    Hello: _hello,
    Welcome: lambda fields: Welcome(_number(fields["version"])),
    Refused: lambda fields: Refused(_number(fields["version"]), _text(fields["why"])),
    Opened: _opened,
    Named: lambda fields: Named(_number(fields["inode"]), _name(fields["name"])),
    Gone: lambda fields: Gone(_number(fields["inode"])),
    Report: _report,
}


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError(f"{value!r} is not a number")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _name(value: object) -> str | None:
    return None if value is None else _text(value)


def _list(value: object, limit: int) -> list[object]:
    if not isinstance(value, list) or len(value) > limit:
        raise TypeError(f"not a list of at most {limit}")
    return value
