"""The answer of /api/v1/map as pydantic models, read from the values of ``flowmap.model.traffic_map``."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from flowmap.serve.api.models import Answer, DeploymentName, Incomplete, Text, Time, inside


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 1)


Rate = Annotated[float | None, BeforeValidator(_rounded)]


class Figures(Answer):
    """Traffic as seen from the deployment."""

    transmit_bytes: int = Field(description="Live: since the daemon started. Else: of flows open in the window.")
    receive_bytes: int
    transmit_rate: Rate = Field(description="Bytes a second in the time of the map; null if not known.")
    receive_rate: Rate
    connections: int
    open_connections: int


class WithFigures(Answer):
    """What nodes and links have."""

    model_config = ConfigDict(alias_generator=inside("figures"))

    transmit_bytes: int
    receive_bytes: int
    transmit_rate: Rate
    receive_rate: Rate
    connections: int
    open_connections: int


class Node(WithFigures):
    """What the nodes of both sides have."""

    id: str
    folded: int = Field(description="Number of nodes summed up in this one; 0: it is one itself.")


class MapDeployment(Node):
    """A deployment, a set of them, or traffic without an owner."""

    kind: str = Field(description="deployment, shared, unattributed, internal, pending or others.")
    name: Text
    reason: Text = Field(description="Why there is no owner; else empty.")
    deployments: list[DeploymentName] = Field(validation_alias="owners")
    labels: dict[Text, Text]


class MapPeer(Node):
    """A peer."""

    peer: Text
    protocol: Text


class MapLink(WithFigures):
    """Traffic between two nodes, by their ids."""

    deployment: str
    peer: str
    change: str = Field(description="new or gone, in a comparison; else empty.")
    before: Figures | None = Field(description="Figures of the earlier window; null without a comparison.")


class TrafficMap(Answer):
    """Deployments, peers and the links between them. Each has the same sums, exactly."""

    from_: Time = Field(
        validation_alias="since",
        serialization_alias="from",
        description="Start of the window; live: of the time that the rates are of, null before there are rates.",
    )
    to: Time = Field(validation_alias="until", description="End of that time: when the counters were read.")
    live: bool
    deployments: list[MapDeployment] = Field(description="The largest first, then those without an owner.")
    peers: list[MapPeer]
    links: list[MapLink]
    total: Figures
    namespaces: list[Text] = Field(description="All namespaces with traffic, at most 200.")
    new: int = Field(description="Pairs of deployment and peer in the later window only.")
    gone: int = Field(description="Pairs in the earlier window only.")
    counts: Text = Field(description="From the store of a fleet: ip or payload, what the bytes are; else empty.")
    incomplete: Incomplete
