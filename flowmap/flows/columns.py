"""The columns of the flow table: one numpy array a fact, one row a flow."""

from __future__ import annotations

from enum import IntFlag, auto

import numpy as np
import numpy.typing as npt

from flowmap.flows.batch import FlowBatch
from flowmap.flows.hash_index import Hashes, Positions, Rows
from flowmap.flows.ports import client_ports, pack, protocols, server_ports, unpack, unpack_nat
from flowmap.model.address import Address, Endpoint

U64 = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

PENDING = -1
"""``series`` of a flow whose owner is not decided."""
IGNORED = -2
"""``series`` of a flow that the filters leave out."""

TRANSMIT_BYTES, RECEIVE_BYTES, TRANSMIT_PACKETS, RECEIVE_PACKETS = range(4)
"""Order of the four counters wherever they stand side by side."""


class Row(IntFlag):
    """Facts about one row; numbers hold while the process runs, no file keeps them."""

    USED = auto()
    OPEN = auto()
    """The kernel still has the flow."""
    ENDED = auto()
    """The connection is over (``ended_after``, ``ended_by`` are set), even if the kernel still keeps an entry."""
    PREEXISTING = auto()
    """The flow is older than the first full read; what it carried before is not counted."""
    GUESSED = auto()
    TRANSLATED = auto()
    READ = auto()
    """Counters were read at least once (``read_at``)."""
    INDEXED = auto()
    """Records of this tuple find this row."""
    HEALTH_READ = auto()
    """Retransmissions were read at least once."""
    END_UNANNOUNCED = auto()
    """The kernel may never announce the end: only a full read says that the flow is alive."""
    PRESENT = auto()
    """While the flow is open its client is there: its socket is on this host."""
    UNANNOUNCED = auto()
    """Found by a read or a change; its opening may still be on the way."""
    PICKED_UP = auto()
    """Picked up in the middle: when it began is not known."""
    DOUBTED = auto()
    """The full read under way showed counters that went back: zeroed, or of a new flow with the same tuple and id."""
    SET_BACK = auto()
    """They were zeroed: all events from before that read are in, and told of no new flow."""
    ASSURED = auto()
    """Both ends take part; see ``flowmap.flows.eviction``."""


class FlowColumns:
    """``n`` rows. Arrays start as untouched zero pages, so room for a million flows costs nothing until it is used."""

    def __init__(self, n: int) -> None:
        self.flags = np.zeros(n, np.uint32)  # Row
        # Identity: the original tuple, the zone and the kernel's id.
        self.client_high = np.zeros(n, np.uint64)
        self.client_low = np.zeros(n, np.uint64)
        self.server_high = np.zeros(n, np.uint64)
        self.server_low = np.zeros(n, np.uint64)
        self.ports = np.zeros(n, np.uint64)  # with zone and protocol, packed: see ``flows.ports``
        self.id = np.zeros(n, np.uint64)
        # Written only for flows with NAT.
        self.translated = np.zeros((n, 4), np.uint64)  # client high, low, server high, low
        self.translated_ports = np.zeros(n, np.uint32)  # packed
        # Numbers of the ends that are asked about.
        self.client = np.zeros(n, np.int32)
        self.service = np.zeros(n, np.int32)
        self.last = np.zeros((n, 4), np.uint64)  # the kernel's counters when last read
        self.base = np.zeros((n, 4), np.uint64)  # what of ``last`` is not counted, modulo 2**64
        self.retransmits = np.zeros(n, np.uint32)  # the kernel's count when last read
        self.resent = np.zeros(n, np.uint32)  # what was observed of it
        self.round_trip = np.zeros(n, np.uint32)  # µs, 0 if never measured
        # Time, monotonic seconds. The flow began in (born_after, born_by] and ended in [ended_after, ended_by].
        self.born_after = np.zeros(n, np.float64)
        self.born_by = np.zeros(n, np.float64)
        self.ended_after = np.zeros(n, np.float64)
        self.ended_by = np.zeros(n, np.float64)
        self.active = np.zeros(n, np.float64)  # latest instant after which the client is known to have sent something
        self.read_at = np.zeros(n, np.float64)  # the counters in ``last`` are not older than this
        self.read = np.zeros(n, np.uint32)  # number of the full read that last saw the flow
        self.series = np.zeros(n, np.int32)  # where its traffic is credited; PENDING, IGNORED or a series id
        self.state = np.zeros(
            n, np.uint8
        )  # what is known of the owner; 0 while undecided, else as the attribution says
        self.verdict = np.zeros(n, np.int32)  # number of the decision, for explanations

    def reset(self, rows: Rows) -> None:
        """Clear the counters, health, end and decision that an earlier flow left in the rows."""
        for cleared in (self.last, self.base, self.retransmits, self.resent, self.round_trip, self.read_at, self.state):
            cleared[rows] = 0
        self.ended_after[rows] = self.active[rows] = -np.inf
        self.ended_by[rows] = np.inf
        self.verdict[rows] = -1

    def protocol(self, rows: Rows) -> U64:
        """IANA numbers of the rows."""
        return protocols(self.ports[rows])

    def client_port(self, rows: Rows) -> U64:
        """Client ports of the rows, before NAT."""
        return client_ports(self.ports[rows])

    def server_port(self, rows: Rows) -> U64:
        """Server ports of the rows, before NAT."""
        return server_ports(self.ports[rows])

    def endpoints_of(self, row: int) -> tuple[Endpoint, Endpoint]:
        """Client and server endpoint of one row, before NAT."""
        ports = unpack(int(self.ports[row]))
        client = Address(int(self.client_high[row]), int(self.client_low[row]))
        server = Address(int(self.server_high[row]), int(self.server_low[row]))
        return Endpoint(client, ports.client), Endpoint(server, ports.server)

    def translated_endpoints_of(self, row: int) -> tuple[Endpoint, Endpoint]:
        """Client and server endpoint of one row with NAT, as the server sees them."""
        client_high, client_low, server_high, server_low = self.translated[row].tolist()
        client_port, server_port = unpack_nat(int(self.translated_ports[row]))
        return Endpoint(Address(client_high, client_low), client_port), Endpoint(
            Address(server_high, server_low), server_port
        )

    def total(self, rows: Rows) -> U64:
        """What was observed of each row: its four counters side by side."""
        total: U64 = self.last[rows] - self.base[rows]
        return total


def key_columns(batch: FlowBatch) -> list[U64]:
    """The columns that identify a flow within its kernel: addresses, and ports with zone and protocol in one."""
    ports = pack(batch.client_port, batch.server_port, batch.zone, batch.protocol)
    return [batch.client_high, batch.client_low, batch.server_high, batch.server_low, ports]


def same_key(columns: FlowColumns, key: list[U64], keys: Positions, rows: Rows) -> Mask:
    """Whether the key at each position equals that of each row."""
    same: Mask = columns.ports[rows] == key[4][keys]
    same &= columns.client_low[rows] == key[1][keys]
    same &= columns.server_low[rows] == key[3][keys]
    same &= columns.client_high[rows] == key[0][keys]
    same &= columns.server_high[rows] == key[2][keys]
    return same


def occurrence_rounds(hashes: Hashes) -> list[Positions] | None:
    """Split a batch so that no key comes twice in one part and the records of a key keep their order.

    The n-th record of every key goes to the n-th part. None if no key repeats, as in nearly all full reads.
    """
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    repeated = ordered[1:] == ordered[:-1]
    if not repeated.any():
        return None
    position = np.arange(len(hashes))
    first = np.concatenate(([True], ~repeated))
    rank = np.empty(len(hashes), np.intp)
    rank[order] = position - np.maximum.accumulate(np.where(first, position, 0))
    return np.split(np.argsort(rank, kind="stable"), np.cumsum(np.bincount(rank))[:-1])
