"""Within one long slice a flow restarts after each silence that exceeds its timeout, as if the slice were cut there."""

from __future__ import annotations

import numpy as np
import pytest

from flowmap.flows.records.batch import RecordKind
from flowmap.sources.packets.flows import PacketFlows
from flowmap.sources.packets.silence import SPAN
from tests.support.packets import ACK, RST, Packet, packets_of


@pytest.mark.parametrize(
    ("protocol", "times", "flags", "flows"),
    [
        (17, [0, 29], {}, 1),
        (17, [0, 31], {}, 2),
        (17, [0, 31, 62, 93], {}, 4),
        (17, [0, 20, 40, 60], {}, 1),
        (1, [0, 31, 61], {}, 2),
        (132, [0, 299], {}, 1),
        (6, [0, 121], {}, 1),  # picked up in the middle: established
        (6, [0, 11, 12], {0: RST}, 2),
        (6, [0, 9, 12], {0: RST}, 1),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_restarts(protocol: int, times: list[float], flags: dict[int, int], flows: int, whole: bool) -> None:
    assert times[-1] <= SPAN
    made = [
        Packet(protocol=protocol, time=time, tcp_flags=flags.get(n, ACK) * (protocol == 6))
        for n, time in enumerate(times)
    ]
    taker = PacketFlows(10, timed=True)
    batches = []
    for some in [made] if whole else [[packet] for packet in made]:
        batches += taker.take(packets_of(*some), np.array([packet.time for packet in some]))
    batches += taker.close_all()
    assert sum(int(np.count_nonzero(batch.kind == RecordKind.CLOSED)) for batch in batches) == flows
    closed = [batch for batch in batches if batch.kind[0] == RecordKind.CLOSED]
    assert sum(int(batch.transmit_packets.sum() + batch.receive_packets.sum()) for batch in closed) == len(times)
