"""Records for tests: one line a record, made into the columns that sources deliver."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.model.address import Address

__all__ = ["Record", "batch_of", "replace"]


@dataclass(frozen=True)
class Record:
    """One record; ``counters`` are transmit and receive bytes, then packets, or None."""

    kind: RecordKind
    client: str = "10.0.0.1"
    client_port: int = 40000
    server: str = "10.1.0.1"
    server_port: int = 9092
    protocol: int = 6
    zone: int = 0
    id: int = 1
    counters: tuple[int, int, int, int] | None = None
    flags: int = 0
    translated: tuple[str, int, str, int] | None = None
    retransmits: int | None = None
    round_trip: int = 0
    workloads: tuple[int, int] = (0, 0)
    """Numbers of the client's and the server's."""
    namespace: int = 0


def batch_of(*records: Record) -> FlowBatch:
    """The records as a batch."""
    batch = FlowBatch(len(records))
    for n, record in enumerate(records):
        client, server = Address.parse(record.client), Address.parse(record.server)
        behind = record.translated or (record.client, record.client_port, record.server, record.server_port)
        behind_client, behind_server = Address.parse(behind[0]), Address.parse(behind[2])
        flags = record.flags
        flags |= Flag.COUNTERS if record.counters is not None else 0
        flags |= Flag.TRANSLATED if record.translated is not None else 0
        flags |= Flag.HEALTH if record.retransmits is not None else 0
        counters = record.counters or (0, 0, 0, 0)
        values = {
            "kind": int(record.kind),
            "flags": int(flags),
            "protocol": record.protocol,
            "zone": record.zone,
            "id": record.id,
            "client_high": client.high,
            "client_low": client.low,
            "client_port": record.client_port,
            "server_high": server.high,
            "server_low": server.low,
            "server_port": record.server_port,
            "translated_client_high": behind_client.high,
            "translated_client_low": behind_client.low,
            "translated_client_port": behind[1],
            "translated_server_high": behind_server.high,
            "translated_server_low": behind_server.low,
            "translated_server_port": behind[3],
            "transmit_bytes": counters[0],
            "receive_bytes": counters[1],
            "transmit_packets": counters[2],
            "receive_packets": counters[3],
            "retransmits": record.retransmits or 0,
            "round_trip": record.round_trip,
            "client_workload": record.workloads[0],
            "server_workload": record.workloads[1],
            "namespace": record.namespace,
        }
        for name, value in values.items():
            getattr(batch, name)[n] = value
    return batch
