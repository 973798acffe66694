"""Assigns later fragments, which have no ports, to the flow of the first fragment."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt

from flowmap.wire.packets.packets import Mark, Packets

LIMIT = 16_384
"""Fragmented packets remembered; the oldest are removed first."""
TIMEOUT = 30.0
"""Longest time in seconds between fragments of one packet (net.ipv4.ipfrag_time)."""

_FIRST, _LATER = np.uint16(Mark.FRAGMENT_FIRST), np.uint16(Mark.FRAGMENT_LATER)
_Key = tuple[int, int, int, int, int, int]


class Fragments:
    """The ports of fragmented packets, by addresses, protocol and identification (RFC 791, RFC 8200 section 4.5)."""

    def __init__(self) -> None:
        self._ports: dict[_Key, tuple[int, int, float]] = {}

    def __len__(self) -> int:
        return len(self._ports)

    def settle(self, packets: Packets, times: npt.NDArray[np.float64]) -> tuple[Packets, int]:
        """The packets with the ports of later fragments filled in, and the number of later fragments without a first.

        Fragments are rare, so they are processed one by one, in order.
        """
        places = np.flatnonzero(packets.flags & (_FIRST | _LATER))
        if not len(places):
            return packets, 0
        settled = packets.take(slice(None))
        settled.source_port, settled.destination_port = packets.source_port.copy(), packets.destination_port.copy()
        lone = 0
        for place, key, later, source, destination, now in _facts(packets, times, places):
            if not later:
                self._remember(key, source, destination, now)
                continue
            known = self._ports.get(key)
            if known is None or now - known[2] > TIMEOUT:
                lone += 1
            else:
                settled.source_port[place], settled.destination_port[place] = known[:2]
        return settled, lone

    def _remember(self, key: _Key, source: int, destination: int, now: float) -> None:
        self._ports.pop(key, None)  # reinserted last: the order is by time
        self._ports[key] = source, destination, now
        if len(self._ports) > LIMIT:
            for oldest in list(islice(self._ports, LIMIT // 8)):
                del self._ports[oldest]


def _facts(
    packets: Packets, times: npt.NDArray[np.float64], places: npt.NDArray[np.intp]
) -> Iterator[tuple[int, _Key, bool, int, int, float]]:
    some = packets.take(places)
    keys = zip(
        some.source_high.tolist(),
        some.source_low.tolist(),
        some.destination_high.tolist(),
        some.destination_low.tolist(),
        some.protocol.tolist(),
        some.fragment_id.tolist(),
        strict=True,
    )
    later = ((some.flags & _LATER) != 0).tolist()
    ports = some.source_port.tolist(), some.destination_port.tolist()
    return zip(places.tolist(), keys, later, *ports, times[places].tolist(), strict=True)
