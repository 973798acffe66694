"""Families of the page other than traffic series: conservation, tables, sources, descriptions of deployments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from flowmap.export.delays import BOUNDS, DelayCounts
from flowmap.export.labels import label_text, quoted
from flowmap.export.metrics.definitions import BY_NAME
from flowmap.export.metrics.metric import Metric
from flowmap.export.metrics.sources import SOURCES, SourceMetric
from flowmap.export.snapshot import Snapshot
from flowmap.model.deployment import DeploymentInfo, Owner
from flowmap.model.source import SourceReport

Sample = tuple[str, int | float]
"""Label text and value of one line."""


def small_families(snapshot: Snapshot, label_names: Mapping[str, str]) -> Iterator[tuple[Metric, list[Sample]]]:
    """Each family with its samples, in the order of the page; a family without samples is left out of the page.

    ``label_names``: from deployment label to label name of flowmap_deployment_info.
    """
    families = {
        **_descriptions(snapshot.deployments, label_names),
        **_conservation(snapshot),
        **_tables(snapshot),
        **_sources(snapshot),
        **_catalog(snapshot),
        **_recording(snapshot),
        **_history(snapshot),
        **_store(snapshot),
        **_fleet(snapshot),
        **_findings(snapshot),
    }
    for name, samples in families.items():
        yield BY_NAME[name], samples


def _sample(value: int | float, **labels: str) -> Sample:
    return label_text([(name, quoted(label)) for name, label in labels.items()]), value


def _by_reason(counts: Mapping[str, int], **labels: str) -> list[Sample]:
    return [_sample(count, **labels, reason=reason) for reason, count in sorted(counts.items())]


def _conservation(snapshot: Snapshot) -> dict[str, list[Sample]]:
    expired = snapshot.series_table.expired
    counters = {
        "flowmap_observed_transmit_bytes_total": snapshot.observed_transmit_bytes,
        "flowmap_observed_receive_bytes_total": snapshot.observed_receive_bytes,
        "flowmap_ignored_bytes_total": snapshot.ignored_bytes,
    }
    observed = {
        name: [_sample(value, source=snapshot.source)] if snapshot.source else [] for name, value in counters.items()
    }
    return observed | {
        "flowmap_pending_transmit_bytes": [_sample(snapshot.pending_transmit_bytes)],
        "flowmap_pending_receive_bytes": [_sample(snapshot.pending_receive_bytes)],
        "flowmap_expired_transmit_bytes_total": [_sample(expired.transmit)],
        "flowmap_expired_receive_bytes_total": [_sample(expired.receive)],
    }


def _tables(snapshot: Snapshot) -> dict[str, list[Sample]]:
    series_table = snapshot.series_table
    return {
        "flowmap_open_flows": [_sample(snapshot.open_flows)],
        "flowmap_pending_flows": [_sample(snapshot.pending_flows)],
        "flowmap_attribution_delay_seconds": _delays(snapshot.delays),
        "flowmap_counters_age_seconds": [] if snapshot.counter_age is None else [_sample(snapshot.counter_age)],
        "flowmap_flows_limit": [_sample(snapshot.flows_limit)],
        "flowmap_flows_shed_total": _by_reason(snapshot.shed),
        "flowmap_flows_ended_unseen_total": [_sample(snapshot.flows_ended_unseen)],
        "flowmap_flows_unpaired_total": [_sample(snapshot.flows_unpaired)],
        "flowmap_addresses_shared": [_sample(snapshot.addresses_shared)],
        "flowmap_workloads_dropped_total": _workloads_dropped(snapshot),
        "flowmap_series": [_sample(series_table.count)],
        "flowmap_series_limit": [_sample(series_table.limit)],
        "flowmap_series_folded_total": [_sample(series_table.folded)],
        "flowmap_contradictions_total": [_sample(snapshot.contradictions)],
        "flowmap_continuity_clients": [_sample(snapshot.continuity.clients)],
        "flowmap_continuity_connections_total": [_sample(snapshot.continuity.connections)],
        "flowmap_continuity_questions_saved_total": [_sample(snapshot.continuity.questions)],
    }


def _workloads_dropped(snapshot: Snapshot) -> list[Sample]:
    tables = Counter(flows=snapshot.workloads_dropped)
    for source in snapshot.sources:
        tables.update(source.stats.workloads_dropped)
    return [_sample(number, table=table) for table, number in sorted(tables.items())]


def _delays(delays: Mapping[str, DelayCounts]) -> list[Sample]:
    samples: list[Sample] = []
    for state, delay in sorted(delays.items()):
        bounds = (*map(str, BOUNDS), "+Inf")
        for bound, count in zip(bounds, delay.counts, strict=True):
            samples.append(_part("_bucket", count, state=state, le=bound))
        samples += [_part("_sum", delay.seconds, state=state), _part("_count", delay.counts[-1], state=state)]
    return samples


def _part(suffix: str, value: int | float, **labels: str) -> Sample:
    """A sample of a histogram: its name has a suffix."""
    text, _ = _sample(value, **labels)
    return suffix + text, value


def _sources(snapshot: Snapshot) -> dict[str, list[Sample]]:
    return {
        one.metric.name: [sample for source in snapshot.sources for sample in _of_source(one, source)]
        for one in SOURCES
    }


def _of_source(one: SourceMetric, source: SourceReport) -> Iterator[Sample]:
    labels = {"source": source.facts.name} if "source" in one.metric.labels else {}
    value = one.value(source)
    if isinstance(value, Mapping):
        for key, number in sorted(value.items()):
            yield _sample(int(number), **labels, **{one.metric.labels[-1]: key})
    elif value is not None:
        yield _sample(value, **labels)


def _catalog(snapshot: Snapshot) -> dict[str, list[Sample]]:
    catalog = snapshot.catalog
    if catalog is None:
        return {}
    listed = catalog.succeeded_at
    return {
        "flowmap_catalog_deployments": [_sample(catalog.deployments)],
        "flowmap_catalog_left_out_deployments": [_sample(catalog.left_out)],
        "flowmap_catalog_suspicious": [_sample(int(catalog.suspicious))],
        "flowmap_catalog_last_success_timestamp_seconds": [] if listed is None else [_sample(listed)],
    }


def _recording(snapshot: Snapshot) -> dict[str, list[Sample]]:
    recording = snapshot.recording
    if recording is None:
        return {}
    return {
        "flowmap_recording_active": [_sample(int(recording.active))],
        "flowmap_recording_bytes": [_sample(recording.size)],
        "flowmap_recording_ended_total": [_sample(1, reason=recording.ended)] if recording.ended else [],
    }


def _history(snapshot: Snapshot) -> dict[str, list[Sample]]:
    history = snapshot.history
    if history is None:
        return {}
    oldest = history.oldest
    return {
        "flowmap_history_up": [_sample(int(history.up))],
        "flowmap_history_flows": [_sample(history.flows)],
        "flowmap_history_flows_written_total": [_sample(history.written)],
        "flowmap_history_flows_lost_total": _by_reason(history.lost),
        "flowmap_history_flows_removed_total": _by_reason(history.removed),
        "flowmap_history_queued_flows": [_sample(history.queued)],
        "flowmap_history_intervals_written_total": [_sample(history.intervals_written)],
        "flowmap_history_intervals_lost_total": [_sample(history.intervals_lost)],
        "flowmap_history_size_bytes": [_sample(history.size)],
        "flowmap_history_limit_bytes": [_sample(history.limit)],
        "flowmap_history_oldest_timestamp_seconds": [] if oldest is None else [_sample(oldest)],
        "flowmap_history_set_aside_total": [_sample(history.set_aside)],
    }


def _store(snapshot: Snapshot) -> dict[str, list[Sample]]:
    store = snapshot.store
    if store is None:
        return {}
    oldest, complete = store.oldest, store.complete_until
    return {
        "flowmap_store_up": [_sample(int(store.up))],
        "flowmap_store_flows_sent_total": [_sample(store.sent)],
        "flowmap_store_batches_sent_total": [_sample(store.batches)],
        "flowmap_store_waiting_flows": [_sample(store.waiting)],
        "flowmap_store_oldest_waiting_timestamp_seconds": [] if oldest is None else [_sample(oldest)],
        "flowmap_store_complete_timestamp_seconds": [] if complete is None else [_sample(complete)],
        "flowmap_store_flows_lost_total": _by_reason(store.lost),
        "flowmap_store_failures_total": _by_reason(store.failures),
    }


def _fleet(snapshot: Snapshot) -> dict[str, list[Sample]]:
    fleet = snapshot.fleet
    if fleet is None:
        return {}
    shared = {  # what the server reported last is old while it cannot be used
        "flowmap_fleet_hosts": fleet.hosts,
        "flowmap_fleet_missing_hosts": fleet.missing,
        "flowmap_fleet_rate": fleet.rate,
        "flowmap_fleet_queued_questions": fleet.queued,
        "flowmap_fleet_oldest_question_seconds": fleet.oldest,
    }
    return {
        "flowmap_fleet_up": [_sample(int(fleet.up))],
        "flowmap_fleet_subscribed": [_sample(int(fleet.told and fleet.up))],
        "flowmap_fleet_lost_messages_total": [_sample(fleet.lost_messages)],
        **{name: [_sample(value)] if fleet.up else [] for name, value in shared.items()},
        "flowmap_fleet_waiting_questions": [_sample(fleet.waiting)],
        "flowmap_fleet_calls_saved_total": [_sample(fleet.saved)],
        "flowmap_fleet_own_share_calls_total": [_sample(fleet.local_calls)],
        "flowmap_fleet_failures_total": _by_reason(fleet.failures),
        "flowmap_fleet_refused_total": _by_reason(fleet.refused),
    }


def _findings(snapshot: Snapshot) -> dict[str, list[Sample]]:
    findings = snapshot.findings
    if findings is None:
        return {}
    stale = sorted(findings.stale.items())
    return {
        "flowmap_stale_connections": [
            _sample(count, **_of_owners(owners), reason=reason) for (owners, reason), count in stale
        ],
        "flowmap_unexpected_peers": [
            _sample(count, **_of_owners(owners), finding=kind.replace(" ", "_"))
            for (owners, kind), count in sorted(findings.unexpected.items())
        ],
    }


def _of_owners(owners: Sequence[Owner]) -> dict[str, str]:
    """Labels of a deployment; of a set of them, with commas between."""
    fields = {"namespace": "namespace", "deployment_id": "deployment_id", "deployment": "name"}
    return {label: ",".join(dict.fromkeys(getattr(owner, name) for owner in owners)) for label, name in fields.items()}


def _descriptions(deployments: tuple[DeploymentInfo, ...], label_names: Mapping[str, str]) -> dict[str, list[Sample]]:
    """Info metrics. Equal labels give one line, since Prometheus rejects a page with duplicate lines."""
    infos: dict[str, int] = {}
    jobs_by_state: dict[str, int] = {}
    jobs: dict[str, int] = {}
    for info in _newest(deployments):
        infos.setdefault(_info_text(info, label_names), 1)
        own = {"namespace": info.owner.namespace, "deployment_id": info.owner.deployment_id}
        for state, count in sorted(info.jobs_by_state.items()):
            jobs_by_state.setdefault(_sample(count, **own, state=state)[0], count)
        for job in info.jobs:
            jobs.setdefault(_sample(1, **own, job_id=job.job_id, state=job.status)[0], 1)
    return {
        "flowmap_deployment_info": list(infos.items()),
        "flowmap_deployment_jobs": list(jobs_by_state.items()),
        "flowmap_job_info": list(jobs.items()),
    }


def _newest(deployments: tuple[DeploymentInfo, ...]) -> list[DeploymentInfo]:
    """Each deployment once, as it was last seen. A renamed deployment may be listed under both names."""
    newest: dict[tuple[str, str, str], DeploymentInfo] = {}
    for info in deployments:
        identity = info.owner[:3]
        if identity not in newest or info.seen_at >= newest[identity].seen_at:
            newest[identity] = info
    return list(newest.values())


def _info_text(info: DeploymentInfo, label_names: Mapping[str, str]) -> str:
    fixed = {
        "namespace": info.owner.namespace,
        "workspace": info.owner.workspace,
        "deployment_id": info.owner.deployment_id,
        "deployment": info.owner.name,
        "execution_mode": info.execution_mode,
        "engine_version": info.engine_version,
        "creator": info.creator,
    }
    chosen = {name: info.labels.get(key, "") for key, name in label_names.items()}
    return label_text([(name, quoted(value)) for name, value in (fixed | chosen).items()])
