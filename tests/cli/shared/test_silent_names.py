"""Commands where the name servers never answer: they end in time, say why, and can be interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NO_ANSWER = """
import signal, socket, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
real = socket.getaddrinfo
def hang(host, *rest, **more):
    name = host if isinstance(host, str) else host.decode()
    if name == "127.0.0.1":
        return real(host, *rest, **more)
    sys.stderr.write(f"asked {name}\\n")
    threading.Event().wait()
socket.getaddrinfo = hang
from flowmap.cli import command
from flowmap.cli.shared import client
client.TIMEOUT = 0.3
from flowmap.serve.server import server
server.LOOKUP_SECONDS = 0.3
sys.exit(command.main(sys.argv[1:]))
"""


def write(directory: Path, timeout: str) -> Path:
    plane = {
        "endpoint": "https://plane.example",
        "workspace": "w",
        "namespaces": ["a", "b"],
        "timeout": timeout,
        "credentials": {"access_key_id": "i", "access_key_secret": "s"},
    }
    file = directory / "flowmap.yaml"
    listen = {"listen": "name.example:1", "insecure": True}
    file.write_text(json.dumps({"control_plane": plane, "http": listen, "collect": {"source": "sockets"}}))
    return file


DIRECT = ["query", "10.0.0.1", "10.0.0.2:9092", "--direct"]
PLANE = "cannot resolve plane.example: no name server answered within 0."
COMMANDS: list[tuple[list[str], str]] = [
    (["deployments", "list"], PLANE),
    (["deployments", "by-ip", "--src-ip", "10.0.0.1"], PLANE),
    (["jobs", "d"], PLANE),
    (["package-users", "a.jar"], PLANE),
    (["check", "-o", "json"], PLANE),
    (DIRECT, PLANE),
    (["run"], "http.listen name.example:1: no name server answered within 0.3 s"),
]


@pytest.mark.parametrize(("words", "said"), COMMANDS, ids=[row[0][0] for row in COMMANDS])
def test_a_command_ends_and_names_the_cause(words: list[str], said: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_ANSWER, *words, "-c", str(write(tmp_path, "500ms"))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    asked = [line for line in done.stderr.splitlines() if line.startswith("asked")]
    assert len(asked) == len(set(asked)), "who asks again joins the look-up under way"


def test_the_name_of_a_daemon() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_ANSWER, "flows", "--url", "http://daemon.example:1"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = "http://daemon.example:1: cannot resolve daemon.example: no name server answered within 0.3 s"
    assert (done.returncode, done.stderr.splitlines()[1]) == (1, f"flowmap: {said}; see /etc/resolv.conf")


@contextmanager
def running(words: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is killed at the end, and after a minute: then what it should have done did not happen."""
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        late = threading.Timer(60, process.kill)
        late.start()
        try:
            yield process
        finally:
            late.cancel()
            process.kill()


INTERRUPTED = [DIRECT, ["deployments", "list"], ["check"], ["flows", "--url", "http://daemon.example:1"], ["health"]]


@pytest.mark.parametrize("words", INTERRUPTED, ids=[words[0] for words in INTERRUPTED])
def test_ctrl_c_ends_a_command_that_waits_for_a_name(words: list[str], tmp_path: Path) -> None:
    script = NO_ANSWER.replace("0.3", "1000")
    given = words if "--url" in words else [*words, "-c", str(write(tmp_path, "1000s"))]
    with running([sys.executable, "-c", script, *given]) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("asked ")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130


def test_a_daemon_that_waits_for_a_name_ends_in_order(tmp_path: Path) -> None:
    settings = json.loads(write(tmp_path, "1000s").read_text())
    settings["control_plane"]["catalog"] = {"refresh": "100ms"}
    settings["http"] = {"listen": "127.0.0.1:0"}
    file = tmp_path / "flowmap.yaml"
    file.write_text(json.dumps(settings))
    words = [sys.executable, "-c", NO_ANSWER, "run", "-c", str(file)]
    with running(words) as process:
        assert process.stderr is not None
        while (line := process.stderr.readline()) != "asked plane.example\n":
            assert line, "it ended"
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
        assert process.wait() == 0
    assert "SIGTERM: stopping" in said
    assert "shutdown timed out" not in said, "the look-up was left behind and not waited for"
