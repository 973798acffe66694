"""What is degraded and how to mend it, in sentences for people: from the status."""

from __future__ import annotations

from collections.abc import Iterator

from flowmap.model.status import StatusView

NEARLY_FULL = 0.9
"""Share of ``collect.max_flows`` from which on the table counts as nearly full."""
SKEW = 60.0
"""Seconds by which the clocks may differ: the control plane refuses requests that are signed later."""


def problems(status: StatusView) -> Iterator[str]:
    """One sentence for each problem, the gravest first."""
    if not status.conserved:
        yield "Bytes do not add up; this is a defect of flowmap: report it with a recording (flowmap run --record)."
    if not status.ready:
        yield "Not ready: the first full read is not done."
    for source in status.sources:
        if source.error:
            yield f"Source {source.name}: {source.error}"
        elif not source.stats.up:
            yield f"Source {source.name} is down."
        for note in source.stats.notes.values():
            if note != source.error:
                yield f"Source {source.name}: {note}"
    yield from _control_plane(status)
    yield from _files(status)
    yield from _shared(status)
    flows = status.flows
    if flows.limit and flows.tracked >= NEARLY_FULL * flows.limit:
        yield f"The flow table is nearly full ({flows.tracked:,} of {flows.limit:,}); raise collect.max_flows."


def _files(status: StatusView) -> Iterator[str]:
    if status.history is not None and (status.history.notes or not status.history.up):
        yield f"History: {status.history.notes or 'the file cannot be written'}"
    if status.history is not None and status.history.flows_lost:
        yield f"History: {status.history.flows_lost:,} flows are missing in the file."
    if status.configuration is not None and not status.configuration.last_reload_successful:
        yield f"The last reload was rejected: {status.configuration.last_error or 'see the log'}"
    if status.recording is not None and status.recording.ended not in ("", "stopped"):
        yield f"The recording ended: {status.recording.ended}"


def _shared(status: StatusView) -> Iterator[str]:
    fleet, store = status.fleet, status.store
    if fleet is not None and fleet.error:
        cost = "" if fleet.up else "; until the server answers, this host calls at control_plane.rate / fleet.size"
        yield f"Fleet: {fleet.error}{cost}."
    if store is not None and store.error:
        yield f"ClickHouse: {store.error}; {store.flows_waiting:,} flows wait in the history file."
    if store is not None and store.flows_lost:
        yield f"ClickHouse: {store.flows_lost:,} flows will never be sent."


def _control_plane(status: StatusView) -> Iterator[str]:
    control = status.control_plane
    if control.breaker_open:
        yield f"Calls to the control plane are suspended: {control.questions.last_error or 'see the log'}"
    if control.clock_skew_seconds is not None and abs(control.clock_skew_seconds) > SKEW:
        yield f"The control plane's clock differs by {control.clock_skew_seconds:.0f} s; set this host's clock."
    if control.catalog is not None and control.catalog.error:
        yield f"Deployments cannot be listed: {control.catalog.error}"
    if control.catalog is not None and control.catalog.suspicious:
        yield f"The last listing lost more than half of the deployments of {control.catalog.suspicious}."
    waiting = status.attribution.pending_for
    if waiting.budget:
        yield f"{waiting.budget:,} flows wait for a call; raise control_plane.rate if the control plane allows it."
    if waiting.outage:
        yield f"{waiting.outage:,} flows wait because the control plane does not answer."
    if status.attribution.hint:
        yield status.attribution.hint
