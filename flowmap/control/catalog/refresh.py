"""Keeps the catalog fresh: reads the deployments of every namespace, and the jobs of those that are seen in traffic.

One call at a time, each through the client's budget; while the endpoint asks to be left alone nothing is asked.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from flowmap.control.alibaba.api import requests
from flowmap.control.alibaba.api.client import ControlClient
from flowmap.control.catalog.catalog import CatalogEntry, DeploymentCatalog, JobRun, Key
from flowmap.errors import BadRequest, ConfigError, ControlError

log = logging.getLogger(__name__)

LOOK_AGAIN = 5.0
"""Seconds between two looks at who is seen in traffic."""

FIRST_WITHIN = 2.0
"""Seconds within which the first listing begins: hosts that start together do not ask together."""

JITTER = 0.1
"""Part of the refresh time by which each refresh comes earlier or later."""

SEEN_LIMIT = 1000
"""Deployments whose jobs are kept fresh: those most recently seen."""

COMPLAIN_EVERY = 300.0
"""Seconds between two log lines about the same kind of failure."""


class Label(NamedTuple):
    """``control_plane.catalog.label``: a label and its alternative values."""

    key: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Label:
        """Read ``key=value1,value2``; ConfigError for one the API cannot be asked about."""
        key, _, values = text.partition("=")
        label = cls(key.strip(), tuple(value.strip() for value in values.split(",")))
        try:
            requests.get_deployments_by_label(namespace="any", key=label.key, values=label.values)
        except BadRequest as error:
            raise ConfigError(f"control_plane.catalog.label: {error}") from error
        return label


class CatalogRefresher:
    """The task that reads listings into a catalog. Lives in one event loop."""

    def __init__(
        self,
        client: ControlClient,
        catalog: DeploymentCatalog,
        *,
        namespaces: Sequence[str],
        every: float,
        label: Label | None = None,
        seen: Callable[[], Awaitable[Sequence[Key] | None]],
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """``every``: seconds between two readings of the same listing. ``seen`` tells the deployments whose jobs
        are wanted, the most recently seen first; None if that cannot be said now."""
        self.catalog = catalog
        self.last_error: str | None = None
        """Why the last listing that failed did; None once one succeeded again."""
        self._client = client
        self._label = label
        self._every = every
        self._seen = seen
        self._wall_clock = wall_clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._chance = chance
        self._due = dict.fromkeys(namespaces, float("-inf"))
        self._jobs_due: dict[Key, float] = {}
        self._wanted: Sequence[Key] = ()
        self._looked = float("-inf")
        self._complained: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def configure(self, *, every: float, label: Label | None) -> None:
        """From the next reading on; what was due stays due, and a shorter time counts at once."""
        self._label = label
        if every < self._every:
            latest = self._monotonic() + every * (1 + JITTER)
            self._due = {name: min(due, latest) for name, due in self._due.items()}
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
            "catalog_age_seconds": None if succeeded_at is None else max(0.0, self._wall_clock() - succeeded_at),
            "catalog_suspicious": ", ".join(self.catalog.suspicious) or None,
            "catalog_error": self.last_error,
        }

    async def turn(self) -> float:
        """Read what is most due; seconds until there is more to do."""
        rest = self._client.resting_for
        if rest > 0:
            return rest
        now = self._monotonic()
        namespace = min(self._due, key=self._due.__getitem__)
        if self._due[namespace] <= now:
            # Set before the call: what fails is not asked again before its time either.
            self._due[namespace] = self._next(now)
            await self._read_deployments(namespace)
            return 0.0
        key = await self._job_due(now)
        if key is None:
            return min(LOOK_AGAIN, max(0.0, self._due[namespace] - now))
        self._jobs_due[key] = self._next(now)
        await self._read_jobs(key)
        return 0.0

    async def _run(self) -> None:
        await self._sleep(self._chance() * min(FIRST_WITHIN, self._every))
        while True:
            try:
                pause = await self.turn()
            except Exception:  # a defect here must not end the catalog unseen for the life of the daemon
                log.exception("the catalog was not refreshed")
                pause = self._every
            await self._sleep(pause)

    def _next(self, now: float) -> float:
        return now + self._every * (1 - JITTER + 2 * JITTER * self._chance())

    async def _job_due(self, now: float) -> Key | None:
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

    async def _read_deployments(self, namespace: str) -> None:
        what = f"the deployments of {namespace}"
        entries: list[CatalogEntry] = []
        try:
            lacks = await self._list(namespace, entries)
        except ControlError as error:
            self._failed(what, str(error))
            if not entries:
                return
            complete = False
        else:
            complete = not lacks
            if complete:
                self._succeeded(what)
            else:
                self._failed(what, f"the listing is incomplete, {lacks}; those it lacks are kept")
        self._take(namespace, entries, complete)

    def _take(self, namespace: str, entries: list[CatalogEntry], complete: bool) -> None:
        before, now = len(self.catalog), self._monotonic()
        verdict = self.catalog.take_listing(namespace, entries, complete=complete, at=self._wall_clock(), now=now)
        if verdict == "suspicious":
            self._complain(
                f"suspicious {namespace}",
                f"the listing of {namespace} has lost more than half of its deployments, {len(entries)} are left;"
                " the others are kept for now",
            )
        elif verdict == "believed":
            log.warning("the listing of %s stays small: %d deployments, before %d", namespace, len(entries), before)

    async def _list(self, namespace: str, into: list[CatalogEntry]) -> str:
        """Read the deployments of a namespace, as far as it goes; why some are missing, empty if none is."""
        if self._label is not None:
            answer = await self._client.get_deployments_by_label(
                namespace=namespace, key=self._label.key, values=self._label.values
            )
            into.extend(CatalogEntry.of(one, namespace) for one in answer.deployments)
            return _unreadable(answer.dropped)
        listing = self._client.list_deployments(namespace=namespace)
        async for page in listing:
            into.extend(CatalogEntry.of(one, namespace) for one in page)
        return _unreadable(listing.dropped) or ("" if listing.complete else "it changed while it was read")

    async def _read_jobs(self, key: Key) -> None:
        namespace, deployment_id = key
        asked_at = self._wall_clock()
        try:
            listing = self._client.list_jobs(namespace=namespace, deployment_id=deployment_id)
            runs = [JobRun.of(job) async for page in listing for job in page if _is_of(job.deployment_id, key)]
        except ControlError as error:
            self._failed("jobs", str(error))
            return
        whole = listing.complete and not listing.dropped
        before = self.catalog.jobs(*key)
        if not whole and before is not None and before.complete:
            self._failed("jobs", f"the answer about {deployment_id} was not whole; what was listed before stays")
            return
        self._succeeded("jobs")
        self.catalog.take_jobs(key, runs, complete=whole, asked_at=asked_at, skew=self._client.clock_skew)

    def _failed(self, what: str, why: str) -> None:
        self.last_error = f"{what}: {why}"
        self._complain(what, f"cannot list {what}: {why}")

    def _succeeded(self, what: str) -> None:
        if self.last_error is not None and self.last_error.startswith(f"{what}: "):
            self.last_error = None

    def _complain(self, kind: str, message: str) -> None:
        now = self._monotonic()
        if now - self._complained.get(kind, float("-inf")) >= COMPLAIN_EVERY:
            self._complained[kind] = now
            log.warning("%s", message)


def _unreadable(dropped: int) -> str:
    return f"{dropped} of its elements could not be read" if dropped else ""


def _is_of(deployment_id: str | None, key: Key) -> bool:
    """Whether a job is of the deployment that was asked for; a server that ignores the filter lists all."""
    return deployment_id is None or deployment_id == key[1]
