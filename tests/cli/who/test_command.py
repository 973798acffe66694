"""The whole command against a daemon over HTTP."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from flowmap.cli import command
from flowmap.cli.shared import client
from tests.support.attributions import answer


class Daemon:
    """Owns every client at 10.0.0.1; ``sizes`` are those of the batches."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.servers: set[object] = set()

    @staticmethod
    def sees(connection: dict[str, object]) -> bool:
        """Whether there is such a connection: none between two clients."""
        return str(connection.get("dstIp")) != "10.0.0.1"

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "broken":
            return httpx.Response(503, json={"detail": "too busy"})
        connections = json.loads(request.content)["connections"]
        self.sizes.append(len(connections))
        self.servers |= {one.get("dstPort") for one in connections}
        answers = [
            answer("attributed", "orders") if one["srcIp"] == "10.0.0.1" else answer("unknown", observed=self.sees(one))
            for one in connections
        ]
        return httpx.Response(200, json={"attributions": answers})


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    made = Daemon()

    def connect(_: object, url: str) -> client.DaemonClient:
        return client.DaemonClient(url, transport=httpx.MockTransport(made))

    monkeypatch.setattr(client, "connect", connect)
    yield made


def who(*arguments: str, text: str | bytes, monkeypatch: pytest.MonkeyPatch) -> int:
    data = text.encode() if isinstance(text, str) else text
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    return command.main(["who", *arguments])


def test_text(daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    text = b"Id\tHost\n1\t10.0.0.1:7\n\xff\xfe \x1b[2m\r\n2\t10.0.0.2:7"
    assert who(text=text, monkeypatch=monkeypatch) == 0
    expected = b"Id\tHost\n1\t10.0.0.1:7  => orders\n\xff\xfe \x1b[2m\r\n2\t10.0.0.2:7  => no deployment"
    assert capfdbinary.readouterr().out == expected


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_line_breaks_stay(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], end: str
) -> None:
    assert who(text=f"\ufeffId\tHost{end or chr(10)}1\t10.0.0.1:7{end}", monkeypatch=monkeypatch) == 0
    assert capfd.readouterr().out == f"\ufeffId\tHost{end or chr(10)}1\t10.0.0.1:7  => orders{end}"


def test_two_endpoints_that_are_no_connection(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    text = "10.0.0.1:7 replaced 10.0.0.2:8\n10.0.0.2:8 -> 10.0.0.1:7\n"
    assert who("--service", "10.0.0.9:80", text=text, monkeypatch=monkeypatch) == 0
    assert capfd.readouterr().out.splitlines() == [
        "10.0.0.1:7 replaced 10.0.0.2:8  => 10.0.0.2:8 no deployment; 10.0.0.1:7 orders",
        "10.0.0.2:8 -> 10.0.0.1:7  => no deployment (by address 10.0.0.2)",
    ]


def test_a_line_longer_than_the_limit_stays_as_it_is(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    long = "x 10.0.0.1:7 " * 200_000
    assert who(text=f"{long}\n10.0.0.1:7\n", monkeypatch=monkeypatch) == 1
    shown = capfd.readouterr()
    assert shown.out == f"{long}\n10.0.0.1:7  => orders\n"
    assert shown.err == (
        "flowmap: lines longer than 1,048,576 characters, which were not searched: 1; the answer is incomplete\n"
    )
    who("-o", "json", text=f"{long}\n10.0.0.1:7", monkeypatch=monkeypatch)
    assert [line["number"] for line in json.loads(capfd.readouterr().out)["lines"]] == [2]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_refused(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], encoding: str
) -> None:
    assert who(text="10.0.0.1:7\n".encode(encoding), monkeypatch=monkeypatch) == 1
    assert capsys.readouterr().err == (
        "flowmap: standard input: the text is UTF-16; convert it: iconv -f UTF-16 -t UTF-8\n"
    )


def test_many_connections_are_asked_about_in_parts(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "\n".join(f"10.0.0.1:{port} " for port in (*range(1, 2501), 7))
    assert who("--summary", "-o", "json", "--service", "10.0.0.9:80", text=text, monkeypatch=monkeypatch) == 0
    assert daemon.sizes == [1000, 1000, 501]
    assert daemon.servers == {80}
    row = {"deployments": ["id-orders"], "state": "attributed", "connections": 2500, "byAddress": 0}
    assert json.loads(capsys.readouterr().out) == {"summary": [row]}


def test_nothing_is_asked_about_nothing(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert who(text="", monkeypatch=monkeypatch) == 0
    assert who("-o", "json", text="no address\n", monkeypatch=monkeypatch) == 0
    assert (daemon.sizes, json.loads(capsys.readouterr().out)) == ([], {"summary": [], "lines": []})


def test_a_daemon_that_fails_makes_the_answer_incomplete(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    urls = ("--url", "http://works", "--url", "http://broken")
    assert who("--summary", *urls, text="10.0.0.1:7", monkeypatch=monkeypatch) == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines()[1].split() == ["orders", "attributed", "1", "0"]
    assert shown.err == "flowmap: too busy; the answer is incomplete\n"
    assert who("--url", "http://broken", text="10.0.0.1:7", monkeypatch=monkeypatch) == 1
    assert capsys.readouterr().err == "flowmap: too busy\n"


def test_a_file(daemon: Daemon, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "list"
    file.write_text("10.0.0.1:7\n")
    assert command.main(["who", str(file)]) == 0
    assert capfd.readouterr().out == "10.0.0.1:7  => orders\n"
    assert command.main(["who", str(tmp_path / "none")]) == 1
    assert capfd.readouterr().err == f"flowmap: {tmp_path / 'none'}: No such file or directory\n"
    assert command.main(["who", "--service", "10.0.0.9", str(file)]) == 1
    assert "--service: write it with its port" in capfd.readouterr().err
