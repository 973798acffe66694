"""The accounting: observed bytes, the owners they are credited to, and the bytes that are still pending.

Commands go in (:mod:`flowmap.engine.commands`), traffic is credited to series. In both directions, after every command
and exactly:

    observed = deployments + shared + unattributed + internal + expired + pending
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import numpy as np

from flowmap.attribute.attribution import Attribution
from flowmap.attribute.decisions import Decision, joined
from flowmap.attribute.questions import Owners, Question
from flowmap.config.models import Config
from flowmap.engine.commands import (
    Ask,
    Command,
    Configure,
    CountFlowless,
    Decide,
    Deliver,
    Finish,
    GiveUp,
    QuestionResult,
    Restore,
    TakeStep,
    Tidy,
)
from flowmap.engine.peer_names import PeerNames
from flowmap.engine.protocols import DeploymentDirectory, Journal, NoDirectory
from flowmap.engine.read_times import ReadTimes, event_of, is_loss
from flowmap.engine.series_choice import SeriesChoice
from flowmap.engine.unwritten import leave_all
from flowmap.export.delays import Delays
from flowmap.export.series import OTHER, SeriesKey, SeriesKind
from flowmap.export.series_table import SeriesTable
from flowmap.export.snapshot import exact_bytes
from flowmap.flows import bursts
from flowmap.flows.columns import IGNORED, PENDING, Row
from flowmap.flows.filter import Filter
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.namespaces.sightings import Sightings
from flowmap.flows.records.batch import FlowBatch
from flowmap.flows.records.changes import Changes
from flowmap.flows.table import NEVER, FlowTable
from flowmap.model.deployment import DeploymentInfo, DeploymentKey, Owner, State
from flowmap.model.namespace import OWN
from flowmap.sources.base import (
    AddressesRemoved,
    Broadcasts,
    CaughtUp,
    Lost,
    MeasuringFinished,
    NamespaceAddresses,
    NamespaceGone,
    NamespaceOpened,
    NamespaceRead,
    NamespacesNamed,
    OwnCalls,
    ReadEvent,
    ReadFinished,
    ReadStarted,
    Step,
    WorkloadsNamed,
)

MAX_DEPLOYMENTS = 100_000

_OPEN = np.uint32(Row.OPEN)
_KINDS: dict[State, SeriesKind] = {State.ATTRIBUTED: "deployment", State.SHARED: "shared", State.INTERNAL: "internal"}


class FlowAccounting:
    """Flow table, attribution and series table, kept consistent. Used by one thread, changed by :meth:`apply` only."""

    def __init__(
        self,
        table: FlowTable,
        attribution: Attribution,
        series_table: SeriesTable,
        *,
        announces_births: bool,
        counts_live: bool = False,
        directory: DeploymentDirectory | None = None,
        journal: Journal | None = None,
    ) -> None:
        """``announces_births``, ``counts_live``: see :class:`flowmap.model.source.SourceFacts`."""
        self.table, self.attribution, self.series_table = table, attribution, series_table
        self.observed = [0, 0]
        """Bytes of all counted flows: transmit, receive."""
        self.pending = [0, 0]
        """Bytes of flows that are not credited yet: transmit, receive."""
        self.ignored = 0
        """Bytes of flows that the filters leave out."""
        self.pending_flows = 0
        self.shed: Counter[str] = Counter()
        """Flows that were not tracked, or evicted, because the flow table was full; by reason."""
        self.deployments: dict[DeploymentKey, DeploymentInfo] = {}
        """Each deployment as the last answer that named it described it."""
        self.delays = Delays()
        """Time from the first sight of flows to their first decision, and to their first name."""
        self.complete_reads = 0
        self.answered = 0
        """Number of answers taken."""
        self._peer_names = PeerNames(table.endpoints)
        self.peer = self._peer_names.name
        """The peer label of a service endpoint, by its number."""
        self._series_choice = SeriesChoice(table, series_table, self.peer)
        self._leaving: list[Callable[[Rows], None]] = []
        self._described: tuple[DeploymentInfo, ...] = ()
        self._described_at = (-1, 0, 0, 0)
        self._directory, self._journal = directory or NoDirectory(), journal
        self._announces_births, self.counts_live = announces_births, counts_live
        self._reads, self.sightings = ReadTimes(), Sightings(table)

    @property
    def counters_at(self) -> float:
        """The counters of open flows are not older than this instant, monotonic seconds."""
        return self._reads.counters_at

    def on_leaving(self, listener: Callable[[Rows], None]) -> None:
        """Call ``listener`` with closed, decided flows before their rows are freed."""
        self._leaving.append(listener)

    def apply(self, command: Command) -> Sequence[Question]:
        """Apply one command. Returns the questions to ask now; empty for every command but :class:`Ask`."""
        match command:
            case TakeStep(step, now, read_at):
                self._take_step(step, now, read_at)
            case Ask(now, limit, changes):
                return self.attribution.ask(now=now, limit=limit, changes=changes)
            case Deliver(now, result):
                self._take_result(result, now)
            case Decide(now):
                self._credit_decided(self.attribution.decide(now=now), now)
            case GiveUp(older_than, now):
                self._credit_decided(self.attribution.give_up(older_than=older_than, now=now), now)
            case Tidy(now):
                self._tidy(now)
            case Configure(config):
                self._configure(config)
            case Restore(known, now):
                for question, one in known:
                    self.attribution.restore(question, one, now=now)
            case CountFlowless(now, reason, totals):
                self._count_flowless(reason, totals, now)
            case Finish():
                leave_all(self.table, self._journal, self.attribution.decisions, now=self.attribution.now)
        return ()

    def _take_step(self, step: Step, now: float, read_at: float) -> None:
        if is_loss(step):
            self.attribution.continuity.lapse(now)
        match step:
            case FlowBatch():
                self._take_batch(step, now, read_at)
            case ReadStarted() | ReadFinished() | Lost() | NamespaceRead():
                self._take_read(*event_of(step), now, read_at)
            case CaughtUp(at):
                self.table.caught_up(at)
                self._reads.catch_up(at, announces_births=self._announces_births, counts_live=self.counts_live)
            case NamespaceOpened() | NamespaceGone() | NamespaceAddresses():
                self._take_namespace(step, now)
            case MeasuringFinished(complete):
                self.table.untracked.finish_read(complete=complete)
            case AddressesRemoved(addresses):
                self.attribution.continuity.removed(addresses, now)
            case Broadcasts(addresses):
                self.attribution.special.set_broadcasts(addresses)
            case OwnCalls(made):
                self.attribution.special.note_own(made, now)
            case WorkloadsNamed(named):
                self.table.workloads.learn(named)
                self._series_choice.move(now)
            case NamespacesNamed(named):
                self.table.namespaces.learn(named)

    def _take_batch(self, batch: FlowBatch, now: float, read_at: float) -> None:
        born_after = self._reads.born_after(int(batch.namespace[0])) if len(batch) else NEVER
        evict = partial(self._evict, now)
        applied = self.sightings.apply(batch, now=now, read_at=read_at, born_after=born_after, evict=evict)
        if len(swept := self.table.pop_swept()):
            self.forget_endpoints(swept)
        self._series_choice.move(now)
        self.attribution.workloads_told(self.table.workloads.take_told())
        self._count(applied, now)

    def _take_namespace(self, step: NamespaceOpened | NamespaceGone | NamespaceAddresses, now: float) -> None:
        if isinstance(step, NamespaceAddresses):
            self.sightings.places.set(step.number, step.addresses)
        elif isinstance(step, NamespaceOpened):
            self._reads.open(step.number, step.absent_at)
            self.table.open_namespace(step.number, is_new=step.absent_at is not None)
        else:
            self._reads.forget(step.number)
            self._count_each(self.sightings.close_namespace(step.number, now), now)
        self.attribution.special.set_shared(self.sightings.places.shared)

    def _take_read(self, namespace: int, event: ReadEvent, now: float, read_at: float) -> None:
        if event == "started":
            self.sightings.begin_read(namespace)
            self._reads.begin(namespace, read_at)
        elif event == "lost":
            self._reads.lose(namespace)
        else:
            self._finish_read(namespace, event == "complete", now)

    def _take_result(self, result: QuestionResult, now: float) -> None:
        if result.answer is None:
            self.attribution.fail(result.question, result.cause, now=now, retry_after=result.retry_after)
            return
        self._remember(result.deployments)
        change = self.attribution.receive(result.question, result.answer, result.holders, result.own_clusters)
        if self._journal is not None:
            self._journal.confirmed(result.question, change)

    def _credit_decided(self, decided: Sequence[tuple[Decision, Rows]], now: float) -> None:
        for one in joined(decided):
            self._credit_group(*one, now)

    def _tidy(self, now: float) -> None:
        self.series_table.expire(now=now)
        if self.table.endpoints.room < self.table.endpoints.capacity * 3 // 4:
            self.forget_endpoints(self.table.sweep_endpoints())
        self.attribution.forget_answers(self._reads.all_born_after)
        self.attribution.forget_decisions()
        self.table.workloads.tidy(self.table.columns, self.table.live)
        self.table.namespaces.tidy(self.table.columns, self.table.live)

    def _configure(self, config: Config) -> None:
        self.table.set_filter(Filter(config.collect.include, config.excluded))
        self.attribution.settings.update(config.attribute)
        self.series_table.idle_after = config.export.idle_after
        self._peer_names.configure(config.export.peers)

    def forget_endpoints(self, freed: Rows) -> None:
        """Forget freed endpoint numbers, which will stand for other endpoints."""
        self.attribution.forget(freed)
        self._peer_names.forget()

    def described(self) -> tuple[DeploymentInfo, ...]:
        """Descriptions of the deployments that have a series, for the info metrics."""
        state = (self.series_table.generation, len(self.series_table), self.answered, self._directory.generation)
        if self._described_at != state:
            self._described_at = state
            named = {owner.key for key in self.series_table.freeze().keys if key for owner in key.owners}
            # Series without the label ``workspace`` have owners without a workspace.
            reported = [one for one in self.deployments.items() if named & {one[0], one[0]._replace(workspace="")}]
            known = (self._directory.describe(key, info) for key, info in reported)
            self._described = tuple(info for info in known if info is not None)
        return self._described

    def describe(self, owner: Owner) -> DeploymentInfo:
        """The newest description of a deployment."""
        return self._directory.describe(owner.key, self.deployments.get(owner.key)) or DeploymentInfo(owner)

    def _remember(self, deployments: tuple[DeploymentInfo, ...]) -> None:
        self.answered += 1
        for info in deployments:
            self.deployments.pop(info.owner.key, None)
            self.deployments[info.owner.key] = info
        while len(self.deployments) > MAX_DEPLOYMENTS:
            del self.deployments[next(iter(self.deployments))]

    def _count_flowless(self, reason: str, totals: tuple[int, int, int, int], now: float) -> None:
        self.series_table.count(SeriesKey("unattributed", (), reason, OTHER, "any"), totals, now=now)
        self._add(self.observed, *totals[:2])

    def _finish_read(self, namespace: int, complete: bool, now: float) -> None:
        complete = complete and self._reads.is_trusted(namespace)
        self._count_each(self.sightings.end_read(complete=complete, now=now, namespace=namespace), now)
        if complete:
            self._reads.finish(namespace, announces_births=self._announces_births)
            self.attribution.judge_again()
        if complete and namespace == OWN:
            self.complete_reads += 1
            self.table.untracked.complete_at = self._reads.started(OWN)

    def _count_each(self, changes: Sequence[Changes], now: float) -> None:
        for applied in changes:
            self._count(applied, now)

    def _count(self, applied: Changes, now: float) -> None:
        columns = self.table.columns
        if len(applied.opened):
            self.pending_flows += int(np.count_nonzero(columns.series[applied.opened] == PENDING))
            self.attribution.opened(applied.opened)
        if len(applied.rows):
            self._credit(applied, now)
        if applied.shed or applied.shed_ignored:
            self._shed_untracked(applied, now)
        self._close(applied.closed)

    def _credit(self, applied: Changes, now: float) -> None:
        series = self.table.columns.series[applied.rows]
        resumed = bursts.is_unconfirmed(self.table.columns, applied.rows)
        if resumed.any():
            rows = applied.rows[resumed]
            self.pending_flows += bursts.add_unsettled(self.table.columns, rows, applied.deltas[resumed])
            self.attribution.resumed(rows)
        decided = (series >= 0) & ~resumed
        if decided.any():
            self.series_table.credit(series[decided], *applied.deltas[decided].T, now=now)
            resent = decided & (applied.retransmits != 0)
            if resent.any():
                self.series_table.retransmitted(series[resent], applied.retransmits[resent].astype(np.uint64))
        waiting = (series == PENDING) | resumed
        transmit, receive = exact_bytes(applied.deltas[waiting])
        self._add(self.pending, transmit, receive)
        transmit, receive = exact_bytes(applied.deltas[waiting | decided])
        self._add(self.observed, transmit, receive)
        self.ignored += sum(exact_bytes(applied.deltas[series == IGNORED]))

    def _close(self, rows: Rows) -> None:
        series = self.table.columns.series[rows]
        credited = series[series >= 0]
        if len(credited):
            self.series_table.closed(credited)
        self._free(rows[(series != PENDING) & ~bursts.is_unconfirmed(self.table.columns, rows)])

    def _credit_group(self, state: State, owners: Owners, reason: str, rows: Rows, now: float) -> None:
        """Credit flows to the series of their owners: all their bytes if they were pending, else the later ones."""
        columns = self.table.columns
        kind = _KINDS.get(state, "unattributed")
        owned = (kind, tuple(sorted(owners)), "") if state in _KINDS else (kind, (), reason)
        ids = self._series_choice.ids(owned, rows, now)
        before, resumed = columns.series[rows], bursts.is_unconfirmed(columns, rows)
        is_open = columns.flags[rows] & _OPEN != 0
        was_pending = before == PENDING
        amount = np.where(resumed[:, None], columns.unsettled[rows], columns.total(rows))[was_pending | resumed]
        begins = ~resumed | (before != ids)  # else the same flow of the series continues
        if (resumed & begins).any():
            bursts.leave_earlier(columns, rows[resumed & begins], self._report)
        bursts.settle(columns, rows[resumed])
        self.series_table.closed(before[(before >= 0) & is_open & begins])
        columns.series[rows] = ids
        new = begins & bursts.note_counted(columns, rows, ids, owned=state is State.ATTRIBUTED)
        self.series_table.opened(ids[begins], new[begins])
        self.series_table.closed(ids[begins & ~is_open])
        self.series_table.credit(ids[was_pending | resumed], *amount.T, now=now)
        self.series_table.retransmitted(ids[was_pending], columns.resent[rows[was_pending]].astype(np.uint64))
        self.delays.decide(columns, rows, state, new=was_pending, named=state in _KINDS, now=now)
        transmit, receive = exact_bytes(amount)
        self._add(self.pending, -transmit, -receive)
        self.pending_flows -= int(np.count_nonzero(was_pending | resumed))
        self._free(rows[~is_open])

    def _free(self, rows: Rows) -> None:
        """Report flows that leave, and free their rows."""
        self._report(rows)
        self.attribution.continuity.left(rows)
        self.table.free(rows)

    def _report(self, rows: Rows) -> None:
        """Report flows to the listeners and the journal."""
        for listener in self._leaving:
            listener(rows)
        if self._journal is not None:
            decided = rows[self.table.columns.series[rows] >= 0]
            if len(decided):
                self._journal.left(self.table, decided, self.attribution.decisions)

    def _shed_untracked(self, applied: Changes, now: float) -> None:
        """Account for flows that the full table did not track; the final counters of closed ones still count."""
        self.shed["table_full"] += applied.shed
        self.attribution.continuity.lapse(now)
        self.ignored += applied.shed_ignored
        if any(applied.shed_totals):
            self._count_flowless("shed", applied.shed_totals, now)

    def _evict(self, now: float, reason: Literal["unanswered", "pending"], rows: Rows) -> None:
        """Account for flows that the table evicts, and free their rows; see ``flowmap.flows.eviction``."""
        series = self.table.columns.series[rows]
        self.shed[reason] += int(np.count_nonzero(series != IGNORED))
        if reason == "pending":
            self._credit_decided([self.attribution.shed(rows, now=now)], now)
            return
        self.pending_flows -= int(np.count_nonzero(series == PENDING))
        self.series_table.closed(series[series >= 0])
        self.attribution.continuity.left(rows)
        self.table.free(rows)

    @staticmethod
    def _add(pair: list[int], transmit: int, receive: int) -> None:
        pair[0] += transmit
        pair[1] += receive
