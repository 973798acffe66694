"""The parameters of the map and of the stream."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated

from pydantic import Field, PlainValidator, WithJsonSchema

from flowmap.model.traffic_map import MapQuery, Order
from flowmap.model.views import FlowFilter
from flowmap.serve.api.parameters import (
    DAY,
    Client,
    Limit,
    Parameters,
    Peer,
    Protocol,
    StateName,
    Text,
    Time,
    between,
    in_order,
    one_of,
)

MOST_NODES = 200
LONGEST_STREAM = 300
"""Seconds. A reader that asks again is authenticated again."""
EVENTS = ("map", "flows", "status")


def read_label(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key or len(text) > 512:
        raise ValueError("is not key=value of at most 512 characters")
    return key, value


def read_events(text: str) -> tuple[str, ...]:
    names = text.split(",")
    if not set(names) <= set(EVENTS):
        raise ValueError(f"is not a list of {', '.join(EVENTS)}")
    return tuple(names)


def read_kind_of_bytes(text: str) -> str:
    if text not in ("ip", "payload"):
        raise ValueError("is neither ip nor payload")
    return text


Label = Annotated[tuple[str, str] | None, PlainValidator(read_label), WithJsonSchema({"type": "string"})]
OrderName = Annotated[Order, *one_of(Order)]
Nodes = Annotated[int, *between(1, MOST_NODES)]
Seconds = Annotated[int, *between(1, LONGEST_STREAM)]
KindOfBytes = Annotated[
    str | None, PlainValidator(read_kind_of_bytes), WithJsonSchema({"type": "string", "enum": ["ip", "payload"]})
]
Events = Annotated[tuple[str, ...], PlainValidator(read_events), WithJsonSchema({"type": "string"})]


class MapFilter(Parameters):
    """Which traffic is on a map."""

    text: Text = Field(
        None, description="Words; each must occur in the name, id or namespace of a deployment, or in the peer."
    )
    namespace: Text = Field(None, description="Namespace of the deployments.")
    label: Label = Field(None, description="A label of the deployments, as key=value.")
    state: StateName = Field(None, description="State of the attribution.")
    deployment: Text = Field(None, description="Id or name of a deployment.")
    peer: Peer = Field(None, description="Configured name of a peer, or ip:port of a service endpoint.")
    order: OrderName = Field(
        Order.RATE, description="What makes a node large.", json_schema_extra={"default": str(Order.RATE)}
    )
    limit: Nodes = Field(30, description="Nodes of each side; the others are summed up in one.")

    def query(self) -> MapQuery:
        """The query of the map."""
        return MapQuery(
            (self.text or ""),
            self.namespace,
            self.label,
            self.state,
            self.deployment,
            self.peer,
            self.order,
            self.limit,
        )


class MapParameters(MapFilter):
    """Which traffic is on a map, now or in a window of time."""

    from_: Time = Field(
        None, alias="from", description="Start of a window of the past; needs history. Without from and to: live."
    )
    to: Time = Field(None, description="End of the window; now if absent.")
    before_from: Time = Field(
        None, description="Start of an earlier window to compare with; if absent, it is as long as the other one."
    )
    before_to: Time = Field(None, description="End of the earlier window; the start of the other one if absent.")
    counts: KindOfBytes = Field(
        None, description="Of a fleet's store: traffic whose bytes are ip or payload; if absent, what is more common."
    )

    def query(self) -> MapQuery:
        """The query of the map."""
        return replace(super().query(), counts=self.counts)

    @property
    def is_live(self) -> bool:
        """Whether the map of now is wanted."""
        return self.from_ is self.to is self.before_from is self.before_to is None

    def windows(self) -> tuple[tuple[float, float], tuple[float, float] | None]:
        """The window, and the one to compare with. QueryError if one ends before it begins."""
        until = time.time() if self.to is None else self.to
        since, until = in_order(until - DAY if self.from_ is None else self.from_, until, "from")
        if self.before_from is None and self.before_to is None:
            return (since, until), None
        end = since if self.before_to is None else self.before_to
        begin = end - (until - since) if self.before_from is None else self.before_from
        return (since, until), in_order(begin, end, "beforeFrom")


class StreamParameters(MapFilter):
    """What a stream carries."""

    events: Events = Field(
        ("map", "status"),
        description="Which events, between commas: map, flows, status.",
        json_schema_extra={"default": "map,status"},
    )
    client: Client = Field(None, description="Of flows: address of the client endpoint, or address:port.")
    protocol: Protocol = Field(None, description="Of flows: name or IANA number.")
    container: Text = Field(None, description="Of flows: id of a container, or its name; at either endpoint.")
    unit: Text = Field(None, description="Of flows: systemd unit at either endpoint.")
    netns: Text = Field(None, description="Of flows: network namespace, by its name or inode, or host.")
    flow_limit: Limit = Field(100, description="Flows in one event; the number of those left out is in it.")
    seconds: Seconds = Field(LONGEST_STREAM, description="The stream ends after this time.")

    def flow_filter(self) -> FlowFilter:
        """The flows to follow; text, namespace and label apply to the map only."""
        return FlowFilter(
            *(self.deployment, self.peer, self.client, self.state, self.protocol),
            container=self.container,
            unit=self.unit,
            netns=self.netns,
        )
