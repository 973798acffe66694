"""Sample jobs: real processes that open real TCP connections on loopback and know what they sent.

Every exchange is a header (how much follows, how much is wanted back), a payload, and a reply of the wanted length.
A worker counts its payload bytes, header included, and prints them as one JSON line when it is told to stop: the
truth that the daemon's figures are compared with. All of 127.0.0.0/8 is loopback, so each sample TaskManager and each
service has an address of its own without any setting up.

    python -m flowmap.sandbox.demo.jobs serve FD…       accept on listening sockets that were inherited
    python -m flowmap.sandbox.demo.jobs work JSON       be one worker until SIGTERM or until the exchanges are done
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
"""Bytes of payload that follow, bytes wanted back."""

CHUNK = 1 << 16
LARGEST = 1 << 24
"""Bytes of the largest payload or reply."""

TIMEOUT = 30.0
"""Seconds after which an exchange that does not move is a failure."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One TaskManager talking to one service."""

    name: str
    source: str
    """Its own address."""
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
    """Rounds to do; None: until told to stop."""


@dataclass(slots=True)
class Truth:
    """What one worker really did; bytes are TCP payload."""

    name: str
    transmit_bytes: int = 0
    receive_bytes: int = 0
    connections: int = 0


STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_held_back() -> Iterator[None]:
    """Start jobs inside of this: a process keeps the mask of the thread that starts it, so one that is told to stop
    before its Python is up still stops in order. A signal for the caller waits until the block is left."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StopSignal:
    """SIGTERM and SIGINT, held back so that an exchange that runs is finished first."""

    def __init__(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

    def wait(self, seconds: float) -> bool:
        """Sleep; whether it is time to stop."""
        return signal.sigtimedwait(STOP_SIGNALS, seconds) is not None


def receive(connection: socket.socket, size: int) -> bytes:
    """Exactly ``size`` bytes; fewer only where the other end closed."""
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
    """Accept on every listener, a thread each, and a thread for every connection."""

    def run(connection: socket.socket) -> None:
        # A worker that was killed, or that stays silent, ends its own connection only.
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
    """Send and receive once, and count it. OSError if the service does not answer whole."""
    connection.sendall(HEADER.pack(worker.upload, worker.download) + bytes(worker.upload))
    truth.transmit_bytes += HEADER.size + worker.upload
    received = len(receive(connection, worker.download))
    truth.receive_bytes += received
    if received < worker.download:
        raise ConnectionError(f"{worker.service}:{worker.port} closed in the middle of an answer")


def connect(worker: Worker, truth: Truth) -> socket.socket:
    """A new connection from the worker's own address."""
    connection = socket.create_connection((worker.service, worker.port), TIMEOUT, source_address=(worker.source, 0))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    truth.connections += 1
    return connection


def work(worker: Worker, stop: StopSignal) -> Truth:
    """Do the worker's exchanges until told to stop; every connection is closed when this returns."""
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
    """The two commands of this module."""
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
    """Command line of the process that is ``worker``."""
    return [sys.executable, "-m", "flowmap.sandbox.demo.jobs", "work", json.dumps(asdict(worker))]


def argv_of_services(listeners: Sequence[socket.socket]) -> list[str]:
    """Command line of the process that serves ``listeners``; hand it their descriptors under the same numbers."""
    return [sys.executable, "-m", "flowmap.sandbox.demo.jobs", "serve", *(str(item.fileno()) for item in listeners)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
