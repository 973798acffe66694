"""Reads one cluster repeatedly, and keeps the picture that the readings give.

Each poll gets ``/jobs/overview`` and ``/taskmanagers``. ``/taskmanagers/:id`` of every TaskManager follows while
anything moved within the last three polls, and every 30 s. ``/jobs/:id`` is never read: Flink keeps it for seconds.

A TaskManager counts as alive up to its last heartbeat (10 s apart by default). Where that is too old for a question,
:meth:`Cluster.prove_alive` asks the JobManager for the list of its log files, which the TaskManager itself answers.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Collection, Mapping
from functools import partial
from typing import NamedTuple

from flowmap.control.clock import SYSTEM_CLOCK, Clock
from flowmap.control.flink.deployments import Identity
from flowmap.control.flink.host import UNUSED, Host, HostFacts
from flowmap.control.flink.offset import ClockOffset
from flowmap.control.flink.own import HostNames, OwnEndpoints, resolve_own
from flowmap.control.flink.picture import ClusterPicture, Facts, Held, Reading, place
from flowmap.control.flink.records import (
    Configured,
    ListedJob,
    ListedTaskManager,
    read_config,
    read_jars,
    read_jobs,
    read_published,
    read_slots,
    read_task_managers,
    read_version,
)
from flowmap.control.flink.rest import JobManagerRest
from flowmap.errors import ControlError, ProtocolError, Transient
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import Owner, Role
from flowmap.model.status import FlinkClusterStatus
from flowmap.model.tenure import Holders

log = logging.getLogger(__name__)

MOVED_POLLS = 3
"""Polls after a change in which every TaskManager is read."""
READ_ALL_EVERY = 30.0
"""Seconds between two readings of every TaskManager at most."""
CONFIG_EVERY = 300.0
"""Seconds between two readings of the configuration."""
SILENT = 30.0
"""Seconds without a sign of life after which a TaskManager is reported: heartbeats are 10 s apart by default."""
LEADER_AND_STANDBY = 2
"""JobManagers of a cluster with high availability, at least."""
AT_ONCE = 8
"""Calls to one JobManager at one time."""
JOBS = 100_000
"""Jobs whose names are kept."""
LOG_EVERY = 300.0
"""Seconds between two log lines about a cluster that cannot be read."""


class TaskManager(NamedTuple):
    """A TaskManager as the last reading shows it."""

    listed: ListedTaskManager
    addresses: tuple[Address, ...]
    owners: frozenset[Owner]
    """Owners of the jobs that have a slot."""
    alive_at: float
    """Last sign of life, monotonic seconds; -inf if none has come yet."""


class Cluster:
    """Reads one cluster. Used in one event loop."""

    def __init__(
        self,
        rest: JobManagerRest,
        identity: Identity,
        *,
        poll: float,
        own_addresses: frozenset[Address] = frozenset(),
        shared: bool = False,
        host: Host = UNUSED,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """``poll``: seconds between two readings. ``own_addresses``: of this host; a JobManager on it uses them all.
        ``shared``: whether other programs use the addresses of TaskManagers, too. ``host``: by which its
        TaskManagers on this host are known."""
        self.name = rest.access.name
        self.rest = rest
        self.picture = ClusterPicture()
        self.jobs: dict[str, ListedJob] = {}
        """Every job ever listed, as last listed."""
        self.resources: Mapping[str, str] = {}
        """FlinkSessionJobs by the id of their job, where the cluster was found in Kubernetes."""
        self.version = ""
        self.task_managers: Mapping[str, TaskManager] = {}
        self.configured: tuple[Configured, ...] = ()
        """What each JobManager that answered has configured."""
        self.error: ControlError | None = None
        """Why the last reading failed; None after a good one."""
        self.read_at: float | None = None
        """Epoch seconds of the last good reading."""
        self._own = OwnEndpoints(frozenset(), frozenset(), frozenset())
        self._own_addresses = own_addresses
        self.host = HostFacts(self.name, host, own_addresses)
        self._shared = shared
        self._identity = identity
        self._poll = poll
        self._clock = clock
        self._slots: dict[str, frozenset[str]] = {}
        self._signature: object = None
        self._moved = 0
        self._read_all_at = self._configured_at = -math.inf
        self._offset = ClockOffset(clock)
        self._names = HostNames(self.name, clock)
        self._proofs: dict[str, float] = {}
        self._proving: dict[str, asyncio.Task[None]] = {}
        self._done = asyncio.Condition()
        self._started_at = -math.inf
        self._limit = asyncio.Semaphore(AT_ONCE)
        self._logged_at = -math.inf

    @property
    def clock_skew(self) -> float | None:
        """Seconds by which the JobManager's clock is ahead of this host's; None until a job has run."""
        return self._offset.skew

    @property
    def up(self) -> bool:
        """Whether the last reading was good."""
        return self.error is None and self.read_at is not None

    @property
    def may_miss_leader(self) -> bool:
        """Whether the leading JobManager may be one that was not read: then its random ports are not known."""
        return len(self.configured) < LEADER_AND_STANDBY and any(one.may_stand_by for one in self.configured)

    def status(self) -> FlinkClusterStatus:
        """Its state. May be called from any thread."""
        seen, processes = self.task_managers, [self.process(name) for name in self.task_managers]
        return FlinkClusterStatus(
            name=self.name,
            url=self.rest.url,
            up=self.up,
            error=None if self.error is None else str(self.error),
            version=self.version,
            read_at=self.read_at,
            jobs=sum(not job.over for job in tuple(self.jobs.values())),
            task_managers=len(seen),
            silent_task_managers=len(self.silent()),
            local_task_managers=len(self.host.of(processes)),
            registering=self.up and not self.picture.settled,
            clock_skew_seconds=self.clock_skew,
            calls=dict(self.rest.calls),
        )

    def silent(self) -> list[str]:
        """The TaskManagers that have given no sign of life for :data:`SILENT` seconds."""
        since = self._clock.monotonic() - SILENT
        return [name for name, one in self.task_managers.items() if one.alive_at < since]

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            began = self._clock.monotonic()
            await self.read()
            await self._clock.sleep(max(0.05, self._poll - (self._clock.monotonic() - began)))

    async def read(self) -> None:
        """Read once; the result is in the attributes."""
        asked = self._clock.monotonic()
        try:
            await self._read(asked)
        except ControlError as error:
            self._failed(error)
        except Exception as error:  # a defect must not end the readings of the cluster
            log.exception("cluster %s cannot be read", self.name)
            self._failed(ProtocolError(f"defect: {error!r}"))
        async with self._done:
            self._started_at = asked
            self._done.notify_all()

    async def read_once(self) -> None:
        """Read once; ControlError if that failed."""
        await self.read()
        if self.error is not None:
            raise self.error

    async def reading_since(self, instant: float, *, within: float) -> None:
        """Wait until a reading that started at ``instant`` or later is done. ControlError if it failed or is late."""
        try:
            async with asyncio.timeout(within), self._done:
                await self._done.wait_for(lambda: self._started_at >= instant)
        except TimeoutError:
            raise self.error or Transient(f"{self.name}: no reading within {within:g} s", reason="timeout") from None
        if self.error is not None:
            raise self.error

    async def prove_alive(self, address: Address, since: float) -> None:
        """Ask the TaskManagers at an address whose last sign of life is older than ``since`` for a new one."""
        silent = [name for name, one in self.task_managers.items() if address in one.addresses and one.alive_at < since]
        for name in silent:
            if name not in self._proving:
                self._proving[name] = task = asyncio.get_running_loop().create_task(self._prove(name))
                task.add_done_callback(partial(self._proved, name))
        if proofs := [self._proving[name] for name in silent]:
            await asyncio.wait(proofs)

    async def jars(self) -> tuple[str, ...]:
        """The names of the uploaded jars; empty where jobs cannot be uploaded."""
        answer = await self._get("jars")
        return () if answer is None else read_jars(answer)

    async def published(self, job_id: str) -> Mapping[str, str]:
        """What the author of a job chose to publish; empty if the job is not known."""
        return read_published(await self._get("jobs", job_id, "config"))

    def jobs_at(self, name: str) -> frozenset[str]:
        """The ids of the jobs that have a slot in a TaskManager."""
        return self._slots.get(name, frozenset())

    def retire(self, now: float) -> None:
        """Note that the cluster is gone: no endpoint has an owner in it from here on."""
        self.picture.add(Reading(now, now, {}, self._ended()))

    async def aclose(self) -> None:
        """Cancel what is under way and close the connections."""
        for task in tuple(self._proving.values()):
            task.cancel()
        await self.rest.aclose()

    def _proved(self, name: str, _: asyncio.Task[None]) -> None:
        self._proving.pop(name, None)

    async def _prove(self, name: str) -> None:
        asked = self._clock.monotonic()
        try:
            answer = await self._get("taskmanagers", name, "logs")
        except ControlError:
            return
        seen = self.task_managers.get(name)
        if answer is None or seen is None:
            return
        self._proofs[name] = asked
        for address in seen.addresses:
            owners = (*seen.owners, Role.TASK_MANAGER.of(self.name, name))
            self.picture.confirm(place(address), [Held(owner, self.process(name)) for owner in owners], asked)

    async def _read(self, asked: float) -> None:
        if asked - self._configured_at >= CONFIG_EVERY or not self.configured:
            await self._read_config(asked)
        jobs = await self._read_jobs()
        listed = read_task_managers(_found(await self._get("taskmanagers")))
        await self._read_slots(asked, jobs, listed)
        if any(job not in self.jobs for jobs_there in self._slots.values() for job in jobs_there):
            await self._read_jobs()  # submitted between the two calls
        addresses = {one.id: await self._names.addresses(one.rpc.name) for one in listed}
        arrived = self._clock.monotonic()
        self._proofs = {name: at for name, at in self._proofs.items() if name in addresses}
        self.task_managers = {one.id: self._task_manager(one, addresses[one.id]) for one in listed}
        self._own = await resolve_own(self._names, self.configured, self.rest.access.urls, self._own_addresses)
        here = [(self.process(name), one.listed, one.addresses) for name, one in self.task_managers.items()]
        self.host.read(here, self._clock.monotonic())
        self.picture.add(Reading(asked, arrived, self._places(asked), self._ended()))
        self.error, self.read_at = None, self._clock.wall()

    async def _read_jobs(self) -> tuple[ListedJob, ...]:
        asked = self._clock.monotonic()
        jobs = read_jobs(_found(await self._get("jobs", "overview")))
        self._offset.note((job.read_at for job in jobs if not job.over), asked, self._clock.monotonic())
        self.jobs |= {job.id: job for job in jobs}
        while len(self.jobs) > JOBS:
            del self.jobs[next(iter(self.jobs))]
        return jobs

    async def _read_slots(
        self, asked: float, jobs: Collection[ListedJob], listed: Collection[ListedTaskManager]
    ) -> None:
        running = sorted((job.id, job.changes) for job in jobs if not job.over)
        signature = (running, sorted((one.id, one.facts) for one in listed))
        if signature != self._signature:
            self._signature, self._moved = signature, MOVED_POLLS
        every = self._moved > 0 or asked - self._read_all_at >= READ_ALL_EVERY
        wanted = [one.id for one in listed if every or one.id not in self._slots]
        answers = await asyncio.gather(*(self._get("taskmanagers", name) for name in wanted))
        if every:
            self._moved, self._read_all_at = max(0, self._moved - 1), asked
        # A TaskManager that is gone between the two calls has no jobs.
        read = {name: read_slots(answer) for name, answer in zip(wanted, answers, strict=True) if answer is not None}
        names = {one.id for one in listed}
        self._slots = {name: jobs for name, jobs in (self._slots | read).items() if name in names}

    async def _read_config(self, asked: float) -> None:
        answers = await self.rest.get_each("jobmanager", "config")  # a standby answers with its own
        self.configured = tuple(read_config(answer) for answer in answers)
        self.version = read_version(_found(await self._get("overview")))
        if await self._get("jars") is None:
            self._identity.applications.add(self.name)
        self._configured_at = asked

    def _task_manager(self, listed: ListedTaskManager, addresses: tuple[Address, ...]) -> TaskManager:
        heartbeat = -math.inf if listed.heartbeat is None else listed.heartbeat + self._offset.low
        jobs = self._slots.get(listed.id, frozenset())
        return TaskManager(
            listed,
            addresses,
            frozenset(self.owner(job) for job in jobs),
            max(heartbeat, self._proofs.get(listed.id, -math.inf)),
        )

    def process(self, name: str) -> str:
        """What stands for a TaskManager in tenures: ids need not differ between clusters."""
        return f"{self.name}/{name}"

    def owner(self, job_id: str) -> Owner:
        """The owner that a job belongs to."""
        job = self.jobs.get(job_id)
        return self._identity.owner(self.name, job_id, job.name if job else job_id)

    def holders(self, at: Endpoint) -> Holders:
        """Who had a place, with what this host knows about the TaskManagers there."""
        found = self.picture.holders(at)
        return found._replace(local=self.host.of({tenure.process for tenure in found.tenures}))

    def _places(self, asked: float) -> dict[Endpoint, dict[Held, Facts]]:
        found: dict[Endpoint, dict[Held, Facts]] = {}

        def show(at: Endpoint, owner: Owner, facts: Facts, process: str = "") -> None:
            there, held = found.setdefault(at, {}), Held(owner, process)
            there[held] = facts.joined(there[held]) if held in there else facts

        for name, seen in self.task_managers.items():
            process = self.process(name)
            for address in seen.addresses:
                show(place(address), Role.TASK_MANAGER.of(self.name, name), Facts(seen.alive_at), process)
                if self._shared:
                    show(place(address), Role.HOST.of(self.name), Facts(asked))
                for port in (seen.listed.rpc.port, seen.listed.data_port):
                    show(Endpoint(address, port), Role.SERVICE.of(self.name), Facts(seen.alive_at))
                for job_id in self._slots.get(name, ()):
                    job = self.jobs.get(job_id)
                    begun = -math.inf if job is None else job.started_at + self._offset.low
                    show(place(address), self.owner(job_id), Facts(seen.alive_at, begun), process)
        for address in self._own.job_managers:
            show(place(address), Role.JOB_MANAGER.of(self.name), Facts(asked))
            if self.may_miss_leader:
                show(place(address), Role.LEADER.of(self.name), Facts(asked))
        for endpoint in self._own.services:
            show(endpoint, Role.SERVICE.of(self.name), Facts(asked))
        for endpoint in self._own.coordination:
            show(endpoint, Role.COORDINATION.of(self.name), Facts(asked))
        return found

    def _ended(self) -> dict[Owner, float]:
        ended: dict[Owner, float] = {}
        for job in self.jobs.values():
            end = math.inf if job.ended_at is None else job.ended_at + self._offset.high
            owner = self.owner(job.id)
            ended[owner] = max(end, ended.get(owner, -math.inf))
        return {owner: end for owner, end in ended.items() if end < math.inf}

    async def _get(self, *path: str) -> object:
        async with self._limit:
            return await self.rest.get(*path)

    def _failed(self, error: ControlError) -> None:
        self.error = error
        self.picture.fail()
        now = self._clock.monotonic()
        if now - self._logged_at >= LOG_EVERY:
            self._logged_at = now
            log.warning("cluster %s cannot be read: %s; connections of its addresses stay pending", self.name, error)


def _found(answer: object) -> object:
    if answer is None:
        raise ProtocolError("not found (HTTP 404): is this the REST address of a JobManager?", status=404)
    return answer
