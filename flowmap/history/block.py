"""Encodes a block of flows, some thousands, as bytes: one column after the other.

    block     magic "FB3"; number of flows; length and CRC of the head; head (directory, decisions); columns
    column    in the directory: smallest value, bytes per value, length; in the block: differences to the smallest

Values of one column are close together (times of one minute, ports of one service), so most differences need one to
four bytes, and deflate halves these. Each column can be read without the others. Blocks of version 1 have neither
workloads nor network namespaces, those of version 2 no namespaces: their flows are in the daemon's own.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from flowmap.errors import DecodeError
from flowmap.history.closed_flows import (
    COLUMNS,
    NAMESPACE,
    WORKLOADS,
    ClosedFlows,
    Column,
    StoredDecision,
    StoredEvidence,
)
from flowmap.model.deployment import Owner, State
from flowmap.model.namespace import NetworkNamespace
from flowmap.model.workload import Workload

_MAGIC = b"FB3\0"
_SECOND = len(COLUMNS) - len(NAMESPACE)
_VERSIONS = {b"FB1\0": _SECOND - len(WORKLOADS), b"FB2\0": _SECOND, _MAGIC: len(COLUMNS)}
"""Number of columns of each version: the first ones of COLUMNS."""
_HEAD = struct.Struct("<4sIII")  # magic, flows, length and CRC of the head
_ENTRY = struct.Struct("<QBI")  # smallest value (modulo 2**64), bytes per value (0: all are equal), length
_LEVEL = 1  # of zlib: higher levels take much longer and save little
_LONGEST = 1 << 24  # largest plausible number of flows in a block


def encode(flows: ClosedFlows) -> bytes:
    """Flows as bytes, with only the decisions that they have."""
    flows = flows.compact()
    decisions = zlib.compress(_dump(flows).encode(), _LEVEL)
    directory, bodies = [], []
    for name in COLUMNS:
        least, width, body = _encode_column(flows.columns[name])
        directory.append(_ENTRY.pack(least, width, len(body)))
        bodies.append(body)
    head = b"".join(directory) + decisions
    return b"".join((_HEAD.pack(_MAGIC, len(flows), len(head), zlib.crc32(head)), head, *bodies))


class Referred(NamedTuple):
    """What the columns of a block number."""

    decisions: tuple[StoredDecision, ...]
    workloads: tuple[Workload, ...]
    namespaces: tuple[NetworkNamespace, ...]


class Block:
    """An encoded block, decoded column by column. Every method raises DecodeError for invalid bytes."""

    def __init__(self, data: bytes) -> None:
        try:
            magic, self._flows, length, checksum = _HEAD.unpack_from(data)
        except struct.error as error:
            raise DecodeError(f"history block: {error}") from error
        head = data[_HEAD.size : _HEAD.size + length]
        if magic not in _VERSIONS or self._flows > _LONGEST or zlib.crc32(head) != checksum:
            raise DecodeError("history block: invalid head")
        self._data = data
        self._places: dict[str, tuple[int, int, int, int]] = {}
        at = _HEAD.size + length
        names = list(COLUMNS)[: _VERSIONS[magic]]
        for number, name in enumerate(names):
            least, width, size = _ENTRY.unpack_from(head, number * _ENTRY.size)
            self._places[name] = least, width, at, at + size
            at += size
        if at != len(data):
            raise DecodeError(f"history block: {len(data)} bytes, expected {at}")
        self._referred = head[len(names) * _ENTRY.size :]

    def __len__(self) -> int:
        return int(self._flows)

    def referred(self) -> Referred:
        """What columns number."""
        try:
            return _load(zlib.decompress(self._referred).decode())
        except (zlib.error, ValueError, TypeError, LookupError) as error:
            raise DecodeError(f"history block: decisions: {error}") from error

    def column(self, name: str) -> Column:
        """One column."""
        dtype = COLUMNS[name]
        if name not in self._places:
            return np.zeros(self._flows, dtype)
        least, width, start, end = self._places[name]
        base = np.array([least], np.uint64)
        if width == 0:
            return np.repeat(base, self._flows).view(np.uint64).astype(np.int64).astype(dtype)
        try:
            body = zlib.decompress(self._data[start:end])
            planes = np.frombuffer(body, np.uint8).reshape(width, self._flows)
        except (zlib.error, ValueError) as error:
            raise DecodeError(f"history block: column {name}: {error}") from error
        whole = planes[0].astype(np.uint64)
        for place in range(1, width):
            whole |= planes[place].astype(np.uint64) << np.uint64(8 * place)
        whole += base
        return np.asarray(whole.view(np.int64) if dtype.kind == "i" else whole, dtype)

    def flows(self) -> ClosedFlows:
        """All flows of the block."""
        return ClosedFlows({name: self.column(name) for name in COLUMNS}, *self.referred())


def _encode_column(column: Column) -> tuple[int, int, bytes]:
    """Smallest value, bytes per value, and the deflated planes: the lowest byte of every value, then the next one."""
    if not len(column):
        return 0, 0, b""
    low, high = int(column.min()), int(column.max())
    if low == high:
        return low & 0xFFFF_FFFF_FFFF_FFFF, 0, b""
    rest = column.astype(np.uint64) - np.uint64(low & 0xFFFF_FFFF_FFFF_FFFF)
    width = (int(high - low).bit_length() + 7) // 8
    planes = rest.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width].T
    return low & 0xFFFF_FFFF_FFFF_FFFF, width, zlib.compress(np.ascontiguousarray(planes).tobytes(), _LEVEL)


def _dump(flows: ClosedFlows) -> str:
    owners: dict[Owner, int] = {}

    def numbers(several: Iterable[Owner]) -> list[int]:
        return [owners.setdefault(owner, len(owners)) for owner in several]

    rows: list[list[Any]] = [
        [
            decision.state.value,
            decision.source,
            numbers(decision.owners),
            [[piece.shape, piece.rule, numbers(piece.owners)] for piece in decision.evidence],
            decision.cause,
        ]
        for decision in flows.decisions
    ]
    return json.dumps([list(owners), rows, flows.workloads, flows.namespaces], separators=(",", ":"))


def _load(text: str) -> Referred:
    names, rows, *more = json.loads(text)
    workloads, namespaces = (*more, (), ())[:2]
    owners = [Owner(*name) for name in names]
    decisions = tuple(
        StoredDecision(
            State(state),
            source,
            tuple(owners[number] for number in owned),
            tuple(StoredEvidence(shape, rule, tuple(owners[number] for number in of)) for shape, rule, of in evidence),
            cause,
        )
        for state, source, owned, evidence, cause in rows
    )
    held, within = (Workload(*fields) for fields in workloads), (NetworkNamespace(*fields) for fields in namespaces)
    return Referred(decisions, tuple(held), tuple(within))
