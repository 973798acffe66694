"""Answers questions about the past of all hosts from the store: the views `connections`, `hosts` and the rollups.

Each answer is bounded: by rows, and by a time limit that the server keeps.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from flowmap.clickhouse import filters
from flowmap.clickhouse.filters import Question, Value
from flowmap.clickhouse.initialising import explained
from flowmap.clickhouse.schema import ENDS
from flowmap.clickhouse.server import NARROWER
from flowmap.clickhouse.stored_rows import CONNECTION, MICROSECONDS, Row, keys_of, known, of_lookups, stored
from flowmap.errors import HistoryError, QueryError
from flowmap.history.stored import StoredFlow
from flowmap.model.address import Address, Endpoint, protocol_name
from flowmap.model.deployment import Owner, State
from flowmap.model.views import Connection, FlowFilter, Lookup, PeerSeen, PeerWindow, Traffic

MOST_AT = 1000
"""Connections between two endpoints at a moment. More tell only that their owners differ."""
MOST_OF_ONE = 10
"""Connections of one of many lookups."""
MOST_AT_SEVERAL = 50_000
"""Connections read for many lookups."""
MOST_PEERS = 100_000
"""Entries of an answer about peers."""
MOST_HOSTS = 10
"""Hosts that are named one by one if they are behind."""
NAMES_AT_ONCE = 500
"""Deployments whose names are read in one question."""
BEHIND_AFTER = 240.0
"""Seconds after which a host is behind: the kernel keeps a closed connection for two minutes, and a host reports every
minute."""
SUMMED_AFTER = 900.0
"""Seconds after which connections that ended are in the sums by minute: the server refreshes these every 5 minutes."""
UNANSWERED = f"{NARROWER}; `flowmap fleet check` tests the server"
"""What to do about a question that was not answered in time."""
Place = tuple[int, int, int, str]
"""The end in µs, the history file, the number and the host of a connection: :data:`_ORDER`."""
SLICE = 60.0
"""Seconds of the newest part of a listing."""
_CURSOR = re.compile(r"(\d{1,18})\.(\d{1,20})\.(\d{1,20})\.(.{0,255})", re.DOTALL)

_SELECT = ", ".join(CONNECTION.values())
_ORDER = "(toUnixTimestamp64Micro(ended), spool, number, host)"


class Selected(NamedTuple):
    """Where traffic by peer is read from."""

    source: str
    service: str
    """Address and port of a service endpoint that has no name; else an empty text and 0."""
    figures: str
    """Number of connections, and in µs the earliest start and the latest end."""


Select = Callable[[Question, float, float, Sequence[str] | None], Selected]


class Sums(NamedTuple):
    """A view with sums of connections, by the time in which they ended."""

    table: str
    seconds: int

    def select(self, question: Question, since: float, until: float, keys: Sequence[str] | None) -> Selected:
        """Requires the sums of connections that ended between the two times."""
        question.require(f"start >= {question.moment(since)} AND start < {question.moment(until)}")
        first, last = (f"toUInt64(toUnixTimestamp({side}(start)))" for side in ("min", "max"))
        figures = f"sum(connections), 1000000 * {first}, 1000000 * ({last} + {self.seconds})"
        return Selected(self.table, "if(peer = '', '*', ''), if(peer = '', server_port, 0)", figures)


MINUTES = Sums("minutes", 60)
SUMS = (Sums("hours", 3600), Sums("days", 86400))
DAY = 86400


class Store(Protocol):
    """What asks the server: ``flowmap.clickhouse.server.Server``. The methods block.

    HistoryError if it cannot be asked, QueryError for a question that takes too long or finds too much.
    """

    def rows(self, sql: str, parameters: Mapping[str, Value]) -> list[list[Any]]:
        """The rows of a query. ``parameters``: for ``{name:Type}`` in it."""

    def close(self) -> None:
        """Cancel the current queries."""


class StoreReader:
    """Reads the store. Implements ``flowmap.query.fleet.FleetReader``."""

    def __init__(self, store: Store, *, translated_ends: bool, clock: Callable[[], float] = time.time) -> None:
        """``translated_ends``: whether the service endpoint of a peer without a name is the one after NAT."""
        self._store = store
        self._translated = translated_ends
        self._clock = clock

    def close(self) -> None:
        """Cancel the current questions."""
        self._store.close()

    def flows(self, wanted: FlowFilter, limit: int, cursor: str | None) -> tuple[Sequence[StoredFlow], str | None]:
        """Connections that match, the latest to end first, and the cursor of the next page."""
        keys = None if wanted.deployment is None else self._keys(wanted.deployment)
        if keys == []:
            return (), None
        after = None if cursor is None else _place(cursor)
        found: list[Row] = []
        for since, before in slices(*wanted.window, self._clock(), after and after[0] / MICROSECONDS):
            question = Question()
            filters.passing(question, wanted, keys)
            question.require(f"ended < {question.moment(before)}")
            if after is not None:
                bound = [question.bind("UInt64", number) for number in after[:3]] + [question.bind("String", after[3])]
                question.require(f"{_ORDER} < ({', '.join(bound)})")
            source = _source(question, since, wanted.window[1], keys)
            most = limit + 1 - len(found)
            sql = f"SELECT {_SELECT} FROM {source} WHERE {question.where} ORDER BY {_ORDER} DESC LIMIT {most}"
            found += self._rows(sql, question)
            if len(found) > limit:
                last = found[limit - 1]
                return self._stored(found[:limit], at=None), f"{last.ended}.{last.spool}.{last.number}.{last.host}"
        return self._stored(found, at=None), None

    def at(self, wanted: Connection, moment: float) -> list[StoredFlow]:
        """Connections between these endpoints that were, or may have been, open at the moment."""
        return self._between(wanted, moment, moment, at=moment)

    def at_several(self, lookups: Sequence[Lookup], moment: float) -> list[list[StoredFlow]]:
        """For each lookup the connections that were, or may have been, open at the moment: at most 10."""
        question = Question()
        question.require(filters.touching(question, dict.fromkeys(lookup.client.address for lookup in lookups)))
        source = _source(question, moment, moment)
        most = MOST_AT_SEVERAL
        sql = f"SELECT {_SELECT} FROM {source} WHERE {question.where} ORDER BY {_ORDER} DESC LIMIT {most + 1}"
        rows = self._rows(sql, question)
        if len(rows) > most:
            raise QueryError(f"these addresses had over {most:,} connections at that time; ask about fewer at once")
        chosen = [numbers[:MOST_OF_ONE] for numbers in of_lookups(rows, lookups)]
        flows = iter(self._stored([rows[number] for numbers in chosen for number in numbers], at=moment))
        return [[next(flows) for _ in numbers] for numbers in chosen]

    def last(self, wanted: Connection) -> StoredFlow | None:
        """The connection between these endpoints with the latest end, or None."""
        question = _of_connection(wanted)
        life = "toUnixTimestamp64Micro(argMax(started, ended)), toUnixTimestamp64Micro(max(ended))"
        ends = " UNION ALL ".join(
            f"SELECT started, ended FROM ends WHERE {way} AND {question.where}"
            for way in (filters.of_addresses(question, wanted), "translated")
        )
        sql = f"SELECT {life} FROM ({ends}) HAVING count() > 0"
        for started, ended in self._ask(sql, question.parameters):
            # The row of another host may count, with other times: it is open at some moment of this one.
            found = self._between(wanted, started / MICROSECONDS, ended / MICROSECONDS, at=None)
            return found[0] if found else None
        return None

    def _between(self, wanted: Connection, since: float, until: float, *, at: float | None) -> list[StoredFlow]:
        question = _of_connection(wanted)
        source = _source(question, since, until)
        sql = f"SELECT {_SELECT} FROM {source} WHERE {question.where} ORDER BY {_ORDER} DESC LIMIT {MOST_AT}"
        return self._stored(self._rows(sql, question), at=at)

    def peers(self, deployment: str | None, since: float, until: float) -> PeerWindow:
        """Peers in connections open between the two times, of a deployment (id or name) or of all.

        Connections whose rows are no longer kept, or too many to be read in time, are known from sums. One connection
        is in the sums or in the rows, by its end. Sums have no addresses: a peer without a name is ``*:port`` there.
        """
        keys = None if deployment is None else self._keys(deployment)
        if keys == []:
            return PeerWindow(since, until, ())
        kept_from, sums = self._kept(since)
        rows: list[list[Any]] = []
        sums_until: float | None = None
        if sums is not None:
            since = since // sums.seconds * sums.seconds
            sums_until = min(until, kept_from)
            rows += self._grouped(sums.select, keys, since, sums_until)
        if sums is None or until >= kept_from:
            begin = since if sums is None else kept_from
            try:
                rows += self._grouped(self._select_rows, keys, begin, until)
            except QueryError:  # too many rows: their sums by minute are a thousand times fewer
                summed = min(until, self._clock() - SUMMED_AFTER) // MINUTES.seconds * MINUTES.seconds
                begin = begin // MINUTES.seconds * MINUTES.seconds
                if summed <= begin:
                    raise
                since, sums_until = min(since, begin), summed
                rows += self._grouped(MINUTES.select, keys, begin, summed)
                rows += self._grouped(self._select_rows, keys, summed, until)
        owners = self._owners(key for row in rows for key in row[_OWNERS])
        peers = tuple(_peer(row, owners) for row in rows)
        return PeerWindow(since, until, peers, sums_until=sums_until)

    def _grouped(self, select: Select, keys: Sequence[str] | None, since: float, until: float) -> list[list[Any]]:
        question = Question()
        filters.passing(question, FlowFilter(), keys)
        part = select(question, since, until, keys)
        sql = (
            f"SELECT {_PLACE}, {part.service}, {_BYTES}, {part.figures} FROM {part.source} WHERE {question.where} "
            f"GROUP BY {_PLACE}, {part.service} LIMIT {MOST_PEERS + 1}"
        )
        rows = self._ask(sql, question.parameters)
        if len(rows) > MOST_PEERS:
            raise QueryError(f"there are over {MOST_PEERS:,} peers; ask about one deployment or a shorter time")
        return rows

    def _select_rows(self, question: Question, since: float, until: float, keys: Sequence[str] | None) -> Selected:
        address, port = "server", "server_port"
        if self._translated:
            address, port = (f"if(translated, translated_{name}, {name})" for name in (address, port))
        service = f"if(peer = '', IPv6NumToString({address}), ''), if(peer = '', {port}, 0)"
        figures = "count(), min(toUnixTimestamp64Micro(started)), max(toUnixTimestamp64Micro(ended))"
        return Selected(_source(question, since, until, keys), service, figures)

    def _kept(self, since: float) -> tuple[float, Sums | None]:
        """From when on all rows of connections are kept, and where to read what ended before; None: nothing did."""
        ((rows_from,),) = self._ask(f"SELECT toUnixTimestamp(min(ended)) FROM {ENDS}", {})
        whole = (rows_from // DAY + 1) * DAY  # rows are removed by day, and none of this day
        whole -= DAY if whole > self._clock() else 0
        if since >= whole:
            return whole, None
        starts = {sums: self._ask(f"SELECT toUnixTimestamp(min(start)) FROM {sums.table}_1", {})[0][0] for sums in SUMS}
        earlier = [sums for sums, start in starts.items() if 0 < start < rows_from // DAY * DAY]
        if not rows_from or not earlier:
            return whole, None
        return whole, next((sums for sums in earlier if starts[sums] <= since), earlier[-1])

    def missing(self, since: float, until: float, *, rows: bool) -> tuple[str, ...]:
        """What the store lacks of this window, a line each. ``rows``: also connections that it has as sums only."""
        lines = self._behind(until)
        kept_from, sums = self._kept(since) if rows else (0.0, None)
        if sums is not None:
            lines.append(f"connections that ended before {_written(kept_from)} are kept as sums only")
        return tuple(lines)

    def _behind(self, until: float) -> list[str]:
        """A line for each host that has not sent everything that ended before ``until``."""
        question = Question()
        edge = question.moment(min(until, self._clock() - BEHIND_AFTER))
        question.require(f"complete_until < {edge}")
        sql = (
            "SELECT host, toUnixTimestamp(complete_until), count() OVER () "
            f"FROM hosts WHERE {question.where} ORDER BY complete_until, host LIMIT {MOST_HOSTS}"
        )
        rows = self._ask(sql, question.parameters)
        if not rows and self._ask("SELECT count() FROM hosts", {}) == [[0]]:
            return ["no host reports to the store: none has sent flows yet, or the last one was removed long ago"]
        lines = [
            f"{host} is behind: its connections that ended after {_written(at)} are missing" for host, at, _ in rows
        ]
        if rows and rows[0][2] > len(rows):
            lines.append(f"{rows[0][2] - len(rows)} more hosts are behind")
        return lines

    def _ask(self, sql: str, parameters: Mapping[str, Value]) -> list[list[Any]]:
        """The rows of a query; a HistoryError says which flowmap can use the tables, or how to ask for less."""
        try:
            return self._store.rows(sql, parameters)
        except HistoryError as error:
            if error.reason == "timeout":  # no second question: it would not be answered either
                raise HistoryError(str(error), reason=error.reason, remedy=UNANSWERED) from error
            raise explained(error, self._store) from error

    def _rows(self, sql: str, question: Question) -> list[Row]:
        return [Row(*row) for row in self._ask(sql, question.parameters)]

    def _stored(self, rows: Sequence[Row], *, at: float | None) -> list[StoredFlow]:
        owners = self._owners(key for row in rows for key in keys_of(row))
        moment = None if at is None else round(at * MICROSECONDS)
        return [stored(row, owners, at=moment) for row in rows]

    def _keys(self, deployment: str) -> list[str]:
        """The keys of the deployments with this id or name."""
        question = Question()
        named = question.bind("String", deployment)
        sql = f"SELECT key FROM deployments WHERE deployment_id = {named} OR name = {named} ORDER BY key LIMIT 1000"
        return [str(key) for (key,) in self._ask(sql, question.parameters)]

    def _owners(self, keys: Iterable[str]) -> Mapping[str, Owner]:
        """Deployments by their keys. One without a name is called by its key."""
        wanted = list(dict.fromkeys(keys))
        owners = {key: Owner("", "", key, key) for key in wanted}
        for first in range(0, len(wanted), NAMES_AT_ONCE):
            question = Question()
            some = filters.is_one_of("key", question.bind("Array(String)", wanted[first : first + NAMES_AT_ONCE]))
            sql = f"SELECT key, workspace, namespace, deployment_id, name FROM deployments WHERE {some}"
            owners |= {str(key): Owner(*names) for key, *names in self._ask(sql, question.parameters)}
        return owners


_PLACE = "peer, protocol, state, deployments, bytes"
_OWNERS = 3
"""Position of the deployments in it."""
_BYTES = "sum(transmit_bytes), sum(receive_bytes), sum(transmit_packets), sum(receive_packets)"


def _of_connection(wanted: Connection) -> Question:
    question = Question()
    question.require(filters.between(question, wanted))
    if wanted.netns is not None:
        question.require(filters.in_namespace(question, wanted.netns))
    return question


def _source(question: Question, since: float, until: float, keys: Sequence[str] | None = None) -> str:
    """The view that has every connection of a window once; of one deployment, the view that reads no others."""
    window = f"since = {question.moment(since)}, until = {question.moment(until)}"
    if keys is not None and len(keys) == 1:
        return f"connections_of({window}, deployment = {question.bind('String', keys[0])})"
    return f"connections({window})"


def slices(since: float, until: float, now: float, before: float | None) -> Iterator[tuple[float, float]]:
    """Parts of the time in which connections of a window ended, the latest first: from, and until before.

    The first ones are short, so that a page of a listing reads the newest connections only. ``before``: the page begins
    with connections that ended then.
    """
    since = max(since, filters.FIRST)
    end = filters.LAST if before is None else before + 1e-6
    begin = until if until < min(now, end) else min(now, end) - SLICE
    width = SLICE
    while end > since:
        yield max(since, begin), end
        end, begin, width = begin, begin - width, width * 8


def _place(cursor: str) -> Place:
    """What a page ended with, in the order of the listing."""
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise QueryError("not a cursor of an earlier answer", field="cursor")
    ended, file, number = (int(text) for text in match.groups()[:3])
    return ended, file, number, match[4]


def _peer(row: Sequence[Any], owners: Mapping[str, Owner]) -> PeerSeen:
    name, protocol, state, keys, counts, address, port, *figures, first, last = row
    if address:
        name = f"{address}:{port}" if address == "*" else str(Endpoint(Address.parse(address), port))
    named = tuple(sorted(owners[key] for key in keys))
    times = first / MICROSECONDS, last / MICROSECONDS
    return PeerSeen(name, protocol_name(protocol), Traffic(*figures), named, *times, known(State, state), counts)


def _written(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
