"""The sample jobs: what they say they sent is what went over the connection."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from flowmap.sandbox.demo import jobs
from flowmap.sandbox.demo.jobs import HEADER, Truth, Worker


@pytest.fixture
def service() -> Iterator[tuple[str, int]]:
    """A service process on a loopback address of its own; gives address and port."""
    with closing(socket.create_server(("127.77.9.1", 0))) as listener:
        with jobs.stop_held_back():
            process = subprocess.Popen(jobs.argv_of_services([listener]), pass_fds=[listener.fileno()])
        yield listener.getsockname()
    process.terminate()
    assert process.wait(10) == 0


def worker(service: tuple[str, int], **changes: Any) -> Worker:
    plain = Worker("w", "127.77.8.1", *service, upload=5, download=7, pause=0.0)
    return replace(plain, **changes)


def truth_of(process: subprocess.Popen[bytes]) -> Truth:
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    return Truth(**json.loads(out))


ROWS = [
    # upload, download, connections, exchanges: connections opened
    (0, 0, 1, 1, 1),
    (5, 7, 1, 3, 1),
    (5, 7, 3, 2, 3),
    (100_000, 200_000, 1, 2, 1),
    (5, 7, 0, 4, 4),
]


@pytest.mark.parametrize(("upload", "download", "connections", "exchanges", "opened"), ROWS)
def test_the_truth_is_arithmetic(
    service: tuple[str, int], upload: int, download: int, connections: int, exchanges: int, opened: int
) -> None:
    spec = worker(service, upload=upload, download=download, connections=connections, exchanges=exchanges)
    truth = truth_of(subprocess.Popen(jobs.argv(spec), stdout=subprocess.PIPE))
    rounds = exchanges * max(connections, 1)
    assert truth == Truth("w", rounds * (HEADER.size + upload), rounds * download, opened)


def test_sigterm_ends_after_the_exchange_and_tells_the_truth() -> None:
    with closing(socket.create_server(("127.77.9.2", 0))) as listener:
        spec = worker(listener.getsockname(), pause=0.01)
        process = subprocess.Popen(jobs.argv(spec), stdout=subprocess.PIPE)
        connection, (source, _) = listener.accept()
        assert source == spec.source
        with connection:
            request = jobs.receive(connection, HEADER.size + spec.upload)
            process.send_signal(signal.SIGTERM)
            connection.sendall(bytes(spec.download))
            rest = jobs.receive(connection, 1 << 20)  # reads until the worker closes
    assert HEADER.unpack(request[: HEADER.size]) == (spec.upload, spec.download)
    sent = len(request) + len(rest)
    assert truth_of(process) == Truth("w", sent, spec.download, 1)


def test_a_job_told_to_stop_before_it_is_up_stops_in_order() -> None:
    with closing(socket.create_server(("127.77.9.4", 0))) as listener:
        with jobs.stop_held_back():
            process = subprocess.Popen(jobs.argv(worker(listener.getsockname())), stdout=subprocess.PIPE)
            process.terminate()  # the interpreter has not even begun
        assert truth_of(process) == Truth("w", 0, 0, 1)


def test_holding_back_ends_with_the_block() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with jobs.stop_held_back():
        assert before.union(jobs.STOP_SIGNALS) == signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_service_that_goes_away_is_a_failure() -> None:
    with closing(socket.create_server(("127.77.9.3", 0))) as listener:
        process = subprocess.Popen(
            jobs.argv(worker(listener.getsockname())), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        listener.accept()[0].close()
        out, err = process.communicate(timeout=30)
    assert process.returncode != 0
    assert out == b""
    assert b"Error" in err


@pytest.mark.parametrize("header", [b"", b"\0" * 7, HEADER.pack(9, 9) + b"short", HEADER.pack(jobs.LARGEST + 1, 0)])
def test_a_service_survives_a_client_that_talks_nonsense(service: tuple[str, int], header: bytes) -> None:
    with socket.create_connection(service) as bad:
        bad.sendall(header)
        bad.shutdown(socket.SHUT_WR)
        assert bad.recv(1) == b""
    spec = worker(service, exchanges=1)
    assert truth_of(subprocess.Popen(jobs.argv(spec), stdout=subprocess.PIPE)).receive_bytes == 7
