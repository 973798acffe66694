"""Lines for users on the frames of a capture that do not count, or count twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from flowmap.replay.capture_steps import CaptureSteps
from flowmap.wire.packets.packets import MALFORMED

KINDS = 10
"""Largest number of kinds of frames with their own line; the others share one."""

_WRITER = (
    ": the program that wrote the file stored the cut length as the length on the wire, or these packets are broken; "
    "capture with tcpdump or dumpcap"
)


def lines(steps: CaptureSteps) -> Iterator[str]:
    """A line on each kind of unusable frames."""
    for reason, number in sorted(steps.malformed.items()):
        more = _WRITER if reason == "wire_length" else ""
        yield f"{number:,} of {steps.frames:,} frames are {MALFORMED[reason]}, and do not count{more}"
    for what, number in _most(steps.unread):
        yield f"{number:,} frames of {what} cannot be decoded; IP packets in them do not count"
    watch = steps.copies
    if watch.matters:
        yield (
            f"{watch.copies:,} of {watch.looked:,} compared packets are copies of others, and count twice: the capture "
            "is from several interfaces, but its frames do not name them; capture on one interface (tcpdump -i eth0), "
            "or with the interface in each frame (tcpdump -i any -y LINUX_SLL2)"
        )


def not_ip(steps: CaptureSteps) -> str:
    """Numbers and names of the valid frames without IP."""
    return ", ".join(f"{number:,} {what}" for what, number in _most(steps.other))


def _most(counts: Counter[str]) -> list[tuple[str, int]]:
    most = counts.most_common()
    rest = most[KINDS:]
    return most[:KINDS] + ([(f"{len(rest)} other kinds", sum(number for _, number in rest))] if rest else [])
