"""The parameters of /api/v1: a model for each endpoint, and how each text is read."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, WithJsonSchema, field_validator
from pydantic.alias_generators import to_camel
from starlette.datastructures import QueryParams

from flowmap.config.values import LAST_TIME, parse_duration
from flowmap.errors import QueryError
from flowmap.model.address import Address, format_endpoint, protocol_number
from flowmap.model.deployment import State
from flowmap.model.selection import LabelFilter, Selection
from flowmap.model.views import Connection, EndpointFilter, FlowFilter
from flowmap.serve.api.problem import BadParameters, FieldProblem

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100
MAX_COUNT = 1_000_000
_LONGEST_TEXT = 512

_EPOCH = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_AGO = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|[wdhms])){1,8}")
_RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})")


def read_address(text: str) -> Address:
    try:
        return Address.parse(text.strip())
    except ValueError:
        raise ValueError("is not an IPv4 or IPv6 address (without zone)") from None


def read_protocol(text: str) -> int:
    try:
        return protocol_number(text)
    except ValueError:
        raise ValueError("is neither the name of a protocol (tcp, udp, …) nor a number from 0 to 255") from None


def read_time(text: str) -> float:
    """Seconds since the epoch, from RFC 3339 with an offset, seconds since the epoch, or how long ago: ``2h``."""
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


def read_client(text: str) -> EndpointFilter:
    """``ip``, ``ip:port`` or ``[ip]:port``."""
    try:
        return EndpointFilter(read_address(text.removeprefix("[").removesuffix("]")), None)
    except ValueError:
        host, _, port = text.rpartition(":")
    try:
        return EndpointFilter(read_address(host.removeprefix("[").removesuffix("]")), read_integer(port, 1, 65535))
    except ValueError:
        raise ValueError("is neither an address nor address:port") from None


def read_peer(text: str) -> str:
    """A name as it is; an address or endpoint in the form in which peers are listed."""
    try:
        address, port = read_client(text)
    except ValueError:
        return read_text(text)
    return str(address) if port is None else format_endpoint(str(address), port)


def read_label(text: str) -> LabelFilter:
    """``key=value`` or ``key=value,value``."""
    key, separator, given = read_text(text).partition("=")
    if not separator or not key:
        raise ValueError("is not like team=orders or team=orders,billing")
    return LabelFilter(key, tuple(given.split(",")))


def read_duration(text: str) -> float:
    """A time span like ``1h30m``, in seconds."""
    if not _AGO.fullmatch(text):
        raise ValueError("is not a time span like 1h or 30m")
    return parse_duration(text)


def read_flag(text: str) -> bool:
    if text not in _FLAGS:
        raise ValueError(f"is none of {', '.join(_FLAGS)}")
    return _FLAGS[text]


def read_text(text: str) -> str:
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"is longer than {_LONGEST_TEXT} characters")
    return text


def read_integer(text: str, low: int, high: int) -> int:
    """A whole number in decimal digits, both bounds included."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise ValueError(f"is not a number from {low} to {high}")
    return int(text)


def between(low: int, high: int) -> tuple[PlainValidator, WithJsonSchema]:
    """Annotates a whole number, both bounds included."""
    schema = {"type": "integer", "minimum": low, "maximum": high}
    return PlainValidator(lambda text: read_integer(text, low, high)), WithJsonSchema(schema)


def one_of(kind: type[StrEnum]) -> tuple[PlainValidator, WithJsonSchema]:
    """Annotates a member of an enumeration, by its value."""

    def read(text: str) -> StrEnum:
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"is none of {', '.join(kind)}") from None

    return PlainValidator(read), WithJsonSchema({"type": "string", "enum": [str(one) for one in kind]})


def _in_range(seconds: float) -> float:
    if not 0 <= seconds <= LAST_TIME:
        raise ValueError("is not a time that exists")
    return seconds


_FLAGS = {"1": True, "true": True, "0": False, "false": False}

Ip = Annotated[
    Address,
    PlainValidator(read_address),
    WithJsonSchema({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
]
Port = Annotated[int | None, *between(1, 65535)]
Protocol = Annotated[int | None, PlainValidator(read_protocol), WithJsonSchema({"type": "string"})]
Time = Annotated[float | None, PlainValidator(read_time), WithJsonSchema({"type": "string"})]
Text = Annotated[str | None, PlainValidator(read_text), WithJsonSchema({"type": "string"})]
Peer = Annotated[str | None, PlainValidator(read_peer), WithJsonSchema({"type": "string"})]
Client = Annotated[EndpointFilter | None, PlainValidator(read_client), WithJsonSchema({"type": "string"})]
StateName = Annotated[State | None, *one_of(State)]
Limit = Annotated[int, *between(1, MAX_LIMIT)]
LabelText = Annotated[LabelFilter | None, PlainValidator(read_label), WithJsonSchema({"type": "string"})]
IdleTime = Annotated[float | None, PlainValidator(read_duration), WithJsonSchema({"type": "string"})]
Count = Annotated[int | None, *between(1, MAX_COUNT)]
Flag = Annotated[bool, PlainValidator(read_flag), WithJsonSchema({"type": "string", "enum": list(_FLAGS)})]


class Parameters(BaseModel):
    """Base of all parameters. Names are snake_case here and camelCase in a request. Each is given once at most."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, defer_build=True)

    @field_validator("*", mode="before")
    @classmethod
    def _once(cls, given: str | list[str]) -> str:
        if isinstance(given, str):
            return given
        if len(given) > 1:
            raise ValueError("given more than once")
        return given[0]


NETNS = "Network namespace, by its name (ip netns), its inode, or host; of the flow or of either endpoint."
"""Description of a parameter of several models."""


class AttributionParameters(Parameters):
    """One connection."""

    src_ip: Ip = Field(description="Address of the client endpoint, which opened the connection.")
    src_port: Port = Field(None, description="Its port; narrows the answer to one connection.")
    dst_ip: Ip = Field(description="Address of the server endpoint, which accepted the connection.")
    dst_port: Port = Field(None, description="Its port.")
    protocol: Protocol = Field(
        protocol_number("tcp"), description="Name or IANA number.", json_schema_extra={"default": "tcp"}
    )
    at: Time = Field(None, description="When: RFC 3339, seconds since the epoch, or how long ago (2h); now if absent.")
    netns: Text = Field(None, description=NETNS)
    explain: Flag = Field(
        False,
        description="1: with all questions, answers and rules behind the result.",
        json_schema_extra={"default": "0"},
    )

    def connection(self) -> Connection:
        """The connection that is asked about."""
        assert self.protocol is not None  # it has a default
        return Connection(self.src_ip, self.src_port, self.dst_ip, self.dst_port, self.protocol, self.netns)


class FlowParameters(Parameters):
    """Which flows to list."""

    deployment: Text = Field(None, description="Id or name of a deployment.")
    peer: Peer = Field(None, description="Configured name of a peer, ip:port of a service endpoint, or its address.")
    client: Client = Field(None, description="Address of the client endpoint, or address:port.")
    state: StateName = Field(None, description="State of the attribution.")
    protocol: Protocol = Field(None, description="Name or IANA number.")
    container: Text = Field(
        None, description="Id of a container, at least its first 12 characters, or its name; at either endpoint."
    )
    unit: Text = Field(None, description="systemd unit, such as kafka.service; at either endpoint.")
    netns: Text = Field(None, description=NETNS)
    limit: Limit = Field(DEFAULT_LIMIT, description="Maximum number of flows in one answer.")
    cursor: Text = Field(None, description="nextCursor of the previous answer.")
    from_: Time = Field(
        None, alias="from", description="Flows that were open after this time; with from or to, also closed ones."
    )
    to: Time = Field(None, description="Flows that were open before this time.")

    def filter(self) -> FlowFilter:
        """The flows that are asked for. QueryError if the window ends before it begins."""
        if self.from_ is not None and self.to is not None:
            in_order(self.from_, self.to, "from")
        return FlowFilter(
            *(self.deployment, self.peer, self.client, self.state, self.protocol),
            since=self.from_,
            until=self.to,
            container=self.container,
            unit=self.unit,
            netns=self.netns,
        )


class SelectionParameters(Parameters):
    """Which deployments and peers."""

    deployment: Text = Field(None, description="Id or name of a deployment, or a glob of names.")
    peer: Peer = Field(None, description="Name of a peer, ip:port of a service endpoint, or a glob of either.")
    label: LabelText = Field(None, description="A label of deployments and its values: team=orders,billing.")

    def selection(self) -> Selection:
        """What is asked about, at any time."""
        return Selection(self.deployment, self.peer, self.label)


class LineageParameters(SelectionParameters):
    """Which traffic between deployments and peers."""

    from_: Time = Field(None, alias="from", description="Start of a window of time; needs history.")
    to: Time = Field(None, description="End of the window; now if absent.")

    def selection(self) -> Selection:
        """The traffic that is asked for. QueryError if the window ends before it begins."""
        if self.from_ is not None and self.to is not None:
            in_order(self.from_, self.to, "from")
        return Selection(self.deployment, self.peer, self.label, self.from_, self.to)


class StaleParameters(SelectionParameters):
    """Which open connections are stale."""

    idle: IdleTime = Field(None, description="Idle after this time (1h); expect.idle if absent.")
    connections: Count = Field(
        None, description="Maximum number of connections of a deployment to one peer; expect.connections if absent."
    )
    limit: Limit = Field(DEFAULT_LIMIT, description="Maximum number of connections in the answer.")


class DeploymentParameters(Parameters):
    """One deployment."""

    deployment_id: str = Field(description="Id of a deployment; for its peers, also its name.")


class WindowParameters(DeploymentParameters):
    """One deployment and a window of time."""

    from_: Time = Field(None, alias="from", description="Start of the window; 24 hours ago if absent.")
    to: Time = Field(None, description="End of the window; now if absent.")

    def window(self) -> tuple[float, float]:
        """The window, in seconds since the epoch. QueryError if it ends before it begins."""
        until = time.time() if self.to is None else self.to
        return in_order(until - DAY if self.from_ is None else self.from_, until, "from")


class ChangesParameters(WindowParameters):
    """One deployment and two windows of time."""

    before_from: Time = Field(
        None, description="Start of the window to compare with; if absent, it is as long as the other one."
    )
    before_to: Time = Field(
        None, description="End of the window to compare with; the start of the other one if absent."
    )

    def before(self, window: tuple[float, float]) -> tuple[float, float]:
        """The window to compare ``window`` with."""
        since, until = window
        end = since if self.before_to is None else self.before_to
        begin = end - (until - since) if self.before_from is None else self.before_from
        return in_order(begin, end, "beforeFrom")


DAY = 86400.0

P = TypeVar("P", bound=Parameters)


def read_parameters(model: type[P], query: QueryParams, path: Mapping[str, str]) -> P:
    """The parameters of a request. :class:`BadParameters` with all that is wrong.

    An empty value counts as absent. An unknown name is an error: a misspelt filter would let everything pass.
    """
    known = [str(field.alias) for field in model.model_fields.values() if field.alias not in path]
    listed = ", ".join(sorted(known)) or "none"
    problems = [
        FieldProblem(field=name, reason=f"there is no such parameter; there are: {listed}")
        for name in query.keys()  # noqa: SIM118  # an iteration over it repeats names
        if name not in known
    ]
    given: dict[str, object] = {name: texts for name in known if (texts := query.getlist(name)) not in ([], [""])}
    try:
        found = model.model_validate(given | dict(path))
    except ValidationError as error:
        problems += [FieldProblem(field=str(one["loc"][0]), reason=_reason(one)) for one in error.errors()]
    if problems:
        raise BadParameters(problems)
    return found


def _reason(error: Any) -> str:
    return "is required" if error["type"] == "missing" else str(error["ctx"]["error"])


def in_order(since: float, until: float, field: str) -> tuple[float, float]:
    """Both times; QueryError that names ``field`` if the second is before the first."""
    if since > until:
        raise QueryError("the window ends before it begins", field=field)
    return since, until
