"""``flowmap calibrate --watch``: how old the data of the API's answers is, from one change of an address.

The same question is repeated until its answers change between "names the deployment" and "does not". With T, the moment
when the address really changed hands:

- an answer of the old state, asked at A, rests on data from before T: its age is more than A - T
- an answer of the new state, asked at A, rests on data from after T: its age is at most A - T
- an answer of the old state, asked after one of the new state had arrived at R, is older than A - R, whatever T is

The control plane may also learn of a change late. Answers cannot distinguish that from old data.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

SETTLE = 15.0
"""Seconds for which the question is repeated after a change: a later answer may rest on older data."""


class Sample(NamedTuple):
    """One reply to the watched question. Instants are seconds since the epoch."""

    asked: float
    arrived: float
    named: bool | None
    """Whether it names the deployment; None if the reply is incomplete."""


class AgeFinding(NamedTuple):
    """Conclusions from the samples about ``attribute.answer_age``. Bounds are seconds; None: unknown."""

    last_old: float | None = None
    """When the last answer of the old state was asked; None without a change."""
    first_new: float | None = None
    """When the first answer of the new state was asked; None without a change."""
    appeared: bool | None = None
    """Whether the deployment appeared in the answers, or disappeared from them; None without a change."""
    at_least: float | None = None
    """An answer was older than this."""
    at_most: float | None = None
    """The first answer of the new state was not older than this. Others may be."""
    went_back: int = 0
    """Answers of the old state that were asked after one of the new state had arrived."""
    because: str = ""


def learn(samples: Sequence[Sample], changed_at: float | None = None) -> AgeFinding:
    """The bounds that ``samples``, in the order of asking, set. ``changed_at``: when the address changed hands."""
    whole = [sample for sample in samples if sample.named is not None]
    if not whole:
        return AgeFinding(because="no answer arrived")
    old = whole[0].named
    first = next((sample for sample in whole if sample.named is not old), None)
    if first is None:
        held = "named the deployment" if old else "did not name it"
        return AgeFinding(
            because=f"each of {len(whole)} answers {held}; the address must change hands while they are watched"
        )
    before = [sample for sample in whole if sample.named is old]
    back = [sample for sample in before if sample.asked > first.arrived]
    least = [sample.asked - first.arrived for sample in back]
    most = None
    if changed_at is not None:
        if changed_at > first.arrived:
            cause = "the answers changed before the given moment: is it right, and are the clocks of both hosts?"
            return AgeFinding(before[-1].asked, first.asked, not old, because=cause)
        least += [sample.asked - changed_at for sample in before if sample.asked > changed_at]
        most = max(0.0, first.asked - changed_at)
    return AgeFinding(
        before[-1].asked, first.asked, not old, max(least, default=None), most, len(back), _why(back, changed_at)
    )


def _why(back: Sequence[Sample], changed_at: float | None) -> str:
    if back:
        return "answers went back to the old state: unless the address did too, their data was older"
    if changed_at is None:
        return "without the moment of the change, answers that do not go back set no bound"
    return "compared with the given moment of the change"


def suggestion(finding: AgeFinding) -> float | None:
    """The least value of ``attribute.answer_age`` that covers this change, in whole seconds; None if unknown."""
    bounds = [bound for bound in (finding.at_least, finding.at_most) if bound is not None]
    return float(math.ceil(max(bounds))) if bounds else None


async def watch(
    ask: Callable[[], Awaitable[Sample]],
    show: Callable[[str], None],
    *,
    seconds: float,
    pause: float,
    sleep: Callable[[float], Awaitable[None]],
    clock: Callable[[], float] = time.time,
) -> list[Sample]:
    """Ask every ``pause`` seconds for at most ``seconds``, and until :data:`SETTLE` after the first change."""
    samples: list[Sample] = []
    end = clock() + seconds
    changed = False
    while True:
        began = clock()
        samples.append(await ask())
        if not changed and learn(samples).first_new is not None:
            changed, end = True, min(end, clock() + SETTLE)
        state = {True: "named", False: "not named", None: "no answer"}[samples[-1].named]
        show(f"{len(samples)} answers, the last one: {state}; {max(0.0, end - clock()):.0f} s left")
        following = began + pause
        if following >= end:
            return samples
        await sleep(max(0.0, following - clock()))


def as_json(finding: AgeFinding, answers: int) -> dict[str, Any]:
    """The finding as JSON."""
    return {
        "answers": answers,
        "change": None if finding.appeared is None else "appeared" if finding.appeared else "disappeared",
        "lastOldAskedAt": _instant(finding.last_old),
        "firstNewAskedAt": _instant(finding.first_new),
        "answersGoneBack": finding.went_back,
        "atLeastSeconds": _rounded(finding.at_least),
        "firstNewAtMostSeconds": _rounded(finding.at_most),
        "suggestedSeconds": suggestion(finding),
        "because": finding.because,
    }


def lines(finding: AgeFinding, answers: int) -> list[str]:
    """The finding in words."""
    value = suggestion(finding)
    found = [f"attribute.answer_age: {'unknown' if value is None else f'at least {value:g}s'}", f"  {finding.because}"]
    if finding.appeared is None:
        return found
    verb = "appeared in" if finding.appeared else "disappeared from"
    found.append(
        f"  the deployment {verb} the answers ({answers} in all): first answer of the new state asked at "
        f"{_instant(finding.first_new)}, last one of the old state asked at {_instant(finding.last_old)}"
    )
    if finding.at_least is not None:
        found.append(f"  an answer rested on data that was more than {finding.at_least:.1f} s old")
    if finding.at_most is not None:
        found.append(f"  the first answer of the new state rested on data that was at most {finding.at_most:.1f} s old")
    if value is None:
        found.append("  repeat it with --changed-at, or subtract the moment of the change from these two instants")
    else:
        found.append("  other answers may be older: repeat this with a few changes, and use the largest value")
    return found


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _instant(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
