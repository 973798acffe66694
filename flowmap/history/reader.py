"""Answers questions about the past from the history file, in threads beside its writer.

Each question has a read-only connection of its own and a time limit. It reads blocks from the newest to the oldest in
steps. Between two steps the log may be emptied and small blocks may be merged: a flow can move to another block, but
keeps its number.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import NamedTuple
from urllib.parse import quote

import numpy as np

from flowmap.attribute.answers.intervals import OwnershipInterval
from flowmap.attribute.questions import CONFIDENCE, Question, Shape
from flowmap.errors import DecodeError, HistoryError, QueryError
from flowmap.flows.index.endpoints import EndpointKey
from flowmap.flows.index.lookups import LookupIndex
from flowmap.flows.index.ports import unpack, unpack_nat
from flowmap.history import bloom
from flowmap.history.block import Block
from flowmap.history.closed_flows import MICROSECONDS, Fact, StoredDecision
from flowmap.history.file import translated
from flowmap.history.intervals import intervals_at
from flowmap.history.matching import BlockMatcher, microseconds, totals
from flowmap.history.stored import StoredFlow
from flowmap.model.address import Address, Endpoint, protocol_name
from flowmap.model.deployment import DeploymentInfo
from flowmap.model.views import Connection, Evidence, FlowFilter, FlowView, Lookup, PeerSeen, Traffic

QUERY_SECONDS = 8.0
"""Time limit of one question."""
MOST_A_STEP = 64
"""Largest number of blocks read in one transaction."""
MOST_OF_ONE = 10
"""Flows read for one of many connections. More tell only that their owners differ."""
_NEWEST = (1 << 63) - 1


class StoredPage(NamedTuple):
    """A page of a listing, the latest end first. ``below`` is None on the last page."""

    flows: tuple[StoredFlow, ...]
    below: int | None


class HistoryReader:
    """Reads the history file. The methods block; they raise HistoryError if the file cannot be read, and QueryError for
    a question that takes too long."""

    def __init__(
        self,
        path: str,
        *,
        peer_name: Callable[[EndpointKey], str],
        translated_ends: bool,
        seconds: float = QUERY_SECONDS,
    ) -> None:
        self._path = path
        self._peer_name = peer_name
        self._translated = translated_ends
        self._seconds = seconds
        self.unreadable = 0
        """Number of blocks that could not be decoded and were left out of an answer."""
        self._closed = False

    def close(self) -> None:
        """Cancel the current questions: the daemon stops."""
        self._closed = True

    def flows(self, wanted: FlowFilter, limit: int, below: int | None = None) -> StoredPage:
        """Flows that match, the last stored first; ``below``: only flows with a smaller number."""
        found: list[StoredFlow] = []
        with self._database() as database:
            for seq, reading, size in self._blocks(database, *wanted.window, below or _NEWEST):
                rows = np.flatnonzero(reading.passes(wanted, self._peer_name)[:size])[::-1]
                for row in rows.tolist():
                    if len(found) == limit:
                        return StoredPage(tuple(found), seq + row + 1)
                    found.append(_stored(reading, row, sure=True))
        return StoredPage(tuple(found), None)

    def at(self, wanted: Connection, moment: float) -> list[StoredFlow]:
        """Flows between these endpoints that were, or may have been, open at the moment; at most about 1000."""
        key = bloom.key_of(*wanted.ends)
        found: list[StoredFlow] = []
        with self._database() as database:
            for _, reading, size in self._blocks(database, moment, moment, _NEWEST, key=key):
                mask = reading.between(wanted)
                mask &= reading.within(moment, moment)
                mask[size:] = False
                sure = reading.surely_at(moment) if mask.any() else mask
                found += [_stored(reading, row, sure=bool(sure[row])) for row in np.flatnonzero(mask).tolist()]
                if len(found) >= 1000:
                    break
        return found

    def at_several(self, lookups: Sequence[Lookup], moment: float) -> list[list[StoredFlow]]:
        """For each lookup the flows that were, or may have been, open at the moment: the latest stored, at most 10."""
        index = LookupIndex(lookups)
        found: list[list[StoredFlow]] = [[] for _ in lookups]
        with self._database() as database:
            for _, reading, size in self._blocks(database, moment, moment, _NEWEST):
                open_then = reading.within(moment, moment)
                open_then[size:] = False
                sure = reading.surely_at(moment)
                for flows, positions in zip(found, reading.of_lookups(index), strict=True):
                    rows = positions[open_then[positions]][::-1][: MOST_OF_ONE - len(flows)]
                    flows += [_stored(reading, row, sure=bool(sure[row])) for row in rows.tolist()]
        return found

    def last(self, wanted: Connection) -> list[StoredFlow]:
        """The flow between these endpoints with the latest end, and those of other network namespaces about then."""
        now = time.time()
        with self._database() as database:
            for _, reading, size in self._blocks(database, 0.0, now, _NEWEST, key=bloom.key_of(*wanted.ends)):
                rows = np.flatnonzero(reading.between(wanted)[:size])
                if len(rows):
                    newest = rows[np.argsort(reading["ended_by"][rows], kind="stable")][::-1]
                    _, first = np.unique(reading["namespace"][newest], return_index=True)
                    sure = reading.surely_at(now)
                    return [_stored(reading, row, sure=bool(sure[row])) for row in newest[np.sort(first)].tolist()]
        return []

    def peers(self, deployment: str | None, since: float, until: float, below: int | None = None) -> list[PeerSeen]:
        """Peers in flows open between the two times, with all bytes of these flows; of a deployment (id or name), or of
        all flows for None."""
        seen: dict[object, PeerSeen] = {}
        with self._database() as database:
            for _, reading, size in self._blocks(database, since, until, below or _NEWEST):
                if deployment is None:
                    mask = reading.within(since, until)
                elif (mask := reading.of_deployment(deployment)).any():
                    mask &= reading.within(since, until)
                for one in self._tally(reading, np.flatnonzero(mask[:size])):
                    seen[one.place] = seen[one.place].joined(one) if one.place in seen else one
        return list(seen.values())

    def intervals(self, questions: Iterable[Question], moment: float) -> Mapping[Question, list[OwnershipInterval]]:
        """For each question the intervals that confirm owners for the moment."""
        with self._database() as database, translated(self._path):
            return {
                question: [interval.interval for interval in intervals_at(database, question, moment)]
                for question in questions
            }

    def _tally(self, reading: BlockMatcher, rows: np.ndarray) -> Iterator[PeerSeen]:
        if not len(rows):
            return
        services, service_of = reading.services(rows)
        pairs = np.stack((service_of, reading["decision"][rows].astype(np.intp)), axis=1)
        distinct, group = np.unique(pairs, axis=0, return_inverse=True)
        group = group.reshape(-1)
        names = ("transmit_bytes", "receive_bytes", "transmit_packets", "receive_packets")
        sums = totals((reading[name][rows] for name in names), group, len(distinct))
        counts = np.bincount(group, minlength=len(distinct)).tolist()
        first, last = np.full(len(distinct), _NEWEST), np.zeros(len(distinct), np.int64)
        np.minimum.at(first, group, reading["born_by"][rows])
        np.maximum.at(last, group, reading["ended_by"][rows])
        for n, (service, decision) in enumerate(distinct.tolist()):
            sent, received, packets_sent, packets_received = (column[n] for column in sums)
            traffic = Traffic(sent, received, packets_sent, packets_received, connections=counts[n])
            stored = reading.decisions[decision]
            times = int(first[n]) / MICROSECONDS, int(last[n]) / MICROSECONDS
            key = services[service]
            yield PeerSeen(
                self._peer_name(key), protocol_name(key.protocol), traffic, stored.owners, *times, stored.state
            )

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        with translated(self._path):
            database = sqlite3.connect(f"file:{quote(self._path)}?mode=ro", uri=True, timeout=0.5, isolation_level=None)
        with closing(database):
            until = time.monotonic() + self._seconds
            database.set_progress_handler(lambda: self._closed or time.monotonic() > until, 20_000)
            yield database

    def _blocks(
        self, database: sqlite3.Connection, since: float, until: float, below: int, *, key: int | None = None
    ) -> Iterator[tuple[int, BlockMatcher, int]]:
        """Blocks that may have flows open between the two times (with ``key``: of that connection), the newest first.

        Yields the number of the first flow, the block, and how many of its flows are below ``below``.
        """
        end = time.monotonic() + self._seconds
        first, last = microseconds(since), microseconds(until)
        step = MOST_A_STEP if key is not None else 1  # so that a first page reads few blocks
        while True:
            step = min(MOST_A_STEP, 2 * step)
            with self._step(database, end):
                listed = database.execute(_CANDIDATES, (last, below, last, first, step)).fetchall()
                chosen = [seq for seq, made in listed if key is None or bloom.may_hold(made, key)]
                read = [(seq, self._read(database, seq)) for seq in chosen]
            for seq, data in read:
                if self._closed or time.monotonic() > end:
                    raise self._too_long()
                if data is not None and (block := self._decoded(data)) is not None:
                    yield seq, BlockMatcher(block, translated=self._translated), min(len(block), below - seq)
            if len(listed) < step:
                return
            below = listed[-1][0]

    def _read(self, database: sqlite3.Connection, seq: int) -> bytes | None:
        row = database.execute("SELECT data FROM block WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else row[0]

    def _decoded(self, data: bytes) -> Block | None:
        try:
            return Block(data)
        except DecodeError:
            self.unreadable += 1
            return None

    @contextmanager
    def _step(self, database: sqlite3.Connection, end: float) -> Iterator[None]:
        """A read transaction, kept short because it prevents the log from being emptied."""
        try:
            with translated(self._path):
                database.execute("BEGIN")
                yield
                database.execute("COMMIT")
        except HistoryError as error:
            if self._closed or time.monotonic() > end:
                raise self._too_long() from error
            raise

    def _too_long(self) -> QueryError:
        return QueryError(f"the search of the history took over {self._seconds:.0f} s; narrow the question")


# Within the usual lives of a block the filter of all its flows applies, outside that of lasting flows.
_CANDIDATES = """
SELECT seq, CASE WHEN usual <= ? THEN filter ELSE lasting END
FROM block WHERE seq < ? AND first <= ? AND last >= ? ORDER BY seq DESC LIMIT ?
"""


def _stored(reading: BlockMatcher, row: int, *, sure: bool) -> StoredFlow:
    decision = reading.decisions[int(reading["decision"][row])]
    flags = int(reading["flags"][row])
    unbounded = bool(flags & (Fact.UNBOUNDED | Fact.PREEXISTING))
    after = -np.inf if unbounded else int(reading["born_after"][row]) / MICROSECONDS
    return StoredFlow(_view(reading, row, decision, flags), _evidence(decision), decision.cause, float(after), sure)


def _view(reading: BlockMatcher, row: int, decision: StoredDecision, flags: int) -> FlowView:
    ports = unpack(int(reading["ports"][row]))
    began, ended = (int(reading[name][row]) / MICROSECONDS for name in ("born_by", "ended_by"))
    return FlowView(
        protocol_name(ports.protocol),
        _endpoint(reading, row, "client", ports.client),
        _endpoint(reading, row, "server", ports.server),
        _behind(reading, row) if flags & Fact.TRANSLATED else None,
        None if flags & Fact.PREEXISTING else began,
        None if flags & Fact.CUT else ended,
        int(reading["transmit_bytes"][row]),
        int(reading["receive_bytes"][row]),
        int(reading["transmit_packets"][row]),
        int(reading["receive_packets"][row]),
        state=decision.state,
        deployments=tuple(DeploymentInfo(owner) for owner in decision.owners),
        guessed=bool(flags & Fact.GUESSED),
        source=decision.source,
        local=reading.local(row),
        namespace=reading.namespace(row),
    )


def _behind(reading: BlockMatcher, row: int) -> tuple[Endpoint, Endpoint]:
    client, server = unpack_nat(int(reading["translated_ports"][row]))
    return _endpoint(reading, row, "translated_client", client), _endpoint(reading, row, "translated_server", server)


def _endpoint(reading: BlockMatcher, row: int, name: str, port: int) -> Endpoint:
    return Endpoint(Address(int(reading[f"{name}_high"][row]), int(reading[f"{name}_low"][row])), port)


def _evidence(decision: StoredDecision) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(piece.shape, CONFIDENCE[Shape(piece.shape)], None, None, "history", piece.rule, piece.owners)
        for piece in decision.evidence
    )
