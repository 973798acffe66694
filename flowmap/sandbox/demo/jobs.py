"""Sample jobs: processes with real TCP connections on loopback that count their bytes.

An exchange is a header (length of the payload, length of the reply), the payload and the reply. A worker counts its
TCP payload bytes, headers included, and prints them as one JSON line when it stops. The demo compares the daemon's
bytes with them. All of 127.0.0.0/8 is loopback, so each TaskManager and each service has its own address.

    python -m flowmap.sandbox.demo.jobs serve FD…       accept on inherited listening sockets
    python -m flowmap.sandbox.demo.jobs work JSON       be one worker until SIGTERM or until its exchanges are done
"""

from __future__ import annotations

import json
import signal
import socket
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

HEADER = struct.Struct("!II")
"""Length of the payload and of the reply, in bytes."""

CHUNK = 1 << 16
LARGEST = 1 << 24
"""Largest payload or reply, in bytes."""

TIMEOUT = 30.0
"""Seconds without progress after which an exchange fails."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A TaskManager with connections to one service."""

    name: str
    source: str
    """Address of the TaskManager."""
    service: str
    port: int
    upload: int
    """Payload bytes sent in an exchange."""
    download: int
    """Payload bytes received in an exchange."""
    pause: float
    """Seconds between two rounds of exchanges."""
    connections: int = 1
    """Connections held open; 0 opens a new one for every exchange."""
    exchanges: int | None = None
    """Number of rounds; None: until SIGTERM."""


@dataclass(slots=True)
class Truth:
    """TCP payload bytes and connections that one worker counted."""

    name: str
    transmit_bytes: int = 0
    receive_bytes: int = 0
    connections: int = 0


STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_held_back() -> Iterator[None]:
    """Block stop signals while starting jobs.

    A child inherits the signal mask, so a SIGTERM before its interpreter is ready still stops it in order. A signal
    to the caller is delivered after the block.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StopSignal:
    """SIGTERM and SIGINT, blocked so that a running exchange completes first."""

    def __init__(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

    def wait(self, seconds: float) -> bool:
        """Sleep; returns whether a stop signal arrived."""
        return signal.sigtimedwait(STOP_SIGNALS, seconds) is not None


def receive(connection: socket.socket, size: int) -> bytes:
    """Read ``size`` bytes; fewer if the peer closed the connection."""
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(min(CHUNK, size - len(parts)))
        if not part:
            break
        parts += part
    return bytes(parts)


def answer(connection: socket.socket) -> None:
    """Serve one connection until the client closes it."""
    with connection:
        connection.settimeout(TIMEOUT)
        while len(header := receive(connection, HEADER.size)) == HEADER.size:
            follows, wanted = HEADER.unpack(header)
            if max(follows, wanted) > LARGEST or len(receive(connection, follows)) < follows:
                return
            connection.sendall(bytes(wanted))


def serve(listeners: Sequence[socket.socket]) -> None:
    """Accept on every listener, with a thread for each listener and each connection."""

    def run(connection: socket.socket) -> None:
        # A killed or stalled worker affects its own connection only.
        try:
            answer(connection)
        except OSError:
            connection.close()

    def accept(listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=run, args=(connection,), daemon=True).start()

    for listener in listeners:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()


def exchange(connection: socket.socket, worker: Worker, truth: Truth) -> None:
    """Send and receive once and count the bytes. OSError for an incomplete reply."""
    connection.sendall(HEADER.pack(worker.upload, worker.download) + bytes(worker.upload))
    truth.transmit_bytes += HEADER.size + worker.upload
    received = len(receive(connection, worker.download))
    truth.receive_bytes += received
    if received < worker.download:
        raise ConnectionError(f"{worker.service}:{worker.port} closed the connection during a reply")


def connect(worker: Worker, truth: Truth) -> socket.socket:
    """Open a connection from the address of the worker."""
    connection = socket.create_connection((worker.service, worker.port), TIMEOUT, source_address=(worker.source, 0))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    truth.connections += 1
    return connection


def work(worker: Worker, stop: StopSignal) -> Truth:
    """Do the exchanges until a stop signal, then close every connection."""
    truth = Truth(worker.name)
    held = [connect(worker, truth) for _ in range(worker.connections)]
    done = 0
    while done != worker.exchanges and not stop.wait(worker.pause):
        for connection in held or [connect(worker, truth)]:
            exchange(connection, worker, truth)
            if not held:
                connection.close()
        done += 1
    for connection in held:
        connection.close()
    return truth


def main(arguments: Sequence[str]) -> int:
    """Run one of the two commands of this module."""
    stop = StopSignal()
    if arguments[0] == "serve":
        serve([socket.socket(fileno=int(number)) for number in arguments[1:]])
        while not stop.wait(60.0):
            pass
        return 0
    truth = work(Worker(**json.loads(arguments[1])), stop)
    sys.stdout.write(json.dumps(asdict(truth)) + "\n")
    return 0


def argv(worker: Worker) -> list[str]:
    """Command line of the process of ``worker``."""
    return [sys.executable, "-m", "flowmap.sandbox.demo.jobs", "work", json.dumps(asdict(worker))]


def argv_of_services(listeners: Sequence[socket.socket]) -> list[str]:
    """Command line of the process that serves ``listeners``. It must inherit their descriptors."""
    return [sys.executable, "-m", "flowmap.sandbox.demo.jobs", "serve", *(str(item.fileno()) for item in listeners)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
