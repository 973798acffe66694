"""One full read (dump) of the conntrack table, on its own socket."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import Executor, wait

import numpy as np

from flowmap.errors import SourceDenied, SourceError
from flowmap.flows.records.batch import Datagrams, FlowBatch
from flowmap.sources.netlink_socket import NETLINK_NETFILTER, TRANSIENT, NetlinkSocket, Received
from flowmap.wire.netlink.conntrack import DecodedEntries, encode_dump_request
from flowmap.wire.netlink.conntrack_columns import ColumnDecoder

CHUNK = 4 << 20
"""Bytes read and decoded at a time, about 15,000 entries."""
TIMEOUT = 5.0
"""Seconds without an answer after which the dump is abandoned."""


class Dump:
    """A dump to use once: iterate ``batches`` to the end, then read ``complete``.

    Each dump has its own socket, so the rest of an earlier dump is never mistaken for a part of this one.
    """

    def __init__(self, decoder: ColumnDecoder, ahead: Executor | None = None, *, marked: int = 0) -> None:
        """``ahead`` reads the next part while one is decoded; None: the calling thread does both.

        ``marked``: additional flags of every entry.
        """
        self._decoder = decoder
        self._ahead = ahead
        self._marked = marked
        self.complete = False
        """The kernel sent the end of the dump, and no part is missing or inconsistent."""
        self.malformed = 0

    def batches(self) -> Iterator[FlowBatch]:
        """The entries in parts, IPv4 and IPv6; SourceDenied or SourceError if the kernel refuses."""
        dump = NetlinkSocket(NETLINK_NETFILTER, chunk=CHUNK, buffers=2)
        try:
            # The columnar decoder finds messages by the sequence number, so it must be rare in their contents.
            dump.send(encode_dump_request(secrets.randbits(31) | 1 << 30))
            yield from self._decode(_read_ahead(dump, self._ahead))
        finally:
            dump.close()

    def _decode(self, parts: Iterator[Received]) -> Iterator[FlowBatch]:
        sound = True
        for received in parts:
            decoded = self._decoder.decode(received.data, received.starts)
            self.malformed += decoded.malformed
            lost = received.overrun or received.truncated or decoded.unframed or decoded.interrupted
            sound = sound and not lost
            if len(decoded.batch):
                decoded.batch.flags |= np.uint16(self._marked)
                decoded.batch.datagrams = Datagrams(received.data, received.starts, self._marked)
                yield decoded.batch
            if decoded.end is not None:
                self.complete = self._is_final(decoded) and sound
                return

    def _is_final(self, decoded: DecodedEntries) -> bool:
        end = decoded.end
        if end is None or end.errno in TRANSIENT:
            return False
        if not end.errno:
            return True
        message = f"cannot read the conntrack table: {end.text or os.strerror(end.errno)}"
        if end.errno in (errno.EPERM, errno.EACCES):
            raise SourceDenied(message, remedy="run as root or with CAP_NET_ADMIN")
        raise SourceError(message, remedy="modprobe nf_conntrack_netlink")


def _read_ahead(dump: NetlinkSocket, ahead: Executor | None) -> Iterator[Received]:
    """The dump in parts, until no part arrives within the timeout.

    The kernel creates a dump while it is read, without the interpreter's lock. So another thread reads the next part
    while the caller decodes this one.
    """
    received = dump.receive(wait=TIMEOUT)
    if received.drained or ahead is None:  # a single part, or no thread to read ahead
        while received.starts:
            yield received
            received = dump.receive(wait=TIMEOUT)
        return
    while received.starts:
        next_part = ahead.submit(dump.receive)
        try:
            yield received
        finally:  # a caller that stops here closes the socket
            wait([next_part])
        received = next_part.result()
        if not received.starts and not received.overrun:
            received = dump.receive(wait=TIMEOUT)
