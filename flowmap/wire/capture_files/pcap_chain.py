"""Where the records of a pcap begin. Each says where the next does, so they have to be walked.

A step in Python costs more than all the rest that is read of a packet. So a large piece is walked in many lanes at
once, a step of all of them being a few calls of numpy. Where a lane begins is a guess: at the first bytes that look
like the upper half of a time of this hour. No guess counts before it is proved: a lane whose beginning is exactly where
the lane before it arrives is part of the chain, and from one that leads elsewhere on is walked step by step, until that
meets a lane's beginning again. So what is found is always what the plain walk finds.
"""

from __future__ import annotations

import math
import struct
from array import array
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.wire.capture_files.reader import FRAME_LIMIT, Bytes, Data, Index

RECORD = 16
"""Bytes of a record's head: seconds, fraction, bytes that are there, bytes that were on the wire."""
_SIZE = 8
_PROBE = 1 << 14
"""Bytes walked step by step first, to learn how long records are."""
_LEAST = 1024
"""Records that are worth lanes."""
_STEPS = 4
"""Steps between two looks whether all lanes are through."""
_PATIENCE = 8
"""Times the steps that a lane should take, after which no lane is waited for."""
_BALANCE = 20
"""What beginning a lane costs in steps of one record, and a step of all lanes in beginnings of one: their product."""


class Chain(NamedTuple):
    """What a walk found."""

    starts: Index
    """Where the whole records begin."""
    end: int
    """Where the first that is not whole does."""
    fault: str = ""
    """Why that cannot be one."""


class _Lanes(NamedTuple):
    begins: Index
    arrives: Index
    """The first place outside of it that each lane leads to."""
    places: Index
    """Of the records: a row a step, a column a lane; only where ``going``."""
    going: npt.NDArray[np.bool_]


def find_records(data: Data, at: int, order: Literal["<", ">"]) -> Chain:
    """The records of ``data``, the first of which begins at ``at``. ``order`` is that of the numbers' bytes."""
    probe = walk(data, at, order, at + _PROBE)
    rest, mean = len(data) - probe.end, (probe.end - at) // max(len(probe.starts), 1)
    if probe.fault or rest < _LEAST * mean or not mean:
        return _joined([probe, walk(data, probe.end, order)])
    lanes = _run(data, probe, mean, rest // math.isqrt(_BALANCE * rest // mean), order)
    chain = _joined([probe, *_proved(data, lanes, order)])
    if (np.diff(chain.starts) > RECORD + FRAME_LIMIT).any():
        return walk(data, at, order)  # which says what is wrong there
    return chain


def walk(data: Data, at: int, order: Literal["<", ">"], stop: int | None = None) -> Chain:
    """The plain walk, up to the first record at or behind ``stop``."""
    starts = array("q")
    append, unpack, end = starts.append, struct.Struct(f"{order}I").unpack_from, len(data)
    last, fault = end - RECORD if stop is None else min(end - RECORD, stop - 1), ""
    while at <= last:
        (size,) = unpack(data, at + _SIZE)
        if size > FRAME_LIMIT:
            fault = f"a frame of {size} bytes cannot be"
            break
        append(at)
        at += RECORD + size
    if at > end:
        at = starts.pop()
    return Chain(np.frombuffer(starts, np.int64), at, fault)


def _joined(chains: list[Chain]) -> Chain:
    return Chain(np.concatenate([chain.starts for chain in chains]), *chains[-1][1:])


def _run(data: Data, probe: Chain, mean: int, size: int, order: str) -> _Lanes:
    """Lanes of about ``size`` bytes behind the probe, where records have about ``mean``."""
    view = np.frombuffer(data, np.uint8)
    begins = _guesses(view, probe, mean, size, order)
    stops = np.append(begins[1:], begins[-1])  # the last is walked step by step: records may be cut there
    sizes = np.ndarray((len(view) - _SIZE - 3,), f"{order}u4", view, offset=_SIZE, strides=(1,))
    at, places, limit = begins, [begins], len(sizes) - 1
    most = _PATIENCE * (size // mean + _STEPS)
    while len(places) < most and (at < stops).any():
        for _ in range(_STEPS):  # some lanes go on into the next; what they find there is not looked at
            at = np.minimum(at + sizes[at] + RECORD, limit)
            places.append(at)
    every = np.array(places)
    going = every < stops
    # Of a lane that was not waited for, this is its beginning: that leads to no other.
    return _Lanes(begins, every[going.argmin(axis=0), np.arange(len(begins))], every, going)


def _guesses(view: Bytes, probe: Chain, mean: int, size: int, order: str) -> Index:
    """Where lanes may begin: the first where the probe ended, others where a time seems to be."""
    first, window = probe.end, min(size, 2 * mean)
    number = (len(view) - first) // size - 2
    upper = 2 if order == "<" else 0  # bytes of a record before the upper half of its seconds
    ahead = np.ndarray((number, window), np.uint8, view, offset=first + size, strides=(size, 1))
    one, two = view[probe.starts[-1] + upper : probe.starts[-1] + upper + 2]
    here = (ahead[:, :-1] == one) & (ahead[:, 1:] == two)
    where = here.argmax(axis=1)
    found = here[np.arange(number), where] & (where >= upper)
    places = first + size * np.arange(1, number + 1) + where - upper
    return np.concatenate([[first], places[found]])


def _proved(data: Data, lanes: _Lanes, order: Literal["<", ">"]) -> list[Chain]:
    """The chain from the first lane's beginning to the end of the data."""
    begins, chains = lanes.begins, []
    breaks = np.append(np.flatnonzero(lanes.arrives[:-1] != begins[1:]), len(begins) - 1)
    lane = 0
    while True:
        broken = int(breaks[np.searchsorted(breaks, lane)])
        part = lanes.places[:, lane:broken].T[lanes.going[:, lane:broken].T]
        at = int(begins[broken])
        chains.append(Chain(part, at))
        lane = broken + 1
        while lane < len(begins):
            chain = walk(data, at, order, int(begins[lane]))
            chains.append(chain)
            at = chain.end
            if chain.fault or at < begins[lane]:
                return chains
            lane = int(np.searchsorted(begins, at))
            if lane < len(begins) and begins[lane] == at:
                break
        else:
            return [*chains, walk(data, at, order)]
