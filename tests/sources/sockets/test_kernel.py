"""The range of client ports."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowmap.sources.sockets.kernel import ephemeral_ports

PORTS: list[tuple[str | None, tuple[int, int], str]] = [
    # the file, the range, and why it is a guess
    ("1024\t65535\n", (1024, 65535), ""),
    ("0\t0\n", (0, 0), ""),
    (None, (32768, 60999), "does not exist"),
    ("nonsense", (32768, 60999), "contains no range"),
    ("1 2 3", (32768, 60999), "contains no range"),
]


@pytest.mark.parametrize(("text", "ports", "cause"), PORTS)
def test_the_range_of_client_ports(tmp_path: Path, text: str | None, ports: tuple[int, int], cause: str) -> None:
    file = tmp_path / "ip_local_port_range"
    if text is not None:
        file.write_text(text)
    found = ephemeral_ports(file)
    assert (found.first, found.last) == ports
    assert cause in found.cause and bool(found.cause) == bool(cause)
    assert list(found.notes()) == (["client_ports"] if cause else [])
    assert [finding.name for finding in found.findings("sockets")] == (["sockets.client_ports"] if cause else [])
