"""Records of flows in columns: every source delivers them, and the flow table applies them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, IntFlag
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from flowmap.flows.records.column_batch import ColumnBatch


class RecordKind(IntEnum):
    """The event that a record reports about its flow."""

    OPENED = 1
    """The flow begins (conntrack NEW)."""
    UPDATED = 2
    """The flow is open and changed (conntrack UPDATE)."""
    DUMPED = 3
    """The flow was found in a full read (dump)."""
    CLOSED = 4
    """The flow is closed. Its counters, if present, are final (conntrack DESTROY, socket destroyed)."""
    MEASURED = 5
    """Facts from another source about an existing flow (``HEALTH``, ``PRESENT``, ``ENDING``, workloads). Never
    opens a flow and never adds bytes. A batch has only such records, or none."""


class Flag(IntFlag):
    """Facts about one record."""

    COUNTERS = 1
    """The byte and packet columns are valid and absolute since the flow began."""
    TRANSLATED = 2
    """NAT: the translated endpoints differ from the original ones."""
    ENDING = 4
    """The connection is closing or closed, and the kernel still keeps its entry. The host that sent FIN or RST may be
    gone, and its address reassigned. For TCP from the first FIN on, CLOSE_WAIT included."""
    GUESSED = 8
    """Client and server were told apart by a guess."""
    HEALTH = 16
    """``retransmits`` and ``round_trip`` are valid."""
    REPLIED = 32
    """Traffic was seen in both directions."""
    PRESENT = 64
    """The client's socket is on this host, so the client exists while the flow is open."""
    END_UNANNOUNCED = 128
    """The flow may be older than the event subscription, so the kernel may not announce its end. Until an event for
    the flow arrives, only a full read shows that it is alive."""
    PICKED_UP = 256
    """The flow was picked up in the middle: it may be much older than its first record, where its counters start."""
    DOUBTFUL = 512
    """Events were lost, perhaps the end of this flow. The flow was alive at its previous record; later is unknown."""
    ASSURED = 1024
    """Both hosts take part: the TCP handshake is complete, or the server answered (other protocols)."""
    OFFLOADED = 2048
    """A flowtable forwards the packets past conntrack, so the counters may not grow while traffic flows."""
    HARDWARE = 4096
    """With ``OFFLOADED``: the network card forwards them."""
    LEFT_OUT = 8192
    """The configuration leaves out the cgroup of its sockets: a new flow is ignored."""


COLUMNS: dict[str, np.dtype[np.generic]] = {
    name: np.dtype(kind)
    for name, kind in {
        "kind": np.uint8,  # RecordKind
        "flags": np.uint16,  # Flag
        "protocol": np.uint8,  # IANA number
        "zone": np.uint16,  # conntrack zone, else 0
        "id": np.uint64,  # kernel's identity of the flow: conntrack id, socket cookie; 0 if none
        # Endpoints as the client sees them (conntrack original tuple).
        "client_high": np.uint64,
        "client_low": np.uint64,
        "client_port": np.uint16,
        "server_high": np.uint64,
        "server_low": np.uint64,
        "server_port": np.uint16,
        # Endpoints as the server sees them (conntrack reply tuple, swapped). Without NAT equal to the above.
        "translated_client_high": np.uint64,
        "translated_client_low": np.uint64,
        "translated_client_port": np.uint16,
        "translated_server_high": np.uint64,
        "translated_server_low": np.uint64,
        "translated_server_port": np.uint16,
        # Absolute since the flow began; transmit is client to server. Valid with Flag.COUNTERS.
        "transmit_bytes": np.uint64,
        "receive_bytes": np.uint64,
        "transmit_packets": np.uint64,
        "receive_packets": np.uint64,
        "started": np.uint64,  # kernel's start time, ns since the epoch; 0 if unknown
        "retransmits": np.uint32,  # segments, absolute; with Flag.HEALTH
        "round_trip": np.uint32,  # smoothed, µs; with Flag.HEALTH
        # Numbers of the workloads (flows/workloads.py) that hold the endpoints; 0: not known to be on this host.
        "client_workload": np.uint32,
        "server_workload": np.uint32,
        "namespace": np.uint32,  # number of the network namespace (flows/namespaces.py); 0: the daemon's own
    }.items()
}
"""Name and type of every column of a FlowBatch. Ports are 0 for protocols without ports."""


class Datagrams(NamedTuple):
    """Netlink datagrams as read. Decoding them again gives the same records."""

    data: bytes | memoryview
    """A memoryview is valid only until the source's next step."""
    starts: Sequence[int]
    """Offset of each datagram. The first is 0; all are multiples of 4, as is the size of ``data``."""
    marked: int = 0
    """Additional flags that the source set on every record."""


class Moments(NamedTuple):
    """When the event of each record happened; one entry a record, in seconds on the clock of the steps.

    For sources that know the time of each record. Other sources know it for the batch: between two reads.
    """

    before: npt.NDArray[np.float64]
    """The event happened after this instant."""
    by: npt.NDArray[np.float64]
    """The event had happened by this instant."""
    sent: npt.NDArray[np.float64]
    """When the client sent its last packet before the flow ended, as reported so far; -inf if it sent none."""

    def take(self, index: npt.NDArray[np.generic] | slice) -> Moments:
        """Those of the records at ``index``."""
        return Moments(self.before[index], self.by[index], self.sent[index])


class FlowBatch(ColumnBatch):
    """Records of flows in arrival order, in the columns of :data:`COLUMNS`."""

    __slots__ = (*COLUMNS, "datagrams", "moments")

    COLUMNS = COLUMNS

    kind: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint16]
    protocol: npt.NDArray[np.uint8]
    zone: npt.NDArray[np.uint16]
    id: npt.NDArray[np.uint64]
    client_high: npt.NDArray[np.uint64]
    client_low: npt.NDArray[np.uint64]
    client_port: npt.NDArray[np.uint16]
    server_high: npt.NDArray[np.uint64]
    server_low: npt.NDArray[np.uint64]
    server_port: npt.NDArray[np.uint16]
    translated_client_high: npt.NDArray[np.uint64]
    translated_client_low: npt.NDArray[np.uint64]
    translated_client_port: npt.NDArray[np.uint16]
    translated_server_high: npt.NDArray[np.uint64]
    translated_server_low: npt.NDArray[np.uint64]
    translated_server_port: npt.NDArray[np.uint16]
    transmit_bytes: npt.NDArray[np.uint64]
    receive_bytes: npt.NDArray[np.uint64]
    transmit_packets: npt.NDArray[np.uint64]
    receive_packets: npt.NDArray[np.uint64]
    started: npt.NDArray[np.uint64]
    retransmits: npt.NDArray[np.uint32]
    round_trip: npt.NDArray[np.uint32]
    client_workload: npt.NDArray[np.uint32]
    server_workload: npt.NDArray[np.uint32]
    namespace: npt.NDArray[np.uint32]
    datagrams: Datagrams | None
    """The datagrams of all records, if the source keeps them. Batches derived from this one have none."""
    moments: Moments | None
    """When each record happened, if the source knows; not in recordings."""

    def __init__(self, n: int) -> None:
        """``n`` records with every column zero."""
        super().__init__(n)
        self.datagrams = None
        self.moments = None

    def take(self, index: npt.NDArray[np.generic] | slice) -> Self:
        """The records at ``index`` (integers, a mask or a slice), in that order, with their moments."""
        taken = super().take(index)
        taken.moments = None if self.moments is None else self.moments.take(index)
        return taken

    @classmethod
    def concatenate(cls, batches: Sequence[Self]) -> Self:
        """One batch of all records, in order. Only a single batch keeps its moments."""
        return batches[0] if len(batches) == 1 else super().concatenate(batches)

    @classmethod
    def _blank(cls) -> Self:
        made = super()._blank()
        made.datagrams = made.moments = None
        return made
