"""Open files and listening ports of processes, from a tree like /proc and from the real one."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from flowmap.system import proc
from flowmap.system.open_files import Looked, Opened, look

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def row(port: int, inode: int, state: str = "0A") -> str:
    return f"   0: 0100007F:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 {inode} 1\n"


def process(root: Path, pid: int, *links: str, tcp: str = HEAD) -> None:
    (root / str(pid) / "fd").mkdir(parents=True)
    (root / str(pid) / "net").mkdir()
    (root / str(pid) / "net" / "tcp").write_text(tcp)
    for number, link in enumerate(links):
        (root / str(pid) / "fd" / str(number)).symlink_to(link)


def test_files_and_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "PROC", tmp_path)
    (tmp_path / "self").mkdir()
    tcp = HEAD + row(6122, 11) + row(7000, 12) + row(8000, 13) + row(9000, 11, "01")
    process(tmp_path, 20, "/a.jar", "/b.txt", "/c.jar (deleted)", "/a.jar", "socket:[11]", "socket:[12]", tcp=tcp)
    process(tmp_path, 3, "/b.txt")
    (tmp_path / "40").mkdir()  # ended while it was read
    assert look(lambda path: path.endswith(".jar")) == Looked(
        (Opened(20, ("/a.jar", "/c.jar"), frozenset((6122, 7000))),), 0
    )


def test_of_this_process(tmp_path: Path) -> None:
    file = tmp_path / "x.jar"
    file.touch()
    with file.open(), socket.create_server(("127.0.0.1", 0)) as server:
        (found,) = look(lambda path: path == str(file)).found
        assert found.pid == os.getpid()
        assert server.getsockname()[1] in found.ports
