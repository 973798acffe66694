"""The model of the status answer, made from the value types."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from flowmap.model.deployment import Owner
from flowmap.model.status import QuestionCounts, StatusView
from flowmap.serve.api.status import Status, answer_of

OWNER = Owner("ws", "ns", "id", "name")


class Piece(NamedTuple):
    """A value inside; ``None`` is possible."""

    amount: int
    """How ``many``."""


@dataclass(frozen=True)
class ThingView:
    """A value."""

    one: Piece
    several: tuple[Piece, ...]
    counts: dict[str, int]
    maybe: Piece | None
    """The second
    piece; None if there is only one."""
    seen_at: float | None
    known_until: float | None
    age_seconds: float
    owners: tuple[Owner, ...] = ()
    questions: QuestionCounts = field(default_factory=QuestionCounts)


def schema_of(value: type) -> dict[str, Any]:
    return answer_of(value).model_json_schema(mode="serialization")


def test_values_become_json() -> None:
    counts = QuestionCounts(answers=7)
    thing = ThingView(Piece(1), (Piece(2), Piece(3)), {"a\ud800": 1}, None, 0.5, 1.5, 2.5, (OWNER,), counts)
    answered = answer_of(ThingView).of(thing).as_json()
    counted = {name: answered.pop(name) for name in ("answers", "questionsWaiting", "lastAnswerAt", "lastError")}
    assert counted == {"answers": 7, "questionsWaiting": 0, "lastAnswerAt": None, "lastError": None}
    assert answered == {
        "one": {"amount": 1},
        "several": [{"amount": 2}, {"amount": 3}],
        "counts": {"a?": 1},
        "maybe": None,
        "seenAt": "1970-01-01T00:00:00.500Z",
        "knownUntil": "1970-01-01T00:00:01.500Z",
        "ageSeconds": 2.5,
        "owners": [{"workspace": "ws", "namespace": "ns", "deploymentId": "id", "name": "name"}],
        "unreadableElements": 0,
        "questionsCached": 0,
    }


def test_docstrings_become_descriptions() -> None:
    schema = schema_of(ThingView)
    assert (schema["title"], schema["description"]) == ("Thing", "A value.")
    assert schema["properties"]["maybe"]["description"] == "The second piece; null if there is only one."
    assert schema["properties"]["answers"]["description"] == "Questions answered."
    assert schema["$defs"]["Piece"]["description"] == "A value inside; null is possible."
    assert schema["$defs"]["Piece"]["properties"]["amount"]["description"] == "How many."
    assert "description" not in schema["properties"]["one"]


@pytest.mark.parametrize("lost", ["maybe", "questions"])
def test_a_missing_value_is_an_error_not_a_gap(lost: str) -> None:
    parts: dict[str, object] = {
        "one": Piece(1),
        "several": (),
        "counts": {},
        "maybe": None,
        "seen_at": 1.0,
        "age_seconds": 0.0,
    }
    parts |= {"owners": (), "questions": QuestionCounts()}
    del parts[lost]
    with pytest.raises(ValueError, match=r"maybe|answers"):
        answer_of(ThingView).of(SimpleNamespace(**parts))


def test_the_status_answer_is_the_status_view() -> None:
    assert Status is answer_of(StatusView)
    assert set(Status.model_fields) == set(StatusView.__dataclass_fields__)
    schema = Status.model_json_schema(mode="serialization")
    times = [
        (name, text.get("format"))
        for part in (schema, *schema["$defs"].values())
        for name, text in part["properties"].items()
        if name.endswith("At")
    ]
    assert len(times) > 5 and {form for _, form in times} == {"date-time"}
    packets = schema["$defs"]["SourceStatus"]["properties"]["exceptionalPackets"]
    assert packets["description"].startswith("Packets handled specially, by reason: duplicate")
