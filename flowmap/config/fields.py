"""Types of configuration fields: parser, check, output form, and JSON Schema."""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from flowmap.config import values
from flowmap.control.http.route import Proxy

_DURATION_SCHEMA = {
    "anyOf": [{"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|[wdhms]))+$"}, {"type": "number", "minimum": 0}]
}
_SIZE_SCHEMA = {
    "anyOf": [{"type": "string", "pattern": r"^\d+(\.\d+)?\s*([KMGTkmgt]i?)?[Bb]?$"}, {"type": "integer", "minimum": 0}]
}


class Section(BaseModel):
    """Base of all sections: immutable, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ClientTls(Section):
    """TLS to a server that flowmap asks."""

    ca_file: str | None = Field(
        default=None, min_length=1, description="CA certificates in PEM that replace the default list."
    )
    cert_file: str | None = Field(default=None, min_length=1, description="Client certificate in PEM.")
    key_file: str | None = Field(default=None, min_length=1, description="Key of the client certificate in PEM.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        return self


class Live(NamedTuple):
    """Marks a key, or a section with all its keys, that a reload applies. Other keys need a restart."""

    counts_for: str
    """What a new value affects, for the reference."""


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("must be longer than 0s")
    return seconds


def at_most(longest: float) -> AfterValidator:
    """Refuse a longer duration, in seconds."""

    def check(seconds: float) -> float:
        if seconds > longest:
            raise ValueError(f"must be at most {values.format_duration(longest)}")
        return seconds

    return AfterValidator(check)


def _named(pattern: str, meaning: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} is not {meaning}")
        return text

    return AfterValidator(check)


def distinct(items: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({item for item in items if items.count(item) > 1})
    if twice:
        raise ValueError(f"given more than once: {', '.join(twice)}")
    return items


def some(items: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse an empty list."""
    if not items:
        raise ValueError("give at least one")
    return items


def _matches(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be one line of printable characters")
    if re.search(r"\bvlan\b", text):
        raise ValueError("vlan never matches: the kernel removes VLAN tags before it filters")
    return text


Duration = Annotated[
    float,
    BeforeValidator(values.parse_duration),
    PlainSerializer(values.format_duration, return_type=str),
    WithJsonSchema(_DURATION_SCHEMA),
]
"""Seconds; text like ``1h30m`` in the file."""

Span = Annotated[Duration, AfterValidator(_positive)]
"""A duration longer than 0s."""

Size = Annotated[
    int,
    BeforeValidator(values.parse_size),
    PlainSerializer(values.format_size, return_type=str),
    WithJsonSchema(_SIZE_SCHEMA),
]
"""Bytes; text like ``64MiB`` in the file."""

Pattern = Annotated[str, AfterValidator(values.parse_pattern)]
CaptureFilter = Annotated[str, AfterValidator(_matches)]
InterfaceName = Annotated[str, AfterValidator(values.parse_interface)]
Service = Annotated[str, AfterValidator(values.parse_service)]
NetworkText = Annotated[str, AfterValidator(values.parse_network)]
Listen = Annotated[
    values.Listen,
    BeforeValidator(values.Listen.parse),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string"}),
]
Endpoint = Annotated[str, AfterValidator(values.parse_endpoint)]
ProxyUrl = Annotated[
    Proxy,
    BeforeValidator(values.parse_proxy),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "format": "uri"}),
]
"""Its password is never shown."""
Namespace = Annotated[str, _named(r"(?!\.{1,2}$)[^\x00-\x20\x7f]+", "a namespace")]
Project = Annotated[str, _named(r"(?!\.{1,2}$)[^\x00-\x20\x7f/?#%\[\]]+", "the name of a project")]
PeerName = Annotated[
    str, _named(r"(?!other$)[^\x00-\x1f\x7f]+", 'a peer name ("other" is reserved for traffic beyond max_series)')
]
NetworkNamespaces = Annotated[
    str | tuple[str, ...],
    BeforeValidator(values.parse_network_namespaces),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["host", "all"]},
                {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": values.MOST_NAMESPACES},
            ]
        }
    ),
]
"""``host``, ``all``, or names and paths."""
CgroupPath = Annotated[str, _named(r"/[^\0\n]*", "the path of a cgroup, such as /kubepods.slice")]
"""A pattern of paths below the cgroup v2 mount."""

Label = Literal["workspace", "namespace", "deployment_id", "deployment", "peer", "protocol", "container", "unit"]

AT_ONCE = Live("everything")
NEXT_CALL = Live("the next call")
NEXT_READ = Live("the next full read")
NEXT_ANSWER = Live("the next answer")
NEW_FLOWS = Live("new flows")
NEW_NAMES = Live("flows attributed afterwards")
