"""Keeps the catalog fresh: reads the deployments of every namespace, and the jobs of deployments seen in traffic.

It makes one call at a time, each within the budget of calls, and none while the control plane rests.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from flowmap.control.catalog.catalog import GRACE, DeploymentCatalog, Scope
from flowmap.control.clock import SYSTEM_CLOCK, Clock
from flowmap.control.port import ControlPlane, ListedDeployment
from flowmap.errors import ControlError
from flowmap.model.deployment import DeploymentKey
from flowmap.model.status import CatalogStatus

log = logging.getLogger(__name__)

SEEN_EVERY = 5.0
"""Seconds between two checks which deployments are seen in traffic."""

FIRST_WITHIN = 2.0
"""Seconds within which the first listing begins, at random: hosts that start together spread their calls."""

JITTER = 0.1
"""Largest change of the refresh time, as a part of it, at random."""

SEEN_LIMIT = 1000
"""Deployments whose jobs are kept fresh: the most recently seen."""

WARN_EVERY = 300.0
"""Seconds between two log lines about the same kind of failure."""


class CatalogRefresher:
    """The task that reads listings into a catalog. Used in one event loop."""

    def __init__(
        self,
        control: ControlPlane,
        catalog: DeploymentCatalog,
        *,
        every: float,
        seen: Callable[[], Awaitable[Sequence[DeploymentKey] | None]],
        scopes: Callable[[], Iterable[Scope]] = tuple,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """``every``: seconds between two readings of one listing. ``scopes``: to cover beside those of the catalog,
        asked for again and again. ``seen`` returns the deployments whose jobs are read,
        the most recently seen first; None if that is not known now."""
        self.catalog = catalog
        self.last_error: str | None = None
        """Why a listing failed last; None after it succeeded again."""
        self._control = control
        self.every = every
        self._seen = seen
        self._scopes = scopes
        self._clock = clock
        self._due = dict.fromkeys(catalog.scopes, float("-inf"))
        self._jobs_due: dict[DeploymentKey, float] = {}
        self._seen_keys: Sequence[DeploymentKey] = ()
        self._seen_at = float("-inf")
        self._warned: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def configure(self, *, every: float) -> None:
        """Apply from the next reading on. Due readings stay due, and a shorter time applies at once."""
        if every < self.every:
            latest = self._clock.monotonic() + every * (1 + JITTER)
            self._due = {scope: min(due, latest) for scope, due in self._due.items()}
        self.every = every

    def start(self) -> None:
        """Start the task."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="catalog")

    @property
    def runs(self) -> bool:
        """Whether the task was started and has not ended."""
        return self._task is not None and not self._task.done()

    async def aclose(self) -> None:
        """Cancel the task and its call."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def status(self) -> CatalogStatus:
        """State of the catalog."""
        succeeded_at = self.catalog.succeeded_at
        return CatalogStatus(
            deployments=len(self.catalog),
            left_out=self.catalog.left_out,
            listed_at=succeeded_at,
            age_seconds=None if succeeded_at is None else max(0.0, self._clock.wall() - succeeded_at),
            suspicious=", ".join(map(self._name, self.catalog.suspicious)) or None,
            error=self.last_error,
        )

    async def turn(self) -> float:
        """Read the listing that is most overdue. Returns the seconds until the next one is due."""
        rest = self._control.status().resting_for
        if rest > 0:
            return rest
        now = self._clock.monotonic()
        self.catalog.cover(self._scopes())
        self._due = dict.fromkeys(self.catalog.scopes, float("-inf")) | self._due
        if not self._due:
            return SEEN_EVERY
        scope = min(self._due, key=self._due.__getitem__)
        if self._due[scope] <= now:
            # Set before the call, so that a failed listing is not repeated earlier either.
            self._due[scope] = self._next(now)
            await self._read_deployments(scope)
            return 0.0
        key = await self._job_due(now)
        if key is None:
            return min(SEEN_EVERY, max(0.0, self._due[scope] - now))
        self._jobs_due[key] = self._next(now)
        await self._read_jobs(key)
        return 0.0

    async def _run(self) -> None:
        await self._clock.sleep(self._clock.chance() * min(FIRST_WITHIN, self.every))
        while True:
            try:
                pause = await self.turn()
            except Exception:  # a defect must not end the catalog for the life of the daemon
                log.exception("catalog not refreshed; next try in %g s", self.every)
                pause = self.every
            await self._clock.sleep(pause)

    def _next(self, now: float) -> float:
        return now + self.every * (1 - JITTER + 2 * JITTER * self._clock.chance())

    async def _job_due(self, now: float) -> DeploymentKey | None:
        """The deployment whose jobs are due: one never listed, most recently seen first, else the stalest."""
        if now - self._seen_at >= min(SEEN_EVERY, self.every):
            self._seen_at = now
            seen = await self._seen()
            if seen is not None:
                self._seen_keys = tuple(seen)[:SEEN_LIMIT]
                self._jobs_due = {key: self._jobs_due[key] for key in self._seen_keys if key in self._jobs_due}
        if not self._seen_keys:
            return None
        stalest = min(self._seen_keys, key=lambda key: self._jobs_due.get(key, float("-inf")))
        return stalest if self._jobs_due.get(stalest, float("-inf")) <= now else None

    async def _read_deployments(self, scope: Scope) -> None:
        what = f"the deployments of {self._name(scope)}"
        try:
            listing = await self._control.list_deployments(*scope)
        except ControlError as error:
            self._failed(what, str(error))
            return
        if listing.gap:
            self._failed(what, f"the listing is incomplete, {listing.gap}; missing deployments are kept")
        else:
            self._succeeded(what)
        self._apply(scope, listing.items, complete=not listing.gap, asked_at=listing.asked_at)

    def _apply(
        self, scope: Scope, entries: Sequence[ListedDeployment], *, complete: bool, asked_at: float | None
    ) -> None:
        before, namespace = len(self.catalog), self._name(scope)
        now, wall = self._clock.monotonic(), self._clock.wall()
        at = wall if asked_at is None else min(wall, asked_at)
        verdict = self.catalog.apply_listing(scope, entries, complete=complete, at=at, now=now)
        if verdict == "suspicious":
            self._warn(
                f"suspicious {namespace}",
                f"the listing of {namespace} lost more than half of its deployments, {len(entries)} are left: "
                f"not applied unless it lasts for {GRACE / 60:g} min",
            )
        elif verdict == "confirmed":
            log.warning(
                "the listing of %s stays small: applied, %d deployments, before %d", namespace, len(entries), before
            )

    async def _read_jobs(self, key: DeploymentKey) -> None:
        asked_at = self._clock.wall()
        try:
            listing = await self._control.list_jobs(*key)
        except ControlError as error:
            self._failed("jobs", str(error))
            return
        complete, before = not listing.gap, self.catalog.jobs(key)
        if not complete and before is not None and before.complete:
            self._failed("jobs", f"the listing of {key.deployment_id} is incomplete; the one before is kept")
            return
        self._succeeded("jobs")
        skew = self._control.status().clock_skew
        if listing.asked_at is not None:
            asked_at = min(asked_at, listing.asked_at)
        self.catalog.apply_jobs(key, listing.items, complete=complete, asked_at=asked_at, skew=skew)

    def _name(self, scope: Scope) -> str:
        several = len({known.workspace for known in self.catalog.scopes}) > 1
        return f"{scope.workspace}/{scope.namespace}" if several else scope.namespace

    def _failed(self, what: str, why: str) -> None:
        self.last_error = f"{what}: {why}"
        self._warn(what, f"cannot list {what}: {why}")

    def _succeeded(self, what: str) -> None:
        if self.last_error is not None and self.last_error.startswith(f"{what}: "):
            self.last_error = None

    def _warn(self, kind: str, message: str) -> None:
        now = self._clock.monotonic()
        if now - self._warned.get(kind, float("-inf")) >= WARN_EVERY:
            self._warned[kind] = now
            log.warning("%s", message)
