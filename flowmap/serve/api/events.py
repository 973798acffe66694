"""The events of /api/v1/stream as pydantic models."""

from __future__ import annotations

from pydantic import Field

from flowmap.export.snapshot import Snapshot
from flowmap.model.status import StatusView
from flowmap.serve.api.map import TrafficMap
from flowmap.serve.api.models import Answer, Flow, Text, rfc3339


class MapEvent(TrafficMap):
    """The map. The first event has all of it, later ones the nodes and links that changed."""

    whole: bool = Field(description="Whether it has all nodes and links.")
    deployment_ids: list[str] = Field(description="The deployments on the map now, in order.")
    peer_ids: list[str] = Field(description="The peers on the map now, in order.")
    gone_links: list[tuple[str, str]] = Field(description="Links that are not on the map any more, by their ids.")


class FlowEvent(Answer):
    """Flows that changed. The first event has the newest that pass."""

    flows: list[Flow]
    left_out: int = Field(description="Further flows that changed.")
    gone: list[Flow] = Field(description="Flows of earlier events that are not listed any more, as last reported.")


class StatusEvent(Answer):
    """What a reader must know beside the figures: how late and how complete they are."""

    version: str
    started_at: str | None = Field(description="Counters began at zero then.")
    ready: bool
    source: Text
    counter_age_seconds: float | None = Field(description="Age of the counters of open flows.")
    open_flows: int
    pending_flows: int
    lost: int = Field(description="Records that the sources are known to have lost, since the start.")
    overruns: int = Field(description="Overruns of the kernel's event buffer; how many events were lost is not known.")
    shed: int = Field(description="Flows evicted or refused because the flow table was full.")
    questions_waiting: int = Field(description="Questions to the control plane that are due and not yet asked.")
    history: bool = Field(description="Whether windows of the past can be asked for.")
    problems: list[Text] = Field(description="What is degraded, each with its remedy; as in /api/v1/status.")

    @classmethod
    def made_from(cls, status: StatusView, snapshot: Snapshot) -> StatusEvent:
        """The event for a status and the snapshot it is of."""
        age = snapshot.counter_age
        return cls(
            version=status.version,
            started_at=rfc3339(status.started_at),
            ready=status.ready,
            source=snapshot.source,
            counter_age_seconds=None if age is None else round(age, 1),
            open_flows=snapshot.open_flows,
            pending_flows=snapshot.pending_flows,
            lost=sum(sum(source.stats.lost.values()) for source in status.sources),
            overruns=sum(source.stats.overruns for source in status.sources),
            shed=sum(snapshot.shed.values()),
            questions_waiting=snapshot.questions.questions_waiting,
            history=status.history is not None,
            problems=list(status.problems),
        )


class MissedEvent(Answer):
    """The reader was too slow: it did not get the updates of some seconds. What follows is complete again."""

    missed: int = Field(description="Updates left out since the stream began.")


class Event(Answer):
    """One event; exactly one field is set. On the wire its name is the ``event`` line, and its value the ``data``."""

    map: MapEvent | None = None
    flows: FlowEvent | None = None
    status: StatusEvent | None = None
    missed: MissedEvent | None = None
