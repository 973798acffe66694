"""replay: what it prints, what it refuses."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flowmap.cli.command import main
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.sources.base import ReadFinished, ReadStarted
from tests.support.commands import OWNERS, recorded
from tests.support.records import Record, batch_of, replace

X = frozenset(OWNERS[:1])
FLOW = Record(RecordKind.OPENED, flags=int(Flag.PRESENT), counters=(0, 0, 0, 0))
OTHER = replace(FLOW, client="10.0.0.2", client_port=7, id=2)
IGNORED = replace(FLOW, client="127.0.0.1", server="127.0.0.1", server_port=10817, id=3)
SCRIPT: list[Any] = [
    ("step", ReadStarted("start")),
    ("step", ReadFinished(True)),
    ("step", batch_of(FLOW, OTHER, IGNORED)),
    ("confirm", X),
    ("step", batch_of(replace(FLOW, kind=RecordKind.CLOSED, counters=(100, 50, 2, 1)))),
    ("settle",),
    ("step", batch_of(replace(OTHER, kind=RecordKind.UPDATED, counters=(7, 8, 1, 1)))),
    ("settle",),
]
ABSENT = "flowmap: --query: no such connection in the file"
BEGUN = "2027-01-15T08:00:"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("replay") / "recording"
    recorded(made, SCRIPT)
    return made


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["replay", *arguments])
    return status, *capsys.readouterr()


def test_table(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, str(path), "-o", "table")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["DEPLOYMENT", "PEER", "PROTOCOL", "TRANSMIT", "RECEIVE", "CONNECTIONS", "OPEN", "STATE"]
    assert lines[1].split() == ["x", "10.1.0.1:9092", "tcp", "107", "B", "58", "B", "2", "1", "attributed"]
    assert "bytes observed 165, attributed 165, shared 0, unattributed 0, internal 0, expired 0, pending 0" in lines
    assert "conserved yes, 0 flows pending, 0 contradictions" in lines


@pytest.mark.parametrize("option", ["-o", "--format", "--output"])
def test_flows(path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    status, out, err = run(capsys, str(path), option, "json")
    assert (status, err) == (0, "")
    flows = json.loads(out)["flows"]
    assert [(flow["client"]["ip"], flow["state"], flow["transmitBytes"]) for flow in flows] == [
        ("10.0.0.1", "attributed", 100),
        ("10.0.0.2", "attributed", 7),
    ]
    assert [bool(flow["endedAt"]) for flow in flows] == [True, False]
    assert flows[0]["startedAt"].startswith(BEGUN)
    assert [one["name"] for one in flows[0]["deployments"]] == ["x"]
    assert flows[0]["source"] == "scripted"


def test_page(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, str(path), "-o", "prometheus")
    assert status == 0
    samples = {s.name: s.value for family in text_string_to_metric_families(out) for s in family.samples}
    assert samples["flowmap_deployment_transmit_bytes_total"] == 107
    assert samples["flowmap_source_records_total"] == 7, "the source's own counts are those that were recorded"
    assert "process_cpu_seconds_total" not in samples


@pytest.mark.parametrize(
    ("query", "until", "status", "state", "names", "said"),
    [
        (("10.0.0.1:40000", "10.1.0.1:9092"), None, 0, "attributed", ["x"], ""),  # it is over and forgotten
        (("10.0.0.2", "10.1.0.1"), None, 0, "attributed", ["x"], ""),
        (("10.0.0.2:7", "10.1.0.1:9092"), "2027-01-15T08:00:04Z", 3, "pending", [], ""),
        (("10.0.0.9", "10.1.0.1:9092"), None, 3, "pending", [], f"{ABSENT}\n"),
        # Its ends are those of x; it is still not there.
        (("10.0.0.1:1", "10.1.0.1:9092"), "2028-01-01T00:00:00Z", 3, "pending", [], f"{ABSENT} up to --until\n"),
    ],
)
def test_one_connection(
    path: Path,
    capsys: pytest.CaptureFixture[str],
    query: tuple[str, str],
    until: str | None,
    status: int,
    state: str,
    names: list[str],
    said: str,
) -> None:
    limit = [] if until is None else ["--until", until]
    found, out, err = run(capsys, str(path), "-o", "json", "--query", *query, *limit)
    answer = json.loads(out)
    assert (found, err, answer["state"]) == (status, said, state)
    assert [one["name"] for one in answer["deployments"]] == names
    run(capsys, str(path), "-o", "table", "--query", *query, *limit)


def test_a_recording_that_was_cut_says_so(path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(path.read_bytes()[:-30])
    status, out, err = run(capsys, str(cut), "-o", "json")
    assert status == 3
    assert len(json.loads(out)["flows"]) == 2
    assert err.startswith(f"flowmap: {cut} is cut off at byte ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"hello, world", "a recording of flowmap run"),
        (b"\x89flowmap\r\n\x1a\n", "before the first entry"),
        (b"\x89flowmap\n", "a recording of flowmap run"),
    ],
)
def test_other_files_are_refused_in_one_line(
    content: bytes, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    status, out, err = run(capsys, str(file))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert message in err


def test_what_does_not_go_together(path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, _, err = run(capsys, str(path), "-c", "flowmap.yaml")
    assert (status, err.count("\n")) == (1, 1)
    assert "-c works only with --dry-run" in err
    status, _, err = run(capsys, str(tmp_path / "missing"))
    assert (status, err) == (1, f"flowmap: {tmp_path / 'missing'}: No such file or directory\n")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--explain"], "--explain: has an effect only with --query"),
        (["--protocol", "tcp"], "--protocol: has an effect only with --query"),
        (["--query", "10.0.0.1", "10.0.0.2", "-o", "prometheus"], "--query: has no prometheus output"),
        (["--tunnels", "outer"], "--tunnels: work only with captures"),
    ],
)
def test_options_without_effect_are_refused(
    path: Path, capsys: pytest.CaptureFixture[str], words: list[str], complaint: str
) -> None:
    status, out, err = run(capsys, str(path), *words)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert complaint in err


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (os.mkfifo, "a pipe cannot be replayed; write it to a file first"),
        (Path.mkdir, "a directory cannot be replayed, only a file in it"),
        (a_socket, "a device or socket cannot be replayed, only a file"),
        (lambda path: path.symlink_to("/dev/zero"), "a device or socket cannot be replayed, only a file"),
    ],
)
def test_what_is_no_file_is_not_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Any, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    make(Path("it"))
    assert run(capsys, "it") == (1, "", f"flowmap: it: {complaint}\n")


@pytest.mark.parametrize("text", ["garbage", "2h", ""])
def test_until_wants_a_time(path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(SystemExit):
        run(capsys, str(path), "--until", text)
    said = f"'{text}' is not a time; write it like 2026-11-21T20:16:07Z, or as seconds since the epoch\n"
    assert capsys.readouterr().err.endswith(said)


def test_dry_run(path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, err = run(capsys, str(path), "--dry-run", "-o", "json")
    assert (status, err) == (0, "")
    cost = json.loads(out)
    assert cost["recordedCalls"] == 4
    assert cost["callsByShape"] == {"client": 2, "sink": 1, "source": 1, "host": 1}
    config = tmp_path / "flowmap.yaml"
    config.write_text("control_plane: {workspace: w, namespaces: [ns]}\nattribute: {semantics: connection}\n")
    status, out, _ = run(capsys, str(path), "--dry-run", "-o", "table", "-c", str(config))
    assert status == 0
    assert "per 1,000 flows" in out
    assert "source" not in out
