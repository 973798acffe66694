"""Values of ``attribute.view`` as the models of the HTTP API: a function a noun, no policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic.alias_generators import to_camel

from flowmap.model import deployment as deployment_model
from flowmap.model import explanation, views
from flowmap.model import status as status_model
from flowmap.model.address import Endpoint
from flowmap.model.source import SourceStatus
from flowmap.serve.api.models import (
    AskedQuestion,
    Attribution,
    AttributionStatus,
    Contradiction,
    Deployment,
    DeploymentName,
    Deployments,
    DeploymentTraffic,
    Evidence,
    Explanation,
    Flow,
    FlowEndpoint,
    Flows,
    Job,
    Lifetime,
    PeerChanges,
    Peers,
    PeerSeen,
    PeerTraffic,
    PeerWindow,
    Reading,
    ReceivedAnswer,
    Source,
    Status,
    Traffic,
    Translated,
    Window,
    encodable,
    rfc3339,
)


def deployment_name(owner: deployment_model.Owner) -> DeploymentName:
    return DeploymentName(
        workspace=owner.workspace, namespace=owner.namespace, deployment_id=owner.deployment_id, name=owner.name
    )


def deployment(info: deployment_model.DeploymentInfo) -> Deployment:
    return Deployment.model_validate(_deployment_fields(info))


def evidence(piece: views.Evidence) -> Evidence:
    return Evidence(
        shape=piece.shape,
        confidence=piece.confidence,
        asked_at=rfc3339(piece.asked_at),
        answered_at=rfc3339(piece.answered_at),
        origin=piece.origin,
        rule=piece.rule,
        owners=[deployment_name(owner) for owner in piece.owners],
        error=piece.error,
    )


def flow(seen: views.FlowView) -> Flow:
    return Flow(
        protocol=seen.protocol,
        client=_end(seen.client),
        server=_end(seen.server),
        translated=Translated(client=_end(seen.translated[0]), server=_end(seen.translated[1]))
        if seen.translated
        else None,
        started_at=rfc3339(seen.started_at),
        ended_at=rfc3339(seen.ended_at),
        transmit_bytes=seen.transmit_bytes,
        receive_bytes=seen.receive_bytes,
        transmit_packets=seen.transmit_packets,
        receive_packets=seen.receive_packets,
        state=seen.state,
        deployments=[deployment(info) for info in seen.deployments],
        orientation="guessed" if seen.guessed else "seen",
        source=seen.source,
    )


def attribution(answer: views.AttributionView) -> Attribution:
    return Attribution(
        state=answer.state,
        deployments=[deployment(info) for info in answer.deployments],
        evidence=[evidence(piece) for piece in answer.evidence],
        flow=flow(answer.flow) if answer.flow else None,
        cause=answer.cause,
        explanation=_explanation(answer.explanation) if answer.explanation else None,
    )


def _explanation(chain: explanation.Explanation) -> Explanation:
    return Explanation(
        seen_by=list(chain.seen_by),
        orientation=chain.orientation,
        client=_end(chain.client),
        service=_end(chain.service),
        endpoint_reason=chain.endpoint_reason,
        life=Lifetime.model_validate({name: rfc3339(getattr(chain.life, name)) for name in Lifetime.model_fields}),
        questions=[_asked(question) for question in chain.questions],
        combination=chain.combination,
        decided_at=rfc3339(chain.decided_at),
        jobs=chain.jobs,
    )


def _asked(question: explanation.AskedQuestion) -> AskedQuestion:
    return AskedQuestion(
        shape=question.shape,
        workspace=question.workspace,
        namespace=question.namespace,
        source=_end(question.source) if question.source else None,
        destination=_end(question.destination) if question.destination else None,
        answers=[
            ReceivedAnswer(
                asked_at=rfc3339(answer.asked_at),
                answered_at=rfc3339(answer.answered_at),
                owners=[deployment_name(owner) for owner in answer.owners],
                relation=answer.relation,
                decisive=answer.decisive,
            )
            for answer in question.answers
        ],
        rule=question.rule,
        owners=[deployment_name(owner) for owner in question.owners],
        confirmed_from=rfc3339(question.confirmed_from),
        confirmed_until=rfc3339(question.confirmed_until),
        error=question.error,
    )


def flows(page: views.FlowPage) -> Flows:
    return Flows(flows=[flow(seen) for seen in page.flows], next_cursor=page.next_cursor)


def peers(seen: Iterable[views.PeerTraffic]) -> Peers:
    return Peers(peers=[peer_traffic(peer) for peer in seen])


def deployments(seen: Iterable[views.DeploymentView]) -> Deployments:
    return Deployments(deployments=[deployment_traffic(one) for one in seen])


def peer_traffic(peer: views.PeerTraffic) -> PeerTraffic:
    return PeerTraffic(
        peer=peer.peer,
        protocol=peer.protocol,
        traffic=_traffic(peer.traffic),
        deployments=[deployment_name(owner) for owner in peer.owners],
    )


def peer_window(window: views.PeerWindow) -> PeerWindow:
    peers = [_peer_seen(peer) for peer in window.peers]
    return PeerWindow.model_validate({"from": rfc3339(window.since), "to": rfc3339(window.until), "peers": peers})


def peer_changes(changes: views.PeerChanges) -> PeerChanges:
    return PeerChanges(
        before=_window(changes.before),
        now=_window(changes.now),
        new=[_peer_seen(peer) for peer in changes.new],
        vanished=[_peer_seen(peer) for peer in changes.vanished],
    )


def deployment_traffic(seen: views.DeploymentView) -> DeploymentTraffic:
    return DeploymentTraffic.model_validate(
        _deployment_fields(seen.info)
        | {
            "packages": list(seen.info.packages),
            "traffic": _traffic(seen.traffic),
            "peers": [peer_traffic(peer) for peer in seen.peers],
            "shared": [peer_traffic(peer) for peer in seen.shared],
        }
    )


def status(state: status_model.StatusView) -> Status:
    """``control_plane`` values whose key ends in ``_at`` are seconds since the epoch and become times."""
    return Status(
        version=state.version,
        started_at=rfc3339(state.started_at),
        ready=state.ready,
        sources=[_source(source) for source in state.sources],
        control_plane=_facts(state.control_plane),
        flows={to_camel(name): count for name, count in state.flows.items()},
        bytes={name: dict(counts) for name, counts in state.bytes.items()},
        conserved=state.conserved,
        attribution=_attribution_status(state.attribution),
        configuration=_facts(state.configuration),
        history=None if state.history is None else _facts(state.history),
        recording=None if state.recording is None else _facts(state.recording),
    )


def _attribution_status(report: status_model.AttributionReport) -> AttributionStatus:
    return AttributionStatus(
        readings=[Reading.model_validate(reading._asdict()) for reading in report.readings],
        contradictions=[_contradiction(one) for one in report.contradictions],
        tied_pairs=report.tied_pairs,
        ties_waiting=report.ties_waiting,
        hint=report.hint,
    )


def _contradiction(one: status_model.Contradiction) -> Contradiction:
    return Contradiction(
        question=one.question,
        namespace=one.namespace,
        asked_at=rfc3339(one.asked_at),
        answered_at=rfc3339(one.answered_at),
        attributed=[deployment_name(owner) for owner in one.attributed],
        answered=[deployment_name(owner) for owner in one.answered],
        flows=one.flows,
        client=_end(one.flow[0]) if one.flow else None,
        server=_end(one.flow[1]) if one.flow else None,
    )


def _window(window: views.PeerWindow) -> Window:
    return Window.model_validate({"from": rfc3339(window.since), "to": rfc3339(window.until)})


def _peer_seen(peer: views.PeerSeen) -> PeerSeen:
    return PeerSeen(
        peer=peer.peer,
        protocol=peer.protocol,
        traffic=_traffic(peer.traffic),
        deployments=[deployment_name(owner) for owner in peer.owners],
        first_seen=rfc3339(peer.first_seen),
        last_seen=rfc3339(peer.last_seen),
    )


def _end(endpoint: Endpoint) -> FlowEndpoint:
    return FlowEndpoint(ip=str(endpoint.address), port=endpoint.port)


def _deployment_fields(info: deployment_model.DeploymentInfo) -> dict[str, object]:
    owner = info.owner
    return {
        "workspace": owner.workspace,
        "namespace": owner.namespace,
        "deployment_id": owner.deployment_id,
        "name": owner.name,
        "jobs": [_job(job) for job in info.jobs],
        "job_selection": info.job_selection,
        "jobs_by_state": dict(info.jobs_by_state),
        "labels": dict(info.labels),
        "execution_mode": info.execution_mode,
        "engine_version": info.engine_version,
        "creator": info.creator,
    }


def _job(job: deployment_model.Job) -> Job:
    return Job(job_id=job.job_id, status=job.status, started_at=rfc3339(job.started_at), ended_at=rfc3339(job.ended_at))


def _traffic(traffic: views.Traffic) -> Traffic:
    return Traffic(
        transmit_bytes=traffic.transmit_bytes,
        receive_bytes=traffic.receive_bytes,
        transmit_packets=traffic.transmit_packets,
        receive_packets=traffic.receive_packets,
        connections=traffic.connections,
        open_connections=traffic.open_connections,
    )


def _source(source: SourceStatus) -> Source:
    """Of the statistics those that :class:`Source` names."""
    values = {name: getattr(source.stats, name, None) for name in Source.model_fields}
    return Source.model_validate(
        values | {"name": source.name, "error": source.error, "role": source.role, "why": source.why}
    )


def _facts(values: Mapping[str, object]) -> dict[str, str | int | float | bool | None]:
    return {to_camel(name): _fact(name, value) for name, value in values.items()}


def _fact(name: str, value: object) -> str | int | float | bool | None:
    if name.endswith("_at") and isinstance(value, int | float):
        return rfc3339(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(encodable(str(value)))
