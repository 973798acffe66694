"""The bodies of POST requests to /api/v1: a model for each, and how a body is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from flowmap.model.address import Address, protocol_number
from flowmap.model.views import EndpointFilter, Lookup
from flowmap.serve.api.parameters import read_address, read_protocol, read_text, read_time
from flowmap.serve.api.problem import BadParameters, FieldProblem

MOST_CONNECTIONS = 1000
"""Connections in one batch."""
LARGEST = 256 * 1024
"""Bytes of a body: 1,000 connections of IPv6 in full, with room for white space."""
SECONDS = 10.0
"""Time in which a body must arrive."""
MOST_PROBLEMS = 10
"""Wrong fields named in one answer."""

T = TypeVar("T")


def _of_text(read: Callable[[str], T]) -> Callable[[object], T]:
    def checked(value: object) -> T:
        if not isinstance(value, str):
            raise ValueError("is not a string")
        return read(value)

    return checked


def _read_port(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise ValueError("is not a number from 1 to 65535")
    return value


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _nullable(read: Callable[[object], T]) -> Callable[[object], T | None]:
    return lambda value: None if value is None else read(value)


_IP = {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}

Ip = Annotated[Address, PlainValidator(_of_text(read_address)), WithJsonSchema(_IP)]
AnyIp = Annotated[Address | None, PlainValidator(_nullable(_of_text(read_address))), WithJsonSchema(_or_null(_IP))]
Port = Annotated[int | None, PlainValidator(_nullable(_read_port)), WithJsonSchema(_or_null(_PORT))]
Protocol = Annotated[int, PlainValidator(_of_text(read_protocol)), WithJsonSchema({"type": "string"})]
Time = Annotated[
    float | None, PlainValidator(_nullable(_of_text(read_time))), WithJsonSchema(_or_null({"type": "string"}))
]


class Body(BaseModel):
    """Base of all bodies. Names are snake_case here and camelCase in a request; an unknown name is an error."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="forbid", defer_build=True)


class KnownConnection(Body):
    """One connection, by as much of it as is known."""

    src_ip: Ip = Field(description="Address of the client endpoint.")
    src_port: Port = Field(None, description="Its port; without it, all connections of the address count.")
    dst_ip: AnyIp = Field(None, description="Address of the server endpoint, if it is known.")
    dst_port: Port = Field(None, description="Its port.")
    protocol: Protocol = Field(
        protocol_number("tcp"), description="Name or IANA number.", json_schema_extra={"default": "tcp"}
    )

    netns: Annotated[
        str | None, PlainValidator(_nullable(_of_text(read_text))), WithJsonSchema(_or_null({"type": "string"}))
    ] = Field(None, description="Network namespace, by its name or inode, or host; any if absent.")

    @model_validator(mode="after")
    def _port_of_an_address(self) -> Self:
        if self.dst_port is not None and self.dst_ip is None:
            raise ValueError("dstPort needs dstIp")
        return self

    def lookup(self) -> Lookup:
        """The connection that is asked about."""
        server = None if self.dst_ip is None else EndpointFilter(self.dst_ip, self.dst_port)
        return Lookup(EndpointFilter(self.src_ip, self.src_port), server, self.protocol, self.netns)


class AttributionBatch(Body):
    """Connections whose owners are asked for together."""

    connections: list[KnownConnection] = Field(max_length=MOST_CONNECTIONS, description="The connections.")
    at: Time = Field(None, description="When: RFC 3339, seconds since the epoch, or how long ago (2h); now if absent.")

    def lookups(self) -> list[Lookup]:
        """The connections that are asked about."""
        return [connection.lookup() for connection in self.connections]


B = TypeVar("B", bound=Body)


async def read_body(model: type[B], request: Request) -> B:
    """The body of a request. BadParameters with what is wrong; HTTPException with 408 or 415."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # A page of another origin can send every other type without asking first.
        raise HTTPException(415, "Send the body as application/json.")
    try:
        async with asyncio.timeout(SECONDS):
            text = await request.body()
    except (TimeoutError, ClientDisconnect) as error:
        raise HTTPException(408, f"The body did not arrive within {SECONDS:.0f} s.") from error
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise BadParameters([_problem(one) for one in error.errors()[:MOST_PROBLEMS]]) from error


def _problem(error: Any) -> FieldProblem:
    place = ".".join(str(part) for part in error["loc"])
    match error["type"]:
        case "missing":
            reason = "is required"
        case "extra_forbidden":
            reason = "there is no such field"
        case "value_error":
            reason = str(error["ctx"]["error"])
        case _:
            reason = str(error["msg"])
    return FieldProblem(field=place or "body", reason=reason)
