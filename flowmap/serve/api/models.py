"""The answers of /api/v1 as pydantic models: camelCase like the control plane's API, times in RFC 3339 (UTC).

Each field reads the attribute of its name from a value of ``flowmap.model``; ``validation_alias`` names another one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, AliasGenerator, AliasPath, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from flowmap.model.deployment import JobSelection, State
from flowmap.model.explanation import Relation


def rfc3339(seconds: float | None) -> str | None:
    """Seconds since the epoch as ``2026-01-31T12:00:00.000Z``; None for None, and past year 9999."""
    if seconds is None:
        return None
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encodable(text: object) -> object:
    """Lone surrogates, which JSON strings can hold and UTF-8 cannot, become ``?``."""
    return text.encode("utf-8", "replace").decode() if isinstance(text, str) else text


Text = Annotated[str, BeforeValidator(encodable)]
Time = Annotated[str | None, BeforeValidator(rfc3339), Field(json_schema_extra={"format": "date-time"})]
"""Seconds since the epoch, written in RFC 3339."""


def inside(*holders: str) -> AliasGenerator:
    """Fields that a value may also keep in these attributes, one level down each."""
    paths = [holder.split(".") for holder in holders]
    return AliasGenerator(
        validation_alias=lambda name: AliasChoices(name, *(AliasPath(*path, name) for path in paths)),
        serialization_alias=to_camel,
    )


Incomplete = Annotated[
    list[Text], Field(description="What is missing in the answer, a line each: hosts of a fleet that are behind.")
]


class Answer(BaseModel):
    """Base of all answers. Names are snake_case here and camelCase in JSON."""

    model_config = ConfigDict(
        # A daemon that is only scraped needs no validators of answers.
        alias_generator=AliasGenerator(serialization_alias=to_camel),
        from_attributes=True,
        frozen=True,
        defer_build=True,
    )

    @classmethod
    def of(cls, value: object) -> Self:
        """The answer for a value of ``flowmap.model``."""
        return cls.model_validate(value)

    def as_json(self) -> dict[str, Any]:
        """The answer as a JSON object."""
        return self.model_dump(mode="json", by_alias=True)


class Job(Answer):
    """One job instance of a deployment; times by the control plane's clock."""

    job_id: Text
    status: Text
    started_at: Time
    ended_at: Time = Field(description="null while the job runs, or if its end is not known.")


class DeploymentName(Answer):
    """The identity and name of a deployment."""

    model_config = ConfigDict(alias_generator=inside("owner", "info", "info.owner"))

    workspace: Text
    namespace: Text
    deployment_id: Text
    name: Text


class Deployment(DeploymentName):
    """A deployment as the control plane last described it."""

    jobs: list[Job]
    job_selection: JobSelection = Field(
        description="How the jobs were selected. unlisted: not listed yet. latest: jobs that have not ended, or else "
        "the newest one. all: every job that is kept. For a flow: atStart, jobs that may have run when it began; or "
        "running, jobs that had not ended when last listed, if the start or the jobs are not known well enough."
    )
    jobs_by_state: dict[Text, int] = Field(description="Number of jobs by state; empty if the answer had none.")
    labels: dict[Text, Text]
    execution_mode: Text
    engine_version: Text
    creator: Text


class Evidence(Answer):
    """One answer of the control plane that an attribution is based on."""

    shape: Text = Field(description="client, sink, source, link or exact.")
    confidence: Text = Field(description="exact, strong or candidate.")
    asked_at: Time
    answered_at: Time
    origin: Text = Field(
        description="live, cached, continuity (an earlier answer: the same process has had the client's connections "
        "since), stale, history or none; for captures also catalog or assumed."
    )
    rule: Text = Field(
        description="Rule of time by which the answer counts: inside, around, grace, continuity, fast or assumed; "
        "empty: none."
    )
    owners: list[DeploymentName]
    error: Text | None = Field(description="Cause of the last failure; null if the last call returned an answer.")


class FlowEndpoint(Answer):
    """One endpoint of a connection; port 0 for protocols without ports."""

    ip: Annotated[str, BeforeValidator(str)] = Field(validation_alias="address")
    port: int


def _named(pair: tuple[object, object] | None) -> dict[str, object] | None:
    return None if pair is None else {"client": pair[0], "server": pair[1]}


class Translated(Answer):
    """The endpoints as the server sees them."""

    client: FlowEndpoint
    server: FlowEndpoint


class Local(Answer):
    """The container, unit and process that hold an endpoint on this host; null: not known, or there is none."""

    model_config = ConfigDict(alias_generator=inside("workload"))

    side: Literal["client", "server"] = Field(description="Which endpoint.")
    namespace: Text = Field(description="Network namespace of its socket; host: the daemon's own.")
    container: Text | None = Field(description="Id of the container; of nested ones, the outermost.")
    container_name: Text | None = Field(description="Name of the container in its Kubernetes pod.")
    pod: Text | None = Field(description="UID of the Kubernetes pod.")
    pod_name: Text | None = Field(description="namespace/name of the pod.")
    unit: Text | None = Field(description="systemd unit, a service or scope.")
    runtime: Text | None = Field(description="Container runtime: containerd, cri-o, docker, podman, …")
    cgroup: Text | None = Field(description="Path of its cgroup.")
    pid: int | None
    command: Text | None
    unknown: Text = Field(description="Why a part is not known; empty if every part is known or does not exist.")


class Observation(Answer):
    """What one host of a fleet counted of a flow."""

    side: Literal["client", "server"] | None = Field(description="The endpoint that the host has; null: not known.")
    host: Text
    counts: Text = Field(description="ip or payload: what the bytes are.")
    started_at: Time
    ended_at: Time
    transmit_bytes: int
    receive_bytes: int
    transmit_packets: int
    receive_packets: int
    state: State
    source: Text


class Flow(Answer):
    """One flow; transmit is from client to server."""

    protocol: str
    client: FlowEndpoint
    server: FlowEndpoint
    translated: Annotated[Translated | None, BeforeValidator(_named)] = Field(
        description="null if NAT changed no endpoint."
    )
    started_at: Time = Field(description="null if older than the daemon, unless the kernel reports it.")
    ended_at: Time
    transmit_bytes: int
    receive_bytes: int
    transmit_packets: int
    receive_packets: int
    state: State
    deployments: list[Deployment]
    orientation: Annotated[
        Literal["seen", "guessed"], BeforeValidator(lambda guessed: "guessed" if guessed else "seen")
    ] = Field(validation_alias="guessed", description="How it is known which endpoint is the client.")
    source: Text
    netns: Annotated[Text | None, BeforeValidator(lambda space: None if space is None else str(space))] = Field(
        validation_alias="namespace", description="Network namespace in which it was counted; null: the daemon's own."
    )
    local: Annotated[Local | None, BeforeValidator(lambda found: found[0] if found else None)] = Field(
        description="The client endpoint if it is on this host, otherwise the server endpoint; null if neither is."
    )
    local_server: Annotated[Local | None, BeforeValidator(lambda found: found[1] if len(found) > 1 else None)] = Field(
        validation_alias="local", description="The server endpoint, if both are on this host."
    )
    observations: list[Observation] = Field(
        description="From the store of a fleet: what each host counted. The flow has the counters of the first."
    )


class ReceivedAnswer(Answer):
    """One answer to a question."""

    asked_at: Time
    answered_at: Time
    owners: list[DeploymentName]
    relation: Relation = Field(
        description="Position in time: before the connection began, inside its life, after its end; uncertain if the "
        "call was under way at its start or end, or if it is not known yet that it was open when the answer arrived."
    )
    decisive: bool = Field(description="Whether the decision is based on this answer (the last one, if on several).")


class AskedQuestion(Answer):
    """One question of GetDeploymentsByIp that matters for a connection."""

    shape: Text
    workspace: Text = Field(description="Empty: control_plane.workspace.")
    namespace: Text
    source: FlowEndpoint | None = Field(description="srcIp and srcPort; port 0: none.")
    destination: FlowEndpoint | None = Field(description="dstIp and dstPort; port 0: none.")
    answers: list[ReceivedAnswer] = Field(description="The answers that are kept and the decisive one, oldest first.")
    rule: Text = Field(
        description="Rule of time by which an answer counts: inside, around, grace, continuity or fast; unconfirmed: "
        "no rule can hold any more; empty: the flow waits for an answer, or the decision does not use this question."
    )
    owners: list[DeploymentName] = Field(description="Owners that the question contributes.")
    confirmed_from: Time = Field(description="Start of the newest ownership interval; null for one answer.")
    confirmed_until: Time = Field(description="End of that interval.")
    error: Text | None


class Lifetime(Answer):
    """When a connection began and ended; null if not known."""

    started_after: Time
    started_by: Time
    open_until: Time = Field(description="Latest time at which it was known to be open.")
    client_seen_until: Time = Field(description="Latest time at which its client was known to exist.")
    ended_by: Time


class Explanation(Answer):
    """The whole chain from a connection to its owners."""

    seen_by: list[Text]
    orientation: Text = Field(description="How it is known which endpoint is the client.")
    client: FlowEndpoint = Field(description="The client endpoint that was asked about.")
    service: FlowEndpoint = Field(description="The service endpoint that was asked about.")
    endpoint_reason: Text = Field(description="Why these endpoints were asked about, if NAT changed one; else empty.")
    life: Lifetime
    questions: list[AskedQuestion]
    combination: Text = Field(description="How the owners of the questions combine.")
    decided_at: Time
    jobs: Text = Field(description="How the jobs beside the owners were selected.")


class Attribution(Answer):
    """The owners of a connection."""

    state: State
    deployments: list[Deployment]
    evidence: list[Evidence]
    flow: Flow | None = Field(description="The observed flow; null if there is none, or if several differ.")
    observed: bool = Field(description="Whether flowmap saw the connection; else these are owners of its endpoints.")
    cause: Text | None = Field(description="Why there is no name; null if there is one.")
    explanation: Explanation | None = Field(description="With explain=1, if the connection is in the table.")


class Attributions(Answer):
    """The owners of many connections, in the order of the request and without evidence."""

    attributions: list[Attribution]


class Flows(Answer):
    """One page of a listing."""

    flows: list[Flow]
    next_cursor: Text | None = Field(description="The cursor of the next page; null on the last page.")
    incomplete: Incomplete


class Traffic(Answer):
    """Running totals since the daemon started, as seen from the deployment."""

    transmit_bytes: int
    receive_bytes: int
    transmit_packets: int
    receive_packets: int
    connections: int
    open_connections: int


class PeerTraffic(Answer):
    """Traffic with one peer, of one deployment or of all that are listed."""

    peer: Text
    protocol: Text
    traffic: Traffic
    deployments: list[DeploymentName] = Field(validation_alias="owners")


class Health(Answer):
    """How well TCP does between a deployment and a peer."""

    retransmits: int = Field(description="Segments that this host sent again, since the daemon started.")
    round_trip_seconds: float | None = Field(
        validation_alias="round_trip",
        description="Mean smoothed round-trip time of the open connections; null if there is none with a sample.",
    )


class DeploymentPeer(PeerTraffic):
    """Traffic of one deployment with one peer."""

    health: Health | None = Field(description="null for other protocols than TCP, and without the socket table.")


class PeerSeen(Answer):
    """Traffic of a deployment with one peer in a window of time."""

    peer: Text
    protocol: Text
    traffic: Traffic = Field(description="All bytes of the flows that were open in the window.")
    deployments: list[DeploymentName] = Field(
        validation_alias="owners", description="More than one if they cannot be told apart."
    )
    first_seen: Time
    last_seen: Time
    counts: Text = Field(description="From the store of a fleet: ip or payload, what the bytes are; else empty.")


class Window(Answer):
    """A window of time."""

    from_: Time = Field(validation_alias="since", serialization_alias="from")
    to: Time = Field(validation_alias="until")


class PeerWindow(Window):
    """The peers of a deployment in a window of time."""

    peers: list[PeerSeen]
    incomplete: Incomplete
    sums_until: Time = Field(description="Earlier connections are sums, by the hour or day in which they ended.")


class PeerChanges(Answer):
    """The peers of a deployment that are new or gone between two windows of time."""

    before: Window
    now: Window
    new: list[PeerSeen] = Field(description="Peers in the later window only.")
    vanished: list[PeerSeen] = Field(description="Peers in the earlier window only.")
    incomplete: Incomplete


class DeploymentTraffic(Deployment):
    """A deployment with its traffic by peer."""

    packages: list[Text] = Field(description="URIs of the files that it consists of, without query.")
    traffic: Traffic
    peers: list[DeploymentPeer]
    shared: list[PeerTraffic] = Field(description="Traffic of this deployment and others that cannot be told apart.")


class Deployments(Answer):
    """Every deployment seen in traffic."""

    deployments: list[DeploymentTraffic]


class Peers(Answer):
    """Every peer seen in traffic."""

    peers: list[PeerTraffic]
