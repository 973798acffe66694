"""What readers of capture files give: frames in columns, and where a file stops making sense."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

FRAME_LIMIT = 1 << 18
"""Captured bytes of one frame at most (libpcap's MAXIMUM_SNAPLEN); a larger length is no length."""

NO_INTERFACE = -1
"""In place of a link type: frames of an interface that the file does not have. Nobody knows what they are."""

Data = bytes | memoryview
Bytes = npt.NDArray[np.uint8]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CapturedFrames:
    """Frames of one link type, in the order of the file."""

    data: Bytes
    starts: Index
    captured: Index
    """Bytes that are there."""
    wire_lengths: Index
    """Bytes that were on the wire."""
    times: Index
    """ns since the epoch, as the file says; they may go back. 0 where the link type is NO_INTERFACE."""
    link_type: int
    interfaces: npt.NDArray[np.int32]
    """A number for each interface of the file; where it has several sections, its place in its own."""
    timed: bool = True
    """Whether the file says when; else they have the time of the frame before them, 0 if there is none."""

    def first(self, number: int) -> CapturedFrames:
        """The first ``number`` frames."""
        names = ("starts", "captured", "wire_lengths", "times", "interfaces")
        return replace(self, **{name: getattr(self, name)[:number] for name in names})


class Read(NamedTuple):
    """What a piece of a file gave."""

    frames: list[CapturedFrames]
    taken: int
    """Bytes that were read; the rest is needed again, with more after it."""
    fault: str = ""
    """Why nothing after ``taken`` can be read, whatever follows."""


class Reader(Protocol):
    """Reads one file from its beginning."""

    dropped: int
    """Frames that were lost while capturing, as far as the file says."""

    def read(self, data: Data) -> Read:
        """Read the whole records at the beginning of ``data``, which begins where the call before stopped."""


def gather(data: Bytes, at: Index, layout: np.dtype[np.void]) -> npt.NDArray[np.void]:
    """What has ``layout`` at each place; each must lie in ``data`` whole."""
    size = layout.itemsize
    if not len(at):
        return np.zeros(0, layout)
    anywhere = np.ndarray((len(data) - size + 1,), f"V{size}", data, strides=(1,))
    return anywhere[at].view(layout)
