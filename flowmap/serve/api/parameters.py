"""The query parameters of /api/v1, as data: how each is read, and how openapi.py describes it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from starlette.datastructures import QueryParams

from flowmap.config.values import parse_duration
from flowmap.errors import QueryError
from flowmap.model.address import Address, format_endpoint, protocol_name, protocol_number
from flowmap.model.deployment import State
from flowmap.serve.api.models import FieldProblem

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100
_LONGEST_TEXT = 512
_LAST_TIME = 253_402_300_799.0  # 9999-12-31T23:59:59Z, the last one RFC 3339 can write

_EPOCH = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_AGO = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|[wdhms])){1,8}")
_RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query parameter."""

    name: str
    read: Callable[[str], Any]
    """Text to value; ValueError says why not."""
    description: str
    schema: dict[str, object] = field(default_factory=lambda: {"type": "string"})
    required: bool = False
    default: object = None


def read_parameters(query: QueryParams, parameters: Sequence[Parameter]) -> tuple[dict[str, Any], list[FieldProblem]]:
    """The values by name, and what is wrong. An empty value counts as absent; an unknown name is a mistake, because
    a filter that is misspelt would otherwise let everything through."""
    known = {parameter.name for parameter in parameters}
    problems = [
        FieldProblem(field=name, reason=f"there is no such parameter; there are: {', '.join(sorted(known)) or 'none'}")
        for name in dict.fromkeys(query)
        if name not in known
    ]
    values: dict[str, Any] = {}
    for parameter in parameters:
        try:
            values[parameter.name] = _read(query.getlist(parameter.name), parameter)
        except ValueError as error:
            problems.append(FieldProblem(field=parameter.name, reason=str(error)))
    return values, problems


def _read(texts: list[str], parameter: Parameter) -> Any:
    if len(texts) > 1:
        raise ValueError("given more than once")
    if not texts or not texts[0]:
        if parameter.required:
            raise ValueError("is required")
        return parameter.default
    return parameter.read(texts[0])


def read_ip(text: str) -> str:
    """An address in its usual form; an IPv4-mapped one as IPv4."""
    try:
        return str(Address.parse(text.strip()))
    except ValueError:
        raise ValueError("is not an IPv4 or IPv6 address (without zone)") from None


def read_port(text: str) -> int:
    return _read_integer(text, 1, 65535)


def read_limit(text: str) -> int:
    return _read_integer(text, 1, MAX_LIMIT)


def read_protocol(text: str) -> str:
    try:
        return protocol_name(protocol_number(text))
    except ValueError:
        raise ValueError("is neither a protocol's name (tcp, udp, …) nor a number from 0 to 255") from None


def read_state(text: str) -> State:
    try:
        return State(text)
    except ValueError:
        raise ValueError(f"is none of {', '.join(State)}") from None


def read_time(text: str) -> float:
    """RFC 3339 with its offset, seconds since the epoch, or how long ago: ``2h``."""
    if _AGO.fullmatch(text):
        return _in_range(time.time() - parse_duration(text))
    if _EPOCH.fullmatch(text):
        return _in_range(float(text))
    # A bare "+" in a query string arrives as a space.
    stamp = text.replace(" ", "+").upper()
    if not _RFC3339.fullmatch(stamp):
        raise ValueError(
            "is neither RFC 3339 (2026-01-31T12:00:00Z) nor seconds since the epoch, nor how long ago (2h)"
        )
    try:
        return _in_range(datetime.fromisoformat(stamp).timestamp())
    except (ValueError, OverflowError):
        raise ValueError("is not a time that exists") from None


def read_client(text: str) -> str:
    """``ip``, ``ip:port`` or ``[ip]:port``, in the form flows are listed with."""
    try:
        return read_ip(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        host, _, port = text.rpartition(":")
    try:
        return format_endpoint(read_ip(host.removeprefix("[").removesuffix("]")), read_port(port))
    except ValueError:
        raise ValueError("is neither an address nor address:port") from None


def read_peer(text: str) -> str:
    """A name as it is; an address or endpoint in the form peers are listed with."""
    try:
        return read_client(read_text(text))
    except ValueError:
        return read_text(text)


def read_flag(text: str) -> bool:
    if text not in _FLAGS:
        raise ValueError(f"is none of {', '.join(_FLAGS)}")
    return _FLAGS[text]


def read_text(text: str) -> str:
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"is longer than {_LONGEST_TEXT} characters")
    return text


def _read_integer(text: str, low: int, high: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise ValueError(f"is not a number from {low} to {high}")
    return int(text)


def _in_range(seconds: float) -> float:
    if not 0 <= seconds <= _LAST_TIME:
        raise ValueError("is not a time that exists")
    return seconds


_FLAGS = {"1": True, "true": True, "0": False, "false": False}
_FLAG: dict[str, object] = {"type": "string", "enum": list(_FLAGS), "default": "0"}
_IP: dict[str, object] = {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
_PORT: dict[str, object] = {"type": "integer", "minimum": 1, "maximum": 65535}

ATTRIBUTION = (
    Parameter("srcIp", read_ip, "Address of the end that opened the connection.", _IP, required=True),
    Parameter("srcPort", read_port, "Its port; narrows the answer to one connection.", _PORT),
    Parameter("dstIp", read_ip, "Address of the end that accepted it.", _IP, required=True),
    Parameter("dstPort", read_port, "Its port.", _PORT),
    Parameter("protocol", read_protocol, "Name or IANA number.", {"type": "string", "default": "tcp"}, default="tcp"),
    Parameter("at", read_time, "When: RFC 3339, seconds since the epoch, or how long ago (2h); now if absent."),
    Parameter("explain", read_flag, "1: with the whole chain from the connection to its owners.", _FLAG, default=False),
)

FLOWS = (
    Parameter("deployment", read_text, "Id or name of a deployment."),
    Parameter("peer", read_peer, "Configured name of a peer, ip:port of a service end, or its address."),
    Parameter("client", read_client, "Address of the client end, or address:port."),
    Parameter("state", read_state, "State of the attribution.", {"type": "string", "enum": [str(s) for s in State]}),
    Parameter("protocol", read_protocol, "Name or IANA number."),
    Parameter(
        "limit",
        read_limit,
        "Flows in one answer at most.",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
        default=DEFAULT_LIMIT,
    ),
    Parameter("cursor", read_text, "nextCursor of the part before."),
    Parameter("from", read_time, "Flows that were open after this moment; with from or to, ended ones, too."),
    Parameter("to", read_time, "Flows that were open before this moment."),
)

WINDOW = (
    Parameter("from", read_time, "Begin of the window; 24 hours ago if absent."),
    Parameter("to", read_time, "End of the window; now if absent."),
)

CHANGES = (
    *WINDOW,
    Parameter("beforeFrom", read_time, "Begin of the window to compare with; if absent, one as long as the other."),
    Parameter("beforeTo", read_time, "End of the window to compare with; the begin of the other if absent."),
)

DAY = 86400.0


def window_of(values: dict[str, Any]) -> tuple[float, float]:
    """The window that is asked about. QueryError if it ends before it begins."""
    until = time.time() if values["to"] is None else values["to"]
    since = until - DAY if values["from"] is None else values["from"]
    return in_order(since, until, "from")


def window_before(values: dict[str, Any], window: tuple[float, float]) -> tuple[float, float]:
    """The window to compare with."""
    since, until = window
    end = since if values["beforeTo"] is None else values["beforeTo"]
    begin = end - (until - since) if values["beforeFrom"] is None else values["beforeFrom"]
    return in_order(begin, end, "beforeFrom")


def in_order(since: float, until: float, field: str) -> tuple[float, float]:
    if since > until:
        raise QueryError("the window ends before it begins", field=field)
    return since, until
