"""The answers about stale connections and about lineage."""

from __future__ import annotations

from pydantic import Field

from flowmap.model.findings import StaleReason
from flowmap.model.lineage import Direction
from flowmap.serve.api.models import Answer, DeploymentName, Flow, Incomplete, Text, Time, Traffic


class LineageDeployment(DeploymentName):
    """A deployment with its labels."""

    labels: dict[Text, Text]


class LineageEdge(Answer):
    """A deployment and a peer that it talked to."""

    deployments: list[LineageDeployment] = Field(description="More than one if they cannot be told apart.")
    peer: Text
    protocol: Text
    endpoints: list[Text] = Field(description="Server endpoints of the peer that are tracked now, at most 16.")
    direction: Direction
    guessed: bool = Field(description="Whether the direction is a guess from the bytes.")
    traffic: Traffic
    first_seen: Time
    last_seen: Time
    counts: Text = Field(description="From the store of a fleet: ip or payload, what the bytes are; else empty.")


class Lineage(Answer):
    """Which deployments talked to which peers."""

    since: Time = Field(serialization_alias="from", description="null: since the daemon started.")
    until: Time = Field(serialization_alias="to")
    edges: list[LineageEdge]
    incomplete: Incomplete


class StaleConnection(Answer):
    """An open connection that is stale."""

    reasons: list[StaleReason]
    idle_seconds: float | None = Field(description="Least time without traffic; null if it is not known.")
    run_started_at: Time = Field(description="Start of the oldest running job of its deployment; null if none runs.")
    flow: Flow


class PeerAboveLimit(Answer):
    """A deployment with more open connections to one peer than the limit."""

    deployments: list[DeploymentName] = Field(validation_alias="owners")
    peer: Text
    connections: int


class Stale(Answer):
    """The stale connections of a selection."""

    connections: list[StaleConnection] = Field(description="The oldest first.")
    total: int = Field(description="Stale connections, also those that are not listed.")
    above_limit: list[PeerAboveLimit]
    checked: int = Field(description="Open connections that have an owner or a set of owners.")
    unjudged: int = Field(description="Those whose deployment's jobs are not known well enough to judge their age.")
    idle_known: bool = Field(description="Whether the idle time of every checked connection is known.")
