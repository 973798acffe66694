"""The catalog: deployments and jobs as the control plane's listings gave them. Pure.

A listing that lacks more than half of the last one is more likely a fault of the API than the removal of deployments.
It removes nothing until the loss has lasted for a grace time. New deployments, names and labels apply at once.

One thread writes. Look-ups from other threads get either the old value or the new one, never a mixture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal, NamedTuple

from flowmap.control.port import ListedDeployment
from flowmap.model.deployment import DeploymentKey, Job, Jobs

DEPLOYMENTS = 100_000
"""Deployments kept, over all namespaces. The rest is counted as left out."""

LISTED_JOBS = 10_000
"""Deployments whose jobs are kept. Beyond it, the jobs with the oldest listing are dropped."""

JOBS_EACH = 100
"""Jobs kept of one deployment: running ones first, then the newest."""

GRACE = 600.0
"""Seconds for which a listing that lost more than half is not applied."""

Verdict = Literal["applied", "incomplete", "suspicious", "confirmed"]
"""How a listing was applied. ``incomplete`` and ``suspicious`` ones remove nothing; ``confirmed``: it lost more than
half, and the loss has lasted for the grace time."""


class Scope(NamedTuple):
    """What one listing covers: a namespace of a workspace."""

    workspace: str
    namespace: str


@dataclass(frozen=True, slots=True)
class _ScopeState:
    """What is known of one scope."""

    entries: Mapping[str, ListedDeployment] = field(default_factory=dict)
    trusted: frozenset[str] = frozenset()
    """Ids of the last listing that was applied in full."""
    carried: Mapping[str, float] = field(default_factory=dict)
    """Entries that the last listing lacked, and the epoch second at which they were last listed."""
    listed_at: float | None = None
    """Epoch seconds of the last listing."""
    succeeded_at: float | None = None
    """Epoch seconds of the last complete listing."""
    suspicious_since: float | None = None
    """Monotonic seconds."""
    left_out: int = 0


class DeploymentCatalog:
    """Deployments by scope and id, and the jobs of some of them."""

    def __init__(self, scopes: Sequence[Scope], *, limit: int = DEPLOYMENTS, grace: float = GRACE) -> None:
        """``grace``: seconds for which a listing that lost more than half is not applied."""
        self.generation = 0
        """Grows with every listing."""
        self._limit = limit
        self._grace = grace
        self._scopes = dict.fromkeys(scopes, _ScopeState())
        self._jobs: dict[DeploymentKey, Jobs] = {}

    def __len__(self) -> int:
        """Number of deployments."""
        return sum(len(state.entries) for state in self._scopes.values())

    @property
    def scopes(self) -> tuple[Scope, ...]:
        return tuple(self._scopes)

    def cover(self, scopes: Iterable[Scope]) -> None:
        """Cover these scopes, too."""
        for scope in scopes:
            self._scopes.setdefault(scope, _ScopeState())

    @property
    def suspicious(self) -> tuple[Scope, ...]:
        """Scopes whose last listing lost too much to be applied yet."""
        return tuple(scope for scope, state in self._scopes.items() if state.suspicious_since is not None)

    @property
    def left_out(self) -> int:
        """Deployments that exceeded the limit."""
        return sum(state.left_out for state in self._scopes.values())

    @property
    def succeeded_at(self) -> float | None:
        """Epoch seconds of the oldest of the last complete listings; None until every scope had one."""
        times = [state.succeeded_at for state in self._scopes.values()]
        known = [time for time in times if time is not None]
        return min(known) if known and len(known) == len(times) else None

    def entries(self) -> tuple[ListedDeployment, ...]:
        """Every deployment."""
        return tuple(entry for state in self._scopes.values() for entry in state.entries.values())

    def entry(self, key: DeploymentKey) -> tuple[ListedDeployment, float] | None:
        """A deployment, and the epoch second of the listing that last had it."""
        state = self._scopes.get(Scope(key.workspace, key.namespace))
        entry = state.entries.get(key.deployment_id) if state else None
        if state is None or entry is None:
            return None
        return entry, state.carried.get(key.deployment_id, state.listed_at or 0.0)

    def jobs(self, key: DeploymentKey) -> Jobs | None:
        """The jobs of a deployment, if they were listed."""
        return self._jobs.get(key)

    def resolve_key(self, key: DeploymentKey) -> DeploymentKey:
        """The key in the catalog: a control plane may name a workspace otherwise than the configuration does.

        The workspace is the given one if the catalog covers it, else one that lists the deployment, else the first.
        """
        known = dict.fromkeys(scope.workspace for scope in self._scopes)
        keys = [key._replace(workspace=name) for name in known]
        named = (one for one in keys if one == key)
        listed = (one for one in keys if self.entry(one) is not None)
        return next(named, None) or next(listed, keys[0] if keys else key)

    def apply_listing(
        self, scope: Scope, entries: Iterable[ListedDeployment], *, complete: bool, at: float, now: float
    ) -> Verdict:
        """Apply a listing of one scope.

        ``complete``: whether no deployment is missing. ``at``: epoch seconds; ``now``: monotonic seconds.
        """
        before = self._scopes[scope]
        listed = {entry.owner.deployment_id: entry for entry in entries}
        room = self._limit - (len(self) - len(before.entries))
        left_out = max(0, len(listed) - room)
        lost = sum(identity not in listed for identity in before.trusted)
        listed = {key: _kept(before.entries.get(key), entry) for key, entry in islice(listed.items(), max(0, room))}
        since = before.suspicious_since
        verdict: Verdict = "applied"
        if not complete:
            verdict = "incomplete"
        elif 2 * lost > len(before.trusted):
            since = now if since is None else since
            verdict = "confirmed" if now - since >= self._grace else "suspicious"
        carried = {}
        partial = verdict in ("incomplete", "suspicious")
        if partial:
            missing = [key for key in before.entries if key not in listed]
            last = before.listed_at or 0.0
            carried = {key: before.carried.get(key, last) for key in missing[: max(0, room - len(listed))]}
        self._scopes[scope] = _ScopeState(
            entries=listed | {key: before.entries[key] for key in carried},
            trusted=before.trusted if partial and before.trusted else frozenset(listed),
            carried=carried,
            listed_at=at,
            succeeded_at=at if complete else before.succeeded_at,
            suspicious_since=since if partial else None,
            left_out=left_out,
        )
        self.generation += 1
        return verdict

    def apply_jobs(
        self, key: DeploymentKey, jobs: Iterable[Job], *, complete: bool, asked_at: float, skew: float | None
    ) -> None:
        """Apply a listing of the jobs of one deployment; see ``flowmap.model.deployment.Jobs``."""
        newest = sorted(jobs, key=lambda job: (not job.over, job.started_at or math.inf), reverse=True)
        kept, rest = newest[:JOBS_EACH], newest[JOBS_EACH:]
        known_from = max([_ended_at(job) for job in rest], default=-math.inf)
        self._jobs.pop(key, None)
        self._jobs[key] = Jobs(tuple(kept), asked_at, complete, known_from, skew)
        while len(self._jobs) > LISTED_JOBS:
            del self._jobs[next(iter(self._jobs))]
        self.generation += 1


def _kept(old: ListedDeployment | None, new: ListedDeployment) -> ListedDeployment:
    """``new``, with what its listing lacks from ``old``; ``old`` itself if they are equal."""
    if old is None:
        return new
    if new.labels is None or new.jobs_by_state is None:
        new = replace(
            new,
            labels=old.labels if new.labels is None else new.labels,
            jobs_by_state=old.jobs_by_state if new.jobs_by_state is None else new.jobs_by_state,
        )
    return old if new == old else new


def _ended_at(job: Job) -> float:
    return math.inf if job.ended_at is None else float(job.ended_at)
