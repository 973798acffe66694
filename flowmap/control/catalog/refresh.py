"""Keeps the catalog fresh: reads the deployments of every namespace, and the jobs of those that are seen in traffic.

One call at a time, each through the client's budget; while the endpoint asks to be left alone nothing is asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from flowmap.control.catalog.catalog import DeploymentCatalog, DeploymentKey, Scope
from flowmap.control.clock import SYSTEM_CLOCK, Clock
from flowmap.control.port import ControlPlane, ListedDeployment
from flowmap.errors import ControlError

log = logging.getLogger(__name__)

LOOK_AGAIN = 5.0
"""Seconds between two looks at who is seen in traffic."""

FIRST_WITHIN = 2.0
"""Seconds within which the first listing begins: hosts that start together do not ask together."""

JITTER = 0.1
"""Part of the refresh time by which each refresh comes earlier or later."""

SEEN_LIMIT = 1000
"""Deployments whose jobs are kept fresh: those most recently seen."""

WARN_EVERY = 300.0
"""Seconds between two log lines about the same kind of failure."""


class CatalogRefresher:
    """The task that reads listings into a catalog. Lives in one event loop."""

    def __init__(
        self,
        control: ControlPlane,
        catalog: DeploymentCatalog,
        *,
        every: float,
        seen: Callable[[], Awaitable[Sequence[DeploymentKey] | None]],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """``every``: seconds between two readings of the same listing. ``seen`` returns the deployments whose jobs are
        wanted, the most recently seen first; None if that is not known now."""
        self.catalog = catalog
        self.last_error: str | None = None
        """Why the last listing that failed did; None once one succeeded again."""
        self._control = control
        self._every = every
        self._seen = seen
        self._clock = clock
        self._due = dict.fromkeys(catalog.scopes, float("-inf"))
        self._jobs_due: dict[DeploymentKey, float] = {}
        self._wanted: Sequence[DeploymentKey] = ()
        self._looked = float("-inf")
        self._warned: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def configure(self, *, every: float) -> None:
        """From the next reading on; what was due stays due, and a shorter time counts at once."""
        if every < self._every:
            latest = self._clock.monotonic() + every * (1 + JITTER)
            self._due = {scope: min(due, latest) for scope, due in self._due.items()}
        self._every = every

    def start(self) -> None:
        """Begin, soon."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="catalog")

    @property
    def runs(self) -> bool:
        """Whether it was started and did not end since."""
        return self._task is not None and not self._task.done()

    async def aclose(self) -> None:
        """End the task and the call under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def status(self) -> dict[str, object]:
        """Facts for the status answer; names that end in ``_at`` are epoch seconds."""
        succeeded_at = self.catalog.succeeded_at
        return {
            "catalog_deployments": len(self.catalog),
            "catalog_left_out": self.catalog.left_out,
            "catalog_listed_at": succeeded_at,
            "catalog_age_seconds": None if succeeded_at is None else max(0.0, self._clock.wall() - succeeded_at),
            "catalog_suspicious": ", ".join(map(self._name, self.catalog.suspicious)) or None,
            "catalog_error": self.last_error,
        }

    async def turn(self) -> float:
        """Read what is most due; seconds until there is more to do."""
        rest = self._control.status().resting_for
        if rest > 0:
            return rest
        now = self._clock.monotonic()
        scope = min(self._due, key=self._due.__getitem__)
        if self._due[scope] <= now:
            # Set before the call: what fails is not asked again before its time either.
            self._due[scope] = self._next(now)
            await self._read_deployments(scope)
            return 0.0
        key = await self._job_due(now)
        if key is None:
            return min(LOOK_AGAIN, max(0.0, self._due[scope] - now))
        self._jobs_due[key] = self._next(now)
        await self._read_jobs(key)
        return 0.0

    async def _run(self) -> None:
        await self._clock.sleep(self._clock.chance() * min(FIRST_WITHIN, self._every))
        while True:
            try:
                pause = await self.turn()
            except Exception:  # a defect here must not end the catalog unseen for the life of the daemon
                log.exception("the catalog was not refreshed")
                pause = self._every
            await self._clock.sleep(pause)

    def _next(self, now: float) -> float:
        return now + self._every * (1 - JITTER + 2 * JITTER * self._clock.chance())

    async def _job_due(self, now: float) -> DeploymentKey | None:
        """Who is to be asked for jobs: a deployment never asked for, the most recently seen first; else the stalest."""
        if now - self._looked >= min(LOOK_AGAIN, self._every):
            self._looked = now
            seen = await self._seen()
            if seen is not None:
                self._wanted = tuple(seen)[:SEEN_LIMIT]
                self._jobs_due = {key: self._jobs_due[key] for key in self._wanted if key in self._jobs_due}
        if not self._wanted:
            return None
        stalest = min(self._wanted, key=lambda key: self._jobs_due.get(key, float("-inf")))
        return stalest if self._jobs_due.get(stalest, float("-inf")) <= now else None

    async def _read_deployments(self, scope: Scope) -> None:
        what = f"the deployments of {self._name(scope)}"
        try:
            listing = await self._control.list_deployments(*scope)
        except ControlError as error:
            self._failed(what, str(error))
            return
        if listing.gap:
            self._failed(what, f"the listing is incomplete, {listing.gap}; those it lacks are kept")
        else:
            self._succeeded(what)
        self._apply(scope, listing.items, complete=not listing.gap)

    def _apply(self, scope: Scope, entries: Sequence[ListedDeployment], *, complete: bool) -> None:
        before, namespace = len(self.catalog), self._name(scope)
        at, now = self._clock.wall(), self._clock.monotonic()
        verdict = self.catalog.apply_listing(scope, entries, complete=complete, at=at, now=now)
        if verdict == "suspicious":
            self._warn(
                f"suspicious {namespace}",
                f"the listing of {namespace} has lost more than half of its deployments, {len(entries)} are left;"
                " the others are kept for now",
            )
        elif verdict == "confirmed":
            log.warning("the listing of %s stays small: %d deployments, before %d", namespace, len(entries), before)

    async def _read_jobs(self, key: DeploymentKey) -> None:
        asked_at = self._clock.wall()
        try:
            listing = await self._control.list_jobs(*key)
        except ControlError as error:
            self._failed("jobs", str(error))
            return
        complete, before = not listing.gap, self.catalog.jobs(key)
        if not complete and before is not None and before.complete:
            self._failed("jobs", f"the answer about {key.deployment_id} was not whole; what was listed before stays")
            return
        self._succeeded("jobs")
        skew = self._control.status().clock_skew
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
