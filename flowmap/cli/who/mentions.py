"""Endpoints in one line of text: what is an address with a port, and which of two is the client.

No value here is asked about twice: equal connections are equal values.
"""

from __future__ import annotations

import re
import socket
from functools import lru_cache
from typing import NamedTuple

from flowmap.model.address import Address, format_endpoint


class Place(NamedTuple):
    """An address, and its port if the text has it."""

    ip: str
    port: int | None

    def __str__(self) -> str:
        return self.ip if self.port is None else format_endpoint(self.ip, self.port)


class Mention(NamedTuple):
    """A connection that a line mentions."""

    client: Place
    server: Place | None = None
    """None if the text names the client only, as process lists of databases do."""
    protocol: str = "tcp"
    loose: bool = False
    """Whether the two endpoints only stand in one line, and may belong to different connections."""

    def apart(self) -> tuple[Mention, Mention]:
        """The two endpoints, each as the client of a connection of its own."""
        assert self.server is not None
        return Mention(self.client), Mention(self.server)

    def __str__(self) -> str:
        return f"{self.client} -> {self.server}" if self.server else str(self.client)


_V4 = r"\d{1,3}(?:\.\d{1,3}){3}"
_V6 = r"(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{0,4}|" + _V4 + ")"
_ZONE = r"(?:%[\w.-]+)?"
_BEFORE = r"(?<![\w.:%-])"
# A number, or the name of a service where a program was not told to print numbers (lsof, ss).
_PORT = r"\d{1,5}|[a-z][\w-]*"
_END = re.compile(
    rf"{_BEFORE}(?:\[(?P<six>{_V6}|{_V4}){_ZONE}\]|(?P<four>{_V4}){_ZONE})"
    rf"(?::(?P<port>{_PORT})(?!\w|\.\w)|\((?P<number>\d{{1,5}})\))"
)
_BARE = re.compile(rf"{_BEFORE}(?<!\w/)(?:(?P<four>{_V4})(?!\w|[.-]\d)|\[?(?P<six>{_V6}){_ZONE}\]?(?![\w.:]))")
_TOKEN_END = re.compile(rf"(?:\[(?P<six>{_V6}){_ZONE}\]|(?P<raw>{_V6}|{_V4}){_ZONE}):(?P<port>{_PORT})")

# A search must not start anew in each character of a long word or run of spaces: a line may have a million of them.
_PERHAPS = re.compile(r"\d\.\d{1,3}\.\d|:[0-9A-Fa-f]{0,4}:")
"""What every address has."""
_CONNTRACK = re.compile(
    r"(?:^|\s)(?P<protocol>tcp|udp|udplite|dccp|sctp)\s.{0,100}?\bsrc=(?P<src>\S+) dst=(?P<dst>\S+) "
    r"sport=(?P<sport>\d+) dport=(?P<dport>\d+)"
)
_REDIS = re.compile(r"(?:^|\s)addr=(?P<addr>\S+)(?: laddr=(?P<laddr>\S+))?")
_SOCKETS = re.compile(  # netstat, ss: local endpoint, then the peer's
    r"^\s*(?:(?P<kind>tcp|udp)6?\s+)?(?:[A-Z][A-Z0-9-]+\s+)?\d+\s+\d+\s+(?P<local>\S{1,80}:\S{1,80})\s+(?P<peer>\S{1,80}:\S{1,80})(?:\s|$)"
)
_ARROW = re.compile(r"(?<!\S)(?P<left>\S+:[\w-]+)\s*->\s*(?P<right>\S+:[\w-]+)")
_KAFKA = re.compile(r"(?<![0-9A-Fa-f:.])(?P<local>[0-9A-Fa-f:.]+:\d+)-(?P<remote>[0-9A-Fa-f:.]+:\d+)-\d+(?!\w)")
_LABELLED = re.compile(
    r"""(?i)(?<![\w.])["']?(?P<label>client|remote|peer)(?:[ _-]?(?:addr(?:ess)?|host|ip))?["']?\s*[:=]\s*["']?/?"""
    r"(?P<end>[\[\]0-9A-Fa-f:.]+)"
)
_HOST_PORT = re.compile(r"\bhost=(?P<host>[0-9A-Fa-f:.]+) port=(?P<port>\d{1,5})\b")
_JSON = re.compile(r'"(?:initial_)?address"\s*:\s*"(?P<ip>[^"]+)"\s*,\s*"(?:initial_)?port"\s*:\s*"?(?P<port>\d{1,5})')
_BESIDE = re.compile(rf"{_BEFORE}(?P<ip>{_V6}|{_V4})(?:\t|\s*[|│┃]\s*)(?P<port>\d{{4,5}})(?=\s|[|│┃]|$)")

EPHEMERAL = 1024
"""Least port of a client that a column beside an address may be; a smaller number is rather a count."""


def mentions_in(line: str) -> tuple[Mention, ...]:
    """The connections that a line mentions, each once: by the first form that fits, else every endpoint in it."""
    if not _PERHAPS.search(line):
        return ()
    for form in _FORMS:
        found = form(line)
        if found is not None:
            return tuple(dict.fromkeys(found))
    return ()


def place_of(ip: str, port: str | None) -> Place | None:
    """An address with a port as text, the name of a service, or None for none; None if either is not valid."""
    try:
        address = Address.parse(ip.partition("%")[0])
    except ValueError:
        return None
    number = None if port is None else _port_number(port)
    if (port is not None and number is None) or address in _NO_CLIENT:
        return None
    return Place(str(address), number)


def place_in(token: str) -> Place | None:
    """The endpoint that a whole token is: ``ip:port``, ``[ip]:port``, or as netstat writes IPv6, ``ip:port``."""
    match = _TOKEN_END.fullmatch(token)
    return place_of(match["six"] or match["raw"], match["port"]) if match else None


def _listening(line: str) -> list[Mention] | None:
    return [] if line.rstrip().endswith("(LISTEN)") else None


def _conntrack(line: str) -> list[Mention] | None:
    match = _CONNTRACK.search(line)
    if match is None:
        return None
    return _pair(place_of(match["src"], match["sport"]), place_of(match["dst"], match["dport"]), match["protocol"])


def _redis(line: str) -> list[Mention] | None:
    match = _REDIS.search(line)
    if match is None:
        return None
    return _pair(place_in(match["addr"]), place_in(match["laddr"]) if match["laddr"] else None)


def _sockets(line: str) -> list[Mention] | None:
    match = _SOCKETS.match(line)
    if match is None:
        return None
    local, peer = place_in(match["local"]), place_in(match["peer"])
    return _turned(local, peer, match["kind"] or "tcp") if local and peer else []  # else it listens


def _kafka(line: str) -> list[Mention] | None:
    match = _KAFKA.search(line)
    if match is None:
        return None
    return _pair(place_in(match["remote"]), place_in(match["local"]))


def _arrow(line: str) -> list[Mention] | None:
    match = _ARROW.search(line)
    left, right = (place_in(match["left"]), place_in(match["right"])) if match else (None, None)
    return _turned(left, right) if left and right else None


def _host_port(line: str) -> list[Mention] | None:
    match = _HOST_PORT.search(line)
    return _pair(place_of(match["host"], match["port"]), None) if match else None


def _json(line: str) -> list[Mention] | None:
    match = _JSON.search(line)
    return _pair(place_of(match["ip"], match["port"]), None) if match else None


def _labelled(line: str) -> list[Mention] | None:
    for match in _LABELLED.finditer(line):
        text = match["end"].rstrip(".:")
        found = place_in(text) or place_of(text.strip("[]"), None)
        if found and match["label"].lower() != "client" and len(_ends(line)) > 1:
            return None  # the other side may be meant: of a client, the peer is the server
        if found:
            return [Mention(found)]
    return None


def _beside(line: str) -> list[Mention] | None:
    match = _BESIDE.search(line)
    if match is None or int(match["port"]) < EPHEMERAL:
        return None
    return _pair(place_of(match["ip"], match["port"]), None) or None


def _any(line: str) -> list[Mention] | None:
    ends = _ends(line)
    known = {place.ip for place in ends.values()}
    places = ends | {start: place for start, place in _addresses(line).items() if place.ip not in known}
    found = list(dict.fromkeys(place for _, place in sorted(places.items())))
    if len(found) == 2 and all(place.port for place in found):
        return [one._replace(loose=True) for one in _turned(found[0], found[1])]
    return [Mention(place) for place in found]


def _ends(line: str) -> dict[int, Place]:
    """Addresses with a port, by where they begin."""
    found = {
        match.start(): place_of(match["six"] or match["four"], match["port"] or match["number"])
        for match in _END.finditer(line)
    }
    return {start: place for start, place in found.items() if place is not None}


def _addresses(line: str) -> dict[int, Place]:
    """Addresses whose port is missing, or is none, by where they begin."""
    found = {}
    for match in _BARE.finditer(line):
        text = match["four"] or match["six"]
        is_name = match["four"] is None and not any(char.isdecimal() for char in text)  # dead::beef in a program
        if not is_name and (place := place_of(text, None)):
            found[match.start()] = place
    return found


_FORMS = (_listening, _conntrack, _redis, _sockets, _kafka, _arrow, _host_port, _json, _beside, _labelled, _any)
"""The forms of a line, the most particular first. Each returns None if the line does not have it."""


def _pair(client: Place | None, server: Place | None, protocol: str = "tcp") -> list[Mention]:
    return [Mention(client, server, protocol)] if client else []


def _turned(one: Place, other: Place, protocol: str = "tcp") -> list[Mention]:
    """The connection between two endpoints, the one with the larger port as the client."""
    if (one.port or 0) < (other.port or 0):
        one, other = other, one
    return [Mention(one, other, protocol)]


@lru_cache(maxsize=4096)
def _port_number(text: str) -> int | None:
    if text.isdecimal():
        return int(text) if 1 <= int(text) <= 65535 else None
    try:
        return socket.getservbyname(text)
    except OSError:
        return None


_NO_CLIENT = (Address.parse("0.0.0.0"), Address.parse("::"))
