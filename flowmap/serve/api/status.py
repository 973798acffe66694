"""The answer of /api/v1/status as pydantic models, read from the values of ``flowmap.model.status``."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from flowmap.model.status import FlowCounts
from flowmap.serve.api.models import Answer, DeploymentName, FlowEndpoint, Text, Time, inside


class Source(Answer):
    """State of one source of flows."""

    model_config = ConfigDict(alias_generator=inside("stats"))

    name: Text
    up: bool
    records: int
    overruns: int
    lost: dict[Text, int]
    resyncs: dict[Text, int]
    notes: dict[Text, Text] = Field(description="Active degradations, each with its cost and remedy.")
    error: Text | None
    role: Text = Field(description="traffic: its records are counted; health: it measures flows of another source.")
    why: Text = Field(description="Why it was chosen; empty if the configuration names it.")
    exceptional_packets: dict[Text, int] = Field(
        description="Packets handled specially, by reason, as in flowmap_source_exceptional_packets_total."
    )


class Contradiction(Answer):
    """An answer that denies an attribution, which stays unchanged."""

    question: Text = Field(description="Shape and endpoint of the question.")
    namespace: Text
    asked_at: Time
    answered_at: Time
    attributed: list[DeploymentName] = Field(description="Owners of the flows.")
    answered: list[DeploymentName] = Field(description="Owners in the answer.")
    flows: int = Field(description="Open flows whose owners it denies; 0: an ownership interval only.")
    client: Annotated[FlowEndpoint | None, BeforeValidator(lambda flow: flow and flow[0])] = Field(
        validation_alias="flow", description="Client endpoint of one of the flows."
    )
    server: Annotated[FlowEndpoint | None, BeforeValidator(lambda flow: flow and flow[1])] = Field(
        validation_alias="flow"
    )


class ShapeReport(Answer):
    """Counts of the questions of one shape since the start."""

    shape: Text
    asked: int
    answered: int
    named: int = Field(description="Answers that named a deployment.")
    never_names: bool = Field(
        description="Whether the shape never names a deployment, so that its questions are repeated less often."
    )


class PendingFor(Answer):
    """Pending flows by what they wait for."""

    answer: int = Field(description="An answer of the control plane.")
    budget: int = Field(description="An answer, while control_plane.rate allows too few calls.")
    outage: int = Field(description="An answer, while the control plane does not answer.")
    proof: int = Field(description="Traffic of the client, as proof that it was there when the answer was given.")


class AttributionStatus(Answer):
    """State of the attribution."""

    shapes: list[ShapeReport]
    contradictions: list[Contradiction] = Field(description="The newest 100, the latest first.")
    narrowing_pairs: int = Field(description="Pairs of endpoints with flows that have several possible owners.")
    narrowing_waiting: int = Field(
        description="Questions about both endpoints of such pairs that were due and got no call."
    )
    hint: Text | None = Field(description="Advice about the settings, from the answers so far.")
    pending_for: PendingFor = Field(description="Pending flows by what they wait for.")


class CatalogStatus(Answer):
    """State of the deployment catalog."""

    deployments: int
    left_out: int = Field(description="Deployments left out because the catalog is full.")
    listed_at: Time = Field(description="When every namespace had last been listed completely.")
    age_seconds: float | None
    suspicious: Text | None = Field(
        description="Namespaces whose last listing lost more than half of the deployments and is not applied yet."
    )
    error: Text | None = Field(description="Cause of the last failure; null if the last listing succeeded.")


class ControlPlaneStatus(Answer):
    """State of the control plane as the daemon sees it, and of the questions to it."""

    model_config = ConfigDict(alias_generator=inside("questions"))

    endpoint: Text
    answers: int = Field(description="Questions answered since the start.")
    last_answer_at: Time
    last_error: Text | None
    unreadable_elements: int = Field(description="Elements of answers that could not be read.")
    breaker_open: bool = Field(description="Whether calls are suspended after failures.")
    clock_skew_seconds: float | None = Field(
        description="Seconds by which the control plane's clock is ahead of this host's."
    )
    questions_cached: int
    questions_waiting: int = Field(description="Questions that are due and not yet asked.")
    catalog: CatalogStatus | None


class ByteCount(Answer):
    """Bytes in both directions."""

    transmit: int
    receive: int


class ByteTotals(Answer):
    """All counted bytes: observed is the sum of the others, exactly, in both directions."""

    observed: ByteCount
    attributed: ByteCount
    shared: ByteCount
    unattributed: ByteCount
    internal: ByteCount = Field(description="Of connections that belong to clusters of open-source Flink themselves.")
    expired: ByteCount
    pending: ByteCount


class ConfigurationStatus(Answer):
    """The running configuration, and the result of the last reload."""

    pid: int
    file: Text | None = Field(description="null if all settings are from the environment.")
    reloads: int
    last_reload_successful: bool
    applied_at: Time = Field(description="When the running configuration was applied.")
    last_error: Text | None = Field(description="Why the last reload was rejected; null if it was applied.")


class RecordingStatus(Answer):
    """Where flowmap run --record writes."""

    path: Text
    size: int = Field(description="Bytes written.")
    active: bool
    ended: Text = Field(description="Why it ended: stopped, size, disk, behind or defect; empty while it runs.")


class HistoryStatus(Answer):
    """State of the history file."""

    up: bool = Field(description="Whether the file can be written.")
    flows: int
    oldest_at: Time = Field(description="When the oldest flow ended.")
    flows_written: int
    flows_lost: int
    flows_queued: int
    size_bytes: int
    limit_bytes: int
    files_set_aside: int = Field(description="Files of another version, or damaged ones, that were renamed.")
    blocks_unreadable: int
    notes: Text | None = Field(description="What is wrong, in one line; null if nothing is.")


class Status(Answer):
    """The daemon's own state."""

    version: str
    started_at: Time
    ready: bool
    sources: list[Source]
    control_plane: ControlPlaneStatus
    flows: FlowCounts
    bytes: ByteTotals
    conserved: bool = Field(description="Whether observed bytes equal the sum of the others, exactly.")
    attribution: AttributionStatus
    configuration: ConfigurationStatus | None
    recording: RecordingStatus | None = Field(description="null without flowmap run --record.")
    history: HistoryStatus | None = Field(description="null without history.path.")
