"""The protocol of capture-file readers and their results: frames as columns, and the place of the first fault."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

FRAME_LIMIT = 1 << 18
"""Largest number of captured bytes of a frame (libpcap's MAXIMUM_SNAPLEN); a larger length is a fault."""

NO_INTERFACE = -1
"""In place of a link type: the frames name an interface that the file does not define, so they cannot be decoded."""

Data = bytes | memoryview
Bytes = npt.NDArray[np.uint8]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CapturedFrames:
    """Frames of one link type, in the order of the file."""

    data: Bytes
    starts: Index
    captured: Index
    """Bytes of each frame in the file."""
    wire_lengths: Index
    """Bytes of each frame on the wire."""
    times: Index
    """ns since the epoch, from the file, so not always ascending. 0 where the link type is NO_INTERFACE."""
    link_type: int
    interfaces: npt.NDArray[np.int32]
    """Number of the interface of each frame within its section of the file."""
    timed: bool = True
    """Whether the file has their times. Otherwise they have the time of the previous frame, 0 for the first."""

    def first(self, number: int) -> CapturedFrames:
        """The first ``number`` frames."""
        names = ("starts", "captured", "wire_lengths", "times", "interfaces")
        return replace(self, **{name: getattr(self, name)[:number] for name in names})


class Read(NamedTuple):
    """The result of reading a piece of a file."""

    frames: list[CapturedFrames]
    taken: int
    """Bytes that were read. The rest must be passed again, with more data after it."""
    fault: str = ""
    """Why nothing after ``taken`` can be read; empty without a fault."""


class Reader(Protocol):
    """Reads one file from its beginning."""

    dropped: int
    """Frames lost during the capture, according to the file."""

    def read(self, data: Data) -> Read:
        """Read the whole records at the start of ``data``, which starts where the previous call stopped."""


def gather(data: Bytes, at: Index, layout: np.dtype[np.void]) -> npt.NDArray[np.void]:
    """The structures with ``layout`` at the offsets ``at``; each must lie completely within ``data``."""
    size = layout.itemsize
    if not len(at):
        return np.zeros(0, layout)
    anywhere = np.ndarray((len(data) - size + 1,), f"V{size}", data, strides=(1,))
    return anywhere[at].view(layout)
