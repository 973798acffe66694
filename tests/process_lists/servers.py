"""Real database servers in a network namespace, and clients that log in from chosen addresses.

The clients speak just enough of each protocol to appear in the server's list of connections.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.netns import Namespace
from tests.support.waiting import until


def postgres_program(name: str) -> str | None:
    """The program of Debian's newest PostgreSQL server; None if it is not installed."""
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    return found[-1] if found else None


def missing() -> str:
    """The Debian packages of servers that are not installed; empty if all are."""
    there = {
        "mariadb-server": shutil.which("mariadbd", path="/usr/sbin:/usr/bin"),
        "postgresql": postgres_program("postgres"),
        "redis-server": shutil.which("redis-server"),
    }
    return " ".join(package for package, program in there.items() if not program)


class Server(NamedTuple):
    """A running server, how a client logs in, and how its list of connections is printed."""

    name: str
    address: str
    port: int
    log_in: Callable[[socket.socket], None]
    listing: Callable[[Namespace], str]


def receive(peer: socket.socket, size: int) -> bytes:
    """Exactly ``size`` bytes."""
    data = b""
    while len(data) < size:
        part = peer.recv(size - len(data))
        assert part, "the server closed the connection"
        data += part
    return data


def log_in_to_mariadb(peer: socket.socket) -> None:
    """The server's greeting, then a login without a password."""
    length = int.from_bytes(receive(peer, 4)[:3], "little")
    receive(peer, length)
    capabilities = 0x0000_8200  # protocol 4.1, secure connection
    body = struct.pack("<IIB23x", capabilities, 1 << 24, 33) + b"flink\0" + b"\0"
    peer.sendall(len(body).to_bytes(3, "little") + b"\x01" + body)
    length = int.from_bytes(receive(peer, 4)[:3], "little")
    assert receive(peer, length)[0] == 0, "the server refused the login"


def log_in_to_postgresql(peer: socket.socket) -> None:
    """A startup message, then what the server sends until it is ready."""
    body = struct.pack("!I", 196608) + b"user\0flink\0database\0postgres\0application_name\0debezium\0\0"
    peer.sendall(struct.pack("!I", len(body) + 4) + body)
    while True:
        kind, length = struct.unpack("!cI", receive(peer, 5))
        text = receive(peer, length - 4)
        assert kind != b"E", text
        if kind == b"Z":
            return


def log_in_to_redis(peer: socket.socket) -> None:
    """A command, so that the server has seen the client."""
    peer.sendall(b"PING\r\n")
    assert receive(peer, 7) == b"+PONG\r\n"


@contextmanager
def _process(inside: Namespace, command: Sequence[str], user: str, log: Path) -> Iterator[None]:
    account = pwd.getpwnam(user)
    with inside.entered(), log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _directory(user: str) -> Iterator[Path]:
    """A directory that a server may write, gone afterwards."""
    account = pwd.getpwnam(user)
    path = Path(tempfile.mkdtemp(prefix=f"flowmap-{user}-"))
    os.chown(path, account.pw_uid, account.pw_gid)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def _run(command: Sequence[str], user: str) -> None:
    account = pwd.getpwnam(user)
    done = subprocess.run(
        command, capture_output=True, text=True, user=account.pw_uid, group=account.pw_gid, extra_groups=[], cwd="/"
    )
    assert done.returncode == 0, done.stderr


def _answers(inside: Namespace, address: str, port: int, log_in: Callable[[socket.socket], None]) -> bool:
    with inside.entered():
        try:
            with socket.create_connection((address, port), timeout=5) as peer:
                log_in(peer)
        except (OSError, AssertionError):
            return False
    return True


@contextmanager
def mariadb(inside: Namespace, address: str) -> Iterator[Server]:
    """MariaDB with a user without a password."""
    with _directory("mysql") as home:
        data, there = home / "data", f"--datadir={home / 'data'}"
        normal = "--auth-root-authentication-method=normal"
        _run(["mariadb-install-db", "--no-defaults", there, "--skip-test-db", normal], "mysql")
        assert data.exists()
        options = [there, f"--bind-address={address}", "--port=3306", f"--socket={home}/s", f"--pid-file={home}/p"]
        options += ["--skip-name-resolve", "--innodb-buffer-pool-size=8M"]
        create = home / "create.sql"
        create.write_text("CREATE USER flink@'%';\n")
        options.append(f"--init-file={create}")
        program = shutil.which("mariadbd", path="/usr/sbin:/usr/bin") or "mariadbd"
        with _process(inside, [program, "--no-defaults", *options], "mysql", home / "log"):
            until(lambda: _answers(inside, address, 3306, log_in_to_mariadb), "MariaDB answers", seconds=60)
            client = ["mariadb", "--no-defaults", f"--socket={home}/s", "--user=root", "--table", "-e"]
            yield Server(
                "mariadb", address, 3306, log_in_to_mariadb, lambda where: where.run(*client, "SHOW PROCESSLIST")
            )


@contextmanager
def postgresql(inside: Namespace, address: str) -> Iterator[Server]:
    """PostgreSQL that trusts everybody."""
    initdb, postgres = postgres_program("initdb"), postgres_program("postgres")
    assert initdb and postgres
    with _directory("postgres") as home:
        data = str(home / "data")
        _run([initdb, "-D", data, "-A", "trust", "-U", "flink", "--no-sync", "--locale=C"], "postgres")
        Path(data, "pg_hba.conf").write_text("local all all trust\nhost all all all trust\n")
        options = ["-D", data, "-h", address, "-k", str(home), "-c", "fsync=off", "-c", "log_connections=on"]
        options += ["-c", "log_line_prefix=%m [%p] %r ", "-c", "max_connections=150"]
        with _process(inside, [postgres, *options], "postgres", home / "log"):
            until(lambda: _answers(inside, address, 5432, log_in_to_postgresql), "PostgreSQL answers", seconds=60)
            client = ["psql", "-X", "-h", str(home), "-U", "flink", "-d", "postgres", "-c"]
            query = (
                "SELECT pid, usename, application_name, client_addr, client_port, state "
                "FROM pg_stat_activity WHERE backend_type = 'client backend'"
            )
            yield Server("postgresql", address, 5432, log_in_to_postgresql, lambda where: where.run(*client, query))


@contextmanager
def redis(inside: Namespace, address: str) -> Iterator[Server]:
    """Redis, whose list Valkey prints in the same form."""
    with _directory("redis") as home:
        options = ["--bind", address, "--port", "6379", "--protected-mode", "no", "--save", "", "--dir", str(home)]
        with _process(inside, ["redis-server", *options], "redis", home / "log"):
            until(lambda: _answers(inside, address, 6379, log_in_to_redis), "Redis answers", seconds=60)
            client = ["redis-cli", "-h", address, "client", "list"]
            yield Server("redis", address, 6379, log_in_to_redis, lambda where: where.run(*client))
