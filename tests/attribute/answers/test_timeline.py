"""The rules of time: as rows, against their own words, and against a world in which the truth is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmap.attribute.answers.timeline import MAX_ANSWERS, Answer, Judgement, Lifetimes, Timeline
from flowmap.attribute.questions import Owners
from flowmap.model.deployment import Owner

X, Y, Z = (Owner("w", "n", name, name) for name in "xyz")
FOREVER = math.inf


class Life(NamedTuple):
    """One flow; by default born in (9, 10], still open and seen alive at 100, never seen to send."""

    born_after: float = 9.0
    born_by: float = 10.0
    alive_until: float = 100.0
    proven_until: float = -math.inf
    ended_by: float = FOREVER
    connectionless: bool = False


def answer(asked: float, *owners: Owner, took: float = 0.5) -> Answer:
    return Answer(asked, asked + took, frozenset(owners))


def judge(
    answers: list[Answer], *lives: Life, grace: float = 2.0, registration_lag: float = 10.0
) -> list[Judgement | None]:
    timeline = Timeline()
    for one in answers:
        timeline.add(one)
    after, by, alive, proven, ended = (np.array(column, np.float64) for column in list(zip(*lives, strict=True))[:5])
    connectionless = np.array([life.connectionless for life in lives])
    position, outcomes = timeline.judge(
        Lifetimes(after, by, alive, proven, ended, connectionless), grace=grace, registration_lag=registration_lag
    )
    return [outcomes[n] for n in position.tolist()]


SHORT = Life(alive_until=10.0, ended_by=11.0)
ENDED = Life(alive_until=50.0, ended_by=51.0)
UDP = Life(alive_until=10.0, ended_by=11.0, connectionless=True)
OLD = Life(born_after=-math.inf)

ROWS = {
    "nothing is known": ([], Life(), None),
    "inside, without a witness": ([answer(20, X)], Life(), None),
    "inside, and it sent": ([answer(20, X)], Life(proven_until=30.0), ({X}, "inside")),
    "inside, and it sent before only": ([answer(20, X)], Life(proven_until=20.0), None),
    "inside, of a flow older than the daemon": ([answer(20, X)], OLD, None),
    "inside, of an old flow that sent": ([answer(20, X)], OLD._replace(proven_until=30.0), ({X}, "inside")),
    "inside, and nobody": ([answer(20)], Life(), (set(), "inside")),
    "inside nobody, after an owner that may have stopped": (
        [answer(0, X), answer(20)],
        Life(),
        (set(), "unconfirmed"),
    ),
    "inside nobody, after an owner in grace": ([answer(9, X), answer(20)], Life(), (set(), "unconfirmed")),
    "inside nobody, after an owner, and it sent": (
        [answer(0, X), answer(20)],
        Life(proven_until=30.0),
        (set(), "inside"),
    ),
    "late, after nobody while it began": ([answer(9.8), answer(25, X)], Life(proven_until=30.0), (set(), "late")),
    "late, but named while it began": (
        [answer(9.8, X), answer(15), answer(25, X)],
        Life(proven_until=30.0),
        ({X}, "inside"),
    ),
    "inside nobody, as before": ([answer(0), answer(20)], Life(), (set(), "inside")),
    "asked just before the latest start, beyond grace": ([answer(9.9, X)], Life(born_after=0), None),
    "asked at the latest start": ([answer(10, X)], Life(born_after=0, proven_until=20.0), ({X}, "inside")),
    "arrived after it was last seen": ([answer(99.8, X)], Life(), None),
    "arrived as it was last seen": ([answer(99.5, X)], Life(proven_until=100.0), ({X}, "inside")),
    "an old flow never takes what was known before it was seen": ([answer(5, X)], OLD, None),
    "a reused address does not inherit": ([answer(0, X)], Life(), None),
    "before and inside agree": ([answer(0, X), answer(20, X)], Life(), ({X}, "inside")),
    "before and inside disagree": ([answer(0, X), answer(20, Y)], Life(), None),
    "before and inside disagree, and it sent": (
        [answer(0, X), answer(20, Y)],
        Life(proven_until=30.0),
        ({Y}, "inside"),
    ),
    "before named nobody": ([answer(0), answer(20, Y)], Life(), None),
    "two inside disagree: the address moved on": (
        [answer(20, X), answer(60, Y)],
        Life(proven_until=30.0),
        ({X}, "inside"),
    ),
    "two inside disagree, and nobody saw it send": ([answer(20, X), answer(60, Y)], Life(), None),
    "first nobody, soon somebody": ([answer(12), answer(20, Y)], Life(), None),
    "first nobody, soon somebody, and it sent": (
        [answer(12), answer(20, Y)],
        Life(proven_until=30.0),
        ({Y}, "inside"),
    ),
    "first nobody, late somebody": ([answer(12), answer(20.1, Y)], Life(), (set(), "late")),
    "first nobody, late somebody, and it sent": (
        [answer(12), answer(20.1, Y)],
        Life(proven_until=30.0),
        (set(), "late"),
    ),
    "nobody until late, of an old flow that sent": (
        [answer(12), answer(60, Y)],
        OLD._replace(proven_until=70.0),
        (set(), "late"),
    ),
    "nobody was asked about until late": ([answer(60, Y)], Life(proven_until=70.0), ({Y}, "inside")),
    "soon somebody, late another beside it": (
        [answer(12), answer(15, X), answer(60, X, Y)],
        Life(proven_until=70.0),
        ({X}, "inside"),
    ),
    "late the one who was known before": (
        [answer(0, X), answer(12), answer(60, X)],
        Life(proven_until=70.0),
        (set(), "late"),
    ),
    "late the one who was known before, and it never sent": (
        [answer(0, X), answer(12), answer(60, X)],
        Life(),
        (set(), "unconfirmed"),
    ),
    "late the one who was known before and at once": (
        [answer(0, X), answer(12, X), answer(15), answer(60, X)],
        Life(proven_until=70.0),
        ({X}, "inside"),
    ),
    "late the one who was known before, and nobody in between": (
        [answer(0, X), answer(60, X)],
        Life(),
        ({X}, "inside"),
    ),
    "left and came back soon": ([answer(0, X), answer(12), answer(15, X)], Life(), None),
    "left and came back soon, and it sent": (
        [answer(0, X), answer(12), answer(15, X)],
        Life(proven_until=30.0),
        ({X}, "inside"),
    ),
    "another had it in between": ([answer(0, X), answer(12, Y), answer(15, X)], Life(), None),
    "left while it began, and came back": ([answer(0, X), answer(9.8), answer(15, X)], Life(), None),
    "late the one who was named in grace": (
        [answer(10.5, X), answer(13), answer(60, X)],
        Life(proven_until=70.0),
        ({X}, "inside"),
    ),
    "late, and nobody in between": ([answer(12, X), answer(60, Y)], Life(proven_until=70.0), ({X, Y}, "inside")),
    "grace, then the address moved on": ([answer(10.5, X), answer(60, Y)], Life(), ({X}, "inside")),
    "grace, maybe before the start, then the address moved on": ([answer(9.5, X), answer(60, Y)], Life(), None),
    "grace named nobody, then somebody": ([answer(10.5), answer(20, Y)], Life(), (set(), "grace")),
    "grace named nobody, late somebody": ([answer(10.5), answer(60, Y)], Life(), (set(), "late")),
    "UDP: before and after agree": ([answer(0, X), answer(20, X)], UDP, ({X}, "around")),
    "UDP: before and after disagree": ([answer(0, X), answer(20, Y)], UDP, (set(), "unconfirmed")),
    "UDP: not asked after the last packet": ([answer(0, X), answer(10.5, X)], UDP, None),
    "UDP: asked inside, and it sent": ([answer(10.2, X)], UDP._replace(proven_until=30.0), None),
    "UDP: grace and after agree": ([answer(10.2, X), answer(20, X)], UDP, ({X}, "around")),
    "UDP: grace and after disagree": ([answer(10.2, X), answer(20, Y)], UDP, (set(), "unconfirmed")),
    "UDP: the first answer is long before the latest start": (
        [answer(10, X), answer(20, X)],
        UDP._replace(born_by=15.0, ended_by=16.0),
        ({X}, "around"),
    ),
    "UDP: the first answer is long after the earliest start": (
        [answer(11.1, X), answer(20, X)],
        UDP._replace(born_by=15.0, ended_by=16.0),
        (set(), "unconfirmed"),
    ),
    "UDP: grace is after the last packet": ([answer(11, X, took=0.0)], UDP, ({X}, "around")),
    "UDP: the answer in grace arrived late": ([answer(11, X)], UDP, (set(), "unconfirmed")),
    "UDP: after only": ([answer(20, X)], UDP, (set(), "unconfirmed")),
    "UDP: nobody": ([answer(0), answer(20)], UDP, (set(), "around")),
    "around": ([answer(0, X), answer(20, X)], SHORT, ({X}, "around")),
    "around, and others came and went": ([answer(0, X, Y), answer(20, X, Z)], SHORT, ({X, Y, Z}, "around")),
    "around, and one joined": ([answer(0, X), answer(20, X, Y)], SHORT, ({X, Y}, "around")),
    "before, and inside one joined": ([answer(0, X), answer(20, X, Y)], Life(), ({X, Y}, "inside")),
    "before, and inside one joined, and it sent": (
        [answer(0, X), answer(20, X, Y)],
        Life(proven_until=30.0),
        ({X, Y}, "inside"),
    ),
    "before, and inside one left, and it sent": (
        [answer(0, X, Y), answer(20, X)],
        Life(proven_until=30.0),
        ({X}, "inside"),
    ),
    "before, and inside one left": ([answer(0, X, Y), answer(20, X)], Life(), ({X, Y}, "inside")),
    "around disagrees": ([answer(0, X), answer(20, Y)], SHORT, (set(), "unconfirmed")),
    "around nobody": ([answer(0), answer(20)], SHORT, (set(), "around")),
    "around, but another answer in between": (
        [answer(0, X), answer(9.2, Y), answer(20, X)],
        SHORT,
        (set(), "unconfirmed"),
    ),
    "around, but another owner inside": (
        [answer(0, X), answer(20, Y), answer(60, X)],
        ENDED,
        (set(), "unconfirmed"),
    ),
    "before only, ended": ([answer(0, X)], SHORT, None),
    "after only": ([answer(20, X)], SHORT, (set(), "unconfirmed")),
    "asked before the latest end": ([answer(0, X), answer(10.9, X)], SHORT, None),
    "grace after the start": ([answer(10.5, X)], SHORT, ({X}, "grace")),
    "grace after the start, but it arrived late": ([answer(10.5, X, took=0.6)], SHORT, None),
    "the same, and asked after the end": ([answer(11, X, took=0.1)], SHORT, (set(), "unconfirmed")),
    "grace just before is not enough": ([answer(8.6, X, took=1.0)], SHORT, None),
    "grace just before, and after agree": ([answer(8.6, X, took=1.0), answer(20, X)], SHORT, ({X}, "around")),
    "grace just before, and after disagree": (
        [answer(8.6, X, took=1.0), answer(20, Y)],
        SHORT,
        (set(), "unconfirmed"),
    ),
    "grace just before, and inside agree": ([answer(8.6, X, took=1.0), answer(20, X)], Life(), ({X}, "inside")),
    "grace just before, and inside names more": (
        [answer(8.6, X, took=1.0), answer(20, X, Y)],
        Life(),
        ({X, Y}, "inside"),
    ),
    "grace just before, and inside disagree": ([answer(8.6, X, took=1.0), answer(20, Y)], Life(), None),
    "grace is over": ([answer(11.1, X)], SHORT, (set(), "unconfirmed")),
    "the first answer is too long before the latest start": (
        [answer(0.5, X, took=0.1)],
        Life(born_after=0.55, born_by=5.0, alive_until=5.0, ended_by=6.0),
        None,
    ),
    "grace does not help who was known before": ([answer(0, Y), answer(11, X)], SHORT, (set(), "unconfirmed")),
}


@pytest.mark.parametrize(("answers", "life", "expected"), ROWS.values(), ids=ROWS)
def test_rules(answers: list[Answer], life: Life, expected: tuple[set[Owner], str] | None) -> None:
    (outcome,) = judge(answers, life)
    assert (None if outcome is None else (set(outcome.owners), outcome.rule)) == expected


def test_no_grace_switches_the_rule_off() -> None:
    for asked in (9.0, 9.5, 10.0):
        (outcome,) = judge([answer(asked, X)], SHORT, grace=0.0)
        assert outcome is None or not outcome.owners


# Against the words of the rules.

instants = st.integers(0, 40).map(lambda n: n / 2)
owner_sets = st.frozensets(st.sampled_from([X, Y, Z]), max_size=2)


@st.composite
def timelines(draw: st.DrawFn, owners: st.SearchStrategy[Owners] = owner_sets) -> list[Answer]:
    """Answers of which each was asked after the one before arrived."""
    answers, now = [], 0.0
    for gap, took, named in draw(st.lists(st.tuples(instants, instants, owners), max_size=6)):
        answers.append(Answer(now + gap, now + gap + took / 8, named))
        now += gap + took / 8 + 0.25
    return answers


@st.composite
def lives(draw: st.DrawFn) -> Life:
    born_after, length = draw(instants), draw(instants)
    born_by = born_after + draw(st.sampled_from([0.5, 3.0]))
    alive_until = born_after + length
    ended_by = max(alive_until, born_by) + draw(st.sampled_from([0.5, 3.0, FOREVER]))
    proven = draw(st.one_of(st.just(-math.inf), st.just(alive_until - 1)))
    return Life(-math.inf if draw(st.booleans()) else born_after, born_by, alive_until, proven, ended_by)


def literal(answers: list[Answer], life: Life, grace: float) -> Owners:
    """Everybody whom any rule could name, with what is known of the flow."""
    allowed: Owners = frozenset()
    for one in answers:
        if life.born_by <= one.asked and one.arrived <= max(life.alive_until, life.proven_until):
            allowed |= one.owners
    before = [one for one in answers if one.arrived <= life.born_after]
    after = [one for one in answers if one.asked >= life.ended_by]
    if grace and answers and not before and answers[0].arrived - life.born_after <= grace:
        first = answers[0]
        if first.asked >= life.born_by:
            allowed |= first.owners
        elif life.born_by - first.asked <= grace:
            before = [first]
    if before and after:
        allowed |= before[-1].owners & after[0].owners
    return allowed


@settings(max_examples=400, deadline=None)
@given(timelines(), st.lists(lives(), min_size=1, max_size=5), st.sampled_from([0.0, 2.0]))
def test_never_a_name_that_no_rule_gives(answers: list[Answer], flows: list[Life], grace: float) -> None:
    together = judge(answers, *flows, grace=grace)
    for life, outcome in zip(flows, together, strict=True):
        given = literal(answers, life, grace)
        if outcome is not None and outcome.owners:
            assert outcome.owners & given
            assert len(outcome.owners) > 1 or outcome.owners <= given, "more than the rules say only beside others"
        assert [outcome] == judge(answers, life, grace=grace), "flows judged together are judged alike"


@settings(max_examples=200, deadline=None)
@given(timelines(st.just(frozenset({X}))), lives())
def test_what_nobody_denies_is_not_withheld(answers: list[Answer], life: Life) -> None:
    (outcome,) = judge(answers, life)
    inside = [one for one in answers if life.born_by <= one.asked and one.arrived <= life.alive_until]
    proven = any(one.arrived <= life.proven_until for one in inside)
    if proven or (not inside and life.proven_until <= life.alive_until and literal(answers, life, 2.0)):
        assert outcome is not None
        assert outcome.owners == {X}


# Against a world.

GRACE = 0.3


@dataclass(frozen=True)
class World:
    """One address over time: ``moves[n]`` is when the n-th owner gets it; none comes back. Some are nobody known."""

    moves: list[float]
    known: list[bool]

    def owner(self, at: float) -> Owners:
        n = sum(move <= at for move in self.moves)
        return frozenset({Owner("w", "n", str(n), str(n))}) if self.known[n % len(self.known)] else frozenset()

    def next_move(self, at: float) -> float:
        return min((move for move in self.moves if move > at), default=FOREVER)


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Answer], Life, Owners, bool, bool]:
    """Answers that were true, a flow as it can be seen, its owner, whether its entry outlived it, and whether the
    address kept its owner within ``GRACE`` of its start."""
    moves = sorted(draw(st.lists(instants, max_size=4, unique=True)))
    world = World(moves, draw(st.lists(st.booleans(), min_size=1, max_size=5)))
    answers = []
    for one in draw(timelines()):
        moment = one.asked + draw(st.sampled_from([0.0, 0.5, 1.0])) * (one.arrived - one.asked)
        answers.append(one._replace(owners=world.owner(moment)))
    start = draw(instants) + 0.125
    end = min(start + draw(instants) + 0.0625, world.next_move(start))
    lingers = draw(st.booleans())
    gone = end + (draw(instants) if lingers else 0)
    slack = st.sampled_from([0.0, 0.25, 2.0])
    ended = draw(st.booleans())
    life = Life(
        born_after=-math.inf if draw(st.booleans()) else start - 0.125 - draw(slack),
        born_by=start + draw(slack),
        alive_until=gone - draw(slack),
        proven_until=draw(st.sampled_from([-math.inf, start, (start + end) / 2, end])),
        ended_by=gone + draw(slack) if ended else FOREVER,
    )
    return answers, life, world.owner(start), lingers, all(abs(move - start) > GRACE for move in moves)


@settings(max_examples=1500, deadline=None)
@given(situations(), st.booleans())
def test_no_wrong_name_in_a_world_with_known_truth(
    situation: tuple[list[Answer], Life, Owners, bool, bool], with_grace: bool
) -> None:
    answers, life, truth, lingers, keeps_owner = situation
    (outcome,) = judge(answers, life, grace=GRACE if with_grace else 0.0)
    if outcome is None:
        return
    # What the rules assume: within grace an address does not change hands; and a flow whose start is unknown, of which
    # nothing was known before, is taken to be as alive as the kernel says.
    if _known_before(answers, life) or (not lingers and (keeps_owner or not with_grace)):
        assert outcome.owners <= truth


def _known_before(answers: list[Answer], life: Life) -> bool:
    return bool(answers) and answers[0].arrived <= life.born_after


def test_a_timeline_is_bounded_and_keeps_the_newest() -> None:
    timeline = Timeline()
    for n in range(MAX_ANSWERS + 10):
        timeline.add(answer(n, X))
    assert len(timeline.answers) == MAX_ANSWERS
    newest = timeline.latest()
    assert newest is not None and newest.asked == MAX_ANSWERS + 9


def test_what_no_flow_needs_any_more_can_be_forgotten() -> None:
    timeline = Timeline()
    for n in range(5):
        timeline.add(answer(n * 10, X))
    timeline.forget_before(25.0)
    assert [one.asked for one in timeline.answers] == [20, 30, 40]


@pytest.mark.parametrize(
    ("answers", "left"),
    [
        ([{X}], {X}),
        ([{X, Z}], {X}),
        ([{X, Y}, {X}], {X}),
        ([{Z}], None),
        ([set()], None),
        ([{X}, {Y}], None),
        ([{X}, {Z}], {X}),
    ],
)
def test_candidates_that_remain(answers: list[set[Owner]], left: set[Owner] | None) -> None:
    timeline = Timeline()
    for number, owners in enumerate(answers):
        timeline.add(Answer(10.0 + number, 10.5 + number, frozenset(owners)))
    after, by, alive, proven, ended = (np.array([at]) for at in (0.0, 0.0, 100.0, 100.0, math.inf))
    life = Lifetimes(after, by, alive, proven, ended, np.array([False]))
    position, judged = timeline.tell_apart(life, frozenset({X, Y}))
    found = judged[int(position[0])]
    assert (found and set(found.owners)) == left


@pytest.mark.parametrize(
    ("second", "newest"),
    [((10.0, 12.0), Y), ((11.0, 11.0), Y), ((10.0, 10.9), X), ((9.0, 12.0), X)],
    ids=["asked at once, arrived later", "asked later", "arrived earlier", "asked earlier"],
)
def test_the_newest_answer(second: tuple[float, float], newest: Owner) -> None:
    timeline = Timeline()
    timeline.add(Answer(10.0, 11.0, frozenset({X})))
    timeline.add(Answer(*second, frozenset({Y})))
    latest = timeline.latest()
    assert latest is not None and latest.owners == {newest}
