"""Records of flows in columns: what every source delivers and the flow table takes."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, IntFlag
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.generic]


class RecordKind(IntEnum):
    """What a record says about its flow."""

    OPENED = 1
    """The flow began now (conntrack NEW)."""
    UPDATED = 2
    """The flow is open and something changed (conntrack UPDATE)."""
    DUMPED = 3
    """The flow was in a full read (dump)."""
    CLOSED = 4
    """The flow is over; its counters, where present, are final (conntrack DESTROY, socket destroyed)."""
    MEASURED = 5
    """What another source knows of a flow that is there (``HEALTH``, ``PRESENT``, ``ENDING``). Never opens a flow,
    never counts; a batch has only such records, or none."""


class Flag(IntFlag):
    """Facts about one record."""

    COUNTERS = 1
    """The byte and packet columns are valid, absolute since the flow began."""
    TRANSLATED = 2
    """NAT: the translated ends differ from the original ones."""
    ENDING = 4
    """The connection is closing or closed, though the kernel still keeps it: an end that said it is done (FIN, RST)
    may be gone, and its address with it. TCP from the first FIN on, CLOSE_WAIT included."""
    GUESSED = 8
    """Which end is the client is a guess."""
    HEALTH = 16
    """``retransmits`` and ``round_trip`` are valid."""
    REPLIED = 32
    """Traffic was seen in both directions."""
    PRESENT = 64
    """The client's own socket is on this host: as long as the flow is open, its client is there."""
    END_UNANNOUNCED = 128
    """The flow may be older than the source's listening, and the kernel may never announce its end: until an event
    for it comes, only its being in a full read says that it is alive."""
    PICKED_UP = 256
    """The flow was picked up in the middle: it may be much older than its first record, where its counters begin."""
    DOUBTFUL = 512
    """Changes were lost, the end of this flow may be among them: known to be alive only up to its record before."""
    ASSURED = 1024
    """Both ends take part: TCP's handshake is complete, or the server answered where there is none."""
    OFFLOADED = 2048
    """A flowtable forwards the packets, past conntrack: the counters may stand still while traffic flows."""
    HARDWARE = 4096
    """With ``OFFLOADED``: the network card forwards them."""


COLUMNS: dict[str, np.dtype[np.generic]] = {
    name: np.dtype(kind)
    for name, kind in {
        "kind": np.uint8,  # Kind
        "flags": np.uint16,  # Flag
        "protocol": np.uint8,  # IANA number
        "zone": np.uint16,  # conntrack zone, else 0
        "id": np.uint64,  # kernel's identity of the flow: conntrack id, socket cookie; 0 if none
        # The ends as the client sees them (conntrack original tuple).
        "client_high": np.uint64,
        "client_low": np.uint64,
        "client_port": np.uint16,
        "server_high": np.uint64,
        "server_low": np.uint64,
        "server_port": np.uint16,
        # The ends as the server sees them (conntrack reply tuple, turned round); equal to the above without NAT.
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
    }.items()
}
"""Name and type of every column of a FlowBatch. Ports are 0 for protocols without ports."""


class Datagrams(NamedTuple):
    """Netlink datagrams as they were read; decoding them again gives the same records."""

    data: bytes | memoryview
    """A view holds them only until the source is asked for its next step."""
    starts: Sequence[int]
    """Offset of each datagram; the first is 0, all are multiples of 4, as is the size of ``data``."""
    marked: int = 0
    """Flags that the source set on every record besides."""


class Moments(NamedTuple):
    """When what each record tells happened; one entry a record, in seconds on the clock of the steps.

    For sources that know it of each record. Of others it is known of the batch: between two reads of the source.
    """

    before: npt.NDArray[np.float64]
    """An instant after which it happened: up to here nothing of it had."""
    by: npt.NDArray[np.float64]
    """An instant by which it had happened."""
    sent: npt.NDArray[np.float64]
    """When the client sent its last packet that is counted; -inf if it sent none."""

    def take(self, index: npt.NDArray[np.generic] | slice) -> Moments:
        """Those of the records at ``index``."""
        return Moments(self.before[index], self.by[index], self.sent[index])


class FlowBatch:
    """``n`` records in arrival order; one numpy array of length ``n`` per name in :data:`COLUMNS`, as attributes."""

    __slots__ = (*COLUMNS, "_n", "datagrams", "moments")

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
    datagrams: Datagrams | None
    """What all records were decoded from, where the source says so; other batches made of them have none."""
    moments: Moments | None
    """When each record happened, where the source knows; not in recordings."""

    def __init__(self, n: int) -> None:
        """``n`` records with every column zero."""
        self._n = n
        self.datagrams = None
        self.moments = None
        for name, dtype in COLUMNS.items():
            setattr(self, name, np.zeros(n, dtype))

    def __len__(self) -> int:
        return self._n

    def columns(self) -> dict[str, Column]:
        """The arrays by name (not copies)."""
        return {name: getattr(self, name) for name in COLUMNS}

    def take(self, index: npt.NDArray[np.generic] | slice) -> FlowBatch:
        """The records at ``index`` (integers, a mask or a slice), in that order."""
        taken = FlowBatch.__new__(FlowBatch)
        for name in COLUMNS:
            setattr(taken, name, getattr(self, name)[index])
        taken._n, taken.datagrams = len(taken.kind), None
        taken.moments = None if self.moments is None else self.moments.take(index)
        return taken

    def rows(self) -> list[tuple[int, ...]]:
        """Every record as a tuple in column order: for comparison in tests, not for the hot path."""
        return list(zip(*(getattr(self, name).tolist() for name in COLUMNS), strict=True))

    @classmethod
    def concatenate(cls, batches: list[FlowBatch]) -> FlowBatch:
        """One batch of all records, in order; without moments, if there are several."""
        if len(batches) == 1:
            return batches[0]
        joined = cls.__new__(cls)
        for name, dtype in COLUMNS.items():
            parts = [getattr(batch, name) for batch in batches]
            setattr(joined, name, np.concatenate(parts) if parts else np.zeros(0, dtype))
        joined._n, joined.datagrams, joined.moments = len(joined.kind), None, None
        return joined
