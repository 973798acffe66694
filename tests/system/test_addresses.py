"""The addresses of this host, from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowmap.system.addresses import own_addresses

TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 10.0.0.0
        /24 link UNICAST
     |-- 10.0.0.7
        /32 host LOCAL
     |-- 10.0.0.255
        /32 link BROADCAST
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 169.254.1.1
        /32 host LOCAL
"""
SIX = """20010db8000000000000000000000007 02 40 00 80     eth0
fe800000000000000000000000000001 02 40 20 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
short 02 40 00 80     eth0
"""


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, set()),
        ({"fib_trie": TRIE}, {"10.0.0.7"}),
        ({"if_inet6": SIX}, {"2001:db8::7"}),
        ({"fib_trie": TRIE, "if_inet6": SIX}, {"10.0.0.7", "2001:db8::7"}),
        ({"fib_trie": "", "if_inet6": "\n"}, set()),
    ],
)
def test_addresses(tmp_path: Path, files: dict[str, str], expected: set[str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert own_addresses(tmp_path) == expected


def test_this_host_has_no_loopback_among_them() -> None:
    assert not {"127.0.0.1", "::1"} & own_addresses()
