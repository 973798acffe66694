"""Statistics of the answers by question shape, and which shapes are repeated less often.

An API that reads src and dst in one way returns nothing for the questions of the other reading. A shape that never
names a deployment *rests*: its questions are repeated after a longer pause. New endpoints are still asked about in
every shape, and the first answer with a name ends the rest. Resting delays questions; it never counts as an answer.
"""

from __future__ import annotations

from collections import Counter

from flowmap.attribute.questions import Owners, Question, Shape
from flowmap.attribute.settings import AttributionSettings

ENOUGH = 8
"""Different questions without a name, and none with one since, after which a shape rests."""
SOON = 20.0
"""Seconds after the first answer about a client, while none ever named one, in which to find the API's reading."""
PAUSE = 5
"""A question of a resting shape is repeated after this many ``negative_ttl``, but not before ``positive_ttl``."""


class ShapeStats:
    """Counts answers by shape. Times are monotonic seconds."""

    def __init__(self, settings: AttributionSettings) -> None:
        self.answered: Counter[Shape] = Counter()
        self.named: Counter[Shape] = Counter()
        """Those of ``answered`` that named a deployment."""
        self._settings = settings
        self._last_named: dict[Shape, float] = {}
        self._first_answer: dict[Shape, float] = {}
        self._without_name: dict[Shape, set[Question]] = {shape: set() for shape in Shape}

    @property
    def pause(self) -> float:
        """Seconds after which a question of a resting shape is repeated."""
        return max(PAUSE * self._settings.negative_ttl, self._settings.positive_ttl)

    def receive(self, question: Question, owners: Owners, *, now: float) -> None:
        """Count an answer."""
        shape, without_name = question.shape, self._without_name[question.shape]
        self.answered[shape] += 1
        self._first_answer.setdefault(shape, now)
        if owners:
            self.named[shape] += 1
            self._last_named[shape] = now
            without_name.clear()
        elif len(without_name) < ENOUGH:
            without_name.add(question._replace(namespace="", workspace=""))

    def never_names(self, shape: Shape, *, now: float) -> bool:
        """Whether the shape rests: :data:`ENOUGH` questions got no name, and no answer had one in ``pause`` seconds."""
        named = self._last_named.get(shape)
        several = len(self._without_name[shape]) >= ENOUGH and shape is not Shape.HOST  # most hosts have no deployment
        return several and (named is None or now - named > self.pause)

    def names_no_client(self, *, now: float) -> bool:
        """Whether no client was named for a while, on a host with few clients too.

        Less sure than :meth:`never_names`: enough to ask about a service endpoint, and for a hint.
        """
        if self.never_names(Shape.CLIENT, now=now):
            return True
        return not self.named[Shape.CLIENT] and now - self._first_answer.get(Shape.CLIENT, now) >= SOON

    def suggests_dataflow(self, *, now: float) -> bool:
        """Whether the API names deployments for service endpoints and none for clients, which ``both`` needs.

        Then it seems to read src and dst as data flow. Not where ``deployment_networks`` takes care of that.
        """
        services_named = any(now - self._last_named.get(shape, -self.pause) <= self.pause for shape in _OF_SERVICE)
        matters = self._settings.semantics == "both" and not self._settings.deployment_networks
        return matters and services_named and self.names_no_client(now=now)


_OF_SERVICE = (Shape.SINK, Shape.SOURCE)
