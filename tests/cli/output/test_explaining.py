"""``--explain`` as people see it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowmap.cli.output.explaining import ANSWERS, print_explanation
from flowmap.serve.api.models import Attribution
from tests.support.fake_backend import ATTRIBUTION, EXPLANATION


def shown(capsys: pytest.CaptureFixture[str], chain: object = EXPLANATION) -> list[str]:
    view = replace(ATTRIBUTION, explanation=chain)  # type: ignore[arg-type]
    print_explanation(Attribution.of(view).as_json()["explanation"])
    return capsys.readouterr().out.splitlines()


def test_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys)
    assert "seen by            conntrack and sockets" in lines
    assert "started            before 2023-11-14T22:13:20.000Z" in lines
    assert "combined           client {a} ∩ sink {?}" in lines
    assert not any(line.startswith(("closed by", "decided")) for line in lines)  # not known: not shown
    rows = lines[next(n for n, line in enumerate(lines) if line.startswith("QUESTION")) + 1 :]
    assert [row.split("  ")[0] for row in rows] == [
        "client src=10.0.0.1 in ns ?",
        "",
        "sink dst=[2001:db8::9]:9092 in ns",
    ]
    assert rows[0].split()[-1] == "uncertain"
    assert rows[1].split()[-2:] == ["inside", "inside"]
    assert "timeout: no answer" in rows[2]


def test_only_the_last_answers_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    (client, _) = EXPLANATION.questions
    many = replace(EXPLANATION, questions=(replace(client, answers=client.answers[:1] * 20 + client.answers[1:]),))
    rows = [line for line in shown(capsys, many) if "2023-11-14T22:13:2" in line and ".000Z  2023" in line]
    assert len(rows) == ANSWERS
    assert rows[-1].split()[-2:] == ["inside", "inside"]
