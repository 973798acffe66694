"""Traffic by deployment, peer or both, from the map."""

from __future__ import annotations

import argparse
import json

import pytest

from flowmap.cli import command
from flowmap.cli.traffic import grouped
from flowmap.serve.api.map import TrafficMap
from tests.support.fake_backend import MAP, OWNER

ANSWER = TrafficMap.of(MAP).as_json()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("deployment", ("deployment",)),
        ("peer,deployment", ("peer", "deployment")),
        ("", None),
        ("job", None),
        ("peer,peer", None),
    ],
)
def test_by(value: str, expected: tuple[str, ...] | None) -> None:
    if expected is None:
        with pytest.raises(argparse.ArgumentTypeError):
            grouped.by(value)
    else:
        assert grouped.by(value) == expected


ROWS = [
    (("deployment",), [("attributed", OWNER.name, None), ("unknown", "(no deployment)", None)]),
    (("peer",), [("", None, "10.0.0.9:9092")]),
    (
        ("deployment", "peer"),
        [("attributed", OWNER.name, "10.0.0.9:9092"), ("unknown", "(no deployment)", "10.0.0.9:9092")],
    ),
]


@pytest.mark.parametrize(("sides", "expected"), ROWS)
def test_groups(sides: tuple[str, ...], expected: list[tuple[str, str | None, str | None]]) -> None:
    found = list(grouped.groups(ANSWER, sides))
    assert [(one.state, one.deployment, one.peer) for one in found] == expected
    for live in (True, False):
        assert all(len(grouped.row(one, live=live)) == len(grouped.header(sides, live=live)) for one in found)


def test_flows_by(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[dict[str, object]] = []

    class Client:
        def __enter__(self) -> Client:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def get(self, path: str, parameters: dict[str, object]) -> dict[str, object]:
            asked.append({"path": path} | {name: value for name, value in parameters.items() if value is not None})
            return ANSWER

    monkeypatch.setattr("flowmap.cli.shared.client.connect", lambda _: Client())
    words = ["flows", "--by", "deployment,peer", "--deployment", "d", "--limit", "999", "-o"]
    assert command.main([*words, "json"]) == 0
    (first, second) = json.loads(capsys.readouterr().out)["groups"]
    assert (first["deployment"], first["peer"], first["transmitRate"]) == (OWNER.name, "10.0.0.9:9092", 1000.2)
    assert (second["state"], second["receiveBytes"]) == ("unknown", 20)
    assert asked == [{"path": "map", "deployment": "d", "limit": 200}]
    assert command.main([*words, "table"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[-3:] == ["20", "B", "1"]
    assert command.main([*words, "table", "--since", "1h"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["STATE", "DEPLOYMENT", "PEER", *grouped.PAST]
    assert command.main(["flows", "--by", "peer", "--client", "10.0.0.1"]) == 1
    assert "leave out --client" in capsys.readouterr().err
