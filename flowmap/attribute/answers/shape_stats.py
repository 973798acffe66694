"""What each shape of question has brought, and which are not worth repeating as often.

An API that reads src and dst in one way has nothing to say to the questions of the other. A shape that named nobody
anywhere, whatever it was asked about, is silent: what it was asked once is then repeated after a longer pause. That is
all: silence delays questions, it is never taken for an answer that could name anybody. New ends are asked about in
every shape, and the first name ends the silence.
"""

from __future__ import annotations

from collections import Counter

from flowmap.attribute.questions import Owners, Question, Shape
from flowmap.attribute.settings import AttributionSettings

ENOUGH = 8
"""So many different ends without a name, and none with one since, make a shape silent."""
PAUSE = 5
"""What a silent shape was asked is repeated after so many times ``negative_ttl`` (not before ``positive_ttl``)."""


class ShapeStats:
    """Counts answers by shape. Times are monotonic seconds."""

    def __init__(self, settings: AttributionSettings) -> None:
        self.answered: Counter[Shape] = Counter()
        self.named: Counter[Shape] = Counter()
        """Those of ``answered`` that named somebody."""
        self._settings = settings
        self._last_named: dict[Shape, float] = {}
        self._in_vain: dict[Shape, set[Question]] = {shape: set() for shape in Shape}

    @property
    def pause(self) -> float:
        """Seconds between two repeats of a question of a silent shape."""
        return max(PAUSE * self._settings.negative_ttl, self._settings.positive_ttl)

    def receive(self, question: Question, owners: Owners, *, now: float) -> None:
        """An answer came."""
        shape, in_vain = question.shape, self._in_vain[question.shape]
        self.answered[shape] += 1
        if owners:
            self.named[shape] += 1
            self._last_named[shape] = now
            in_vain.clear()
        elif len(in_vain) < ENOUGH:
            in_vain.add(question._replace(namespace="", workspace=""))

    def never_names(self, shape: Shape, *, now: float) -> bool:
        """Whether the shape names nobody anywhere."""
        named = self._last_named.get(shape)
        return len(self._in_vain[shape]) >= ENOUGH and (named is None or now - named > self.pause)

    def suggests_dataflow(self, *, now: float) -> bool:
        """Whether the API seems to read src and dst as data flow, though ``both`` needs a name for the client."""
        ends_named = any(now - self._last_named.get(shape, -self.pause) <= self.pause for shape in _OF_SERVICE)
        return self._settings.semantics == "both" and ends_named and self.never_names(Shape.CLIENT, now=now)


_OF_SERVICE = (Shape.SINK, Shape.SOURCE)
