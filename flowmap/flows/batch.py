"""Records of flows in columns: what every source delivers and the flow table takes."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, IntFlag
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from flowmap.flows.column_batch import ColumnBatch


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


class FlowBatch(ColumnBatch):
    """Records of flows in arrival order, in the columns of :data:`COLUMNS`."""

    __slots__ = (*COLUMNS, "datagrams")

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
    datagrams: Datagrams | None
    """What all records were decoded from, where the source says so; other batches made of them have none."""

    def __init__(self, n: int) -> None:
        """``n`` records with every column zero."""
        super().__init__(n)
        self.datagrams = None

    @classmethod
    def _blank(cls) -> Self:
        made = super()._blank()
        made.datagrams = None
        return made
