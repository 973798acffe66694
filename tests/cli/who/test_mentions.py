"""Endpoints in single lines."""

from __future__ import annotations

import pytest

from flowmap.cli.who.mentions import Mention, Place, mentions_in, place_in

LINES = [
    ("nothing here", []),
    ("at 12:30:45 on 2026-11-30", []),
    ("std::string dead::beef a::b", []),
    ("02:42:ac:11:00:02", []),
    ("version 1.2.3 of nginx/1.2.3.4", []),
    ("999.1.1.1:80", []),
    ("10.0.0.1:0", ["10.0.0.1"]),
    ("10.0.0.1:70000 10.0.0.2:7", ["10.0.0.1", "10.0.0.2:7"]),
    ("10.0.0.1:nosuchservice", ["10.0.0.1"]),
    ("10.0.0.1: connection refused", ["10.0.0.1"]),
    ("connected to 10.0.0.1:40000.", ["10.0.0.1:40000"]),
    ("[10.0.0.1]:40000", ["10.0.0.1:40000"]),
    ("10.0.0.1 reads 10.0.0.2:9092", ["10.0.0.1", "10.0.0.2:9092"]),
    ("10.0.0.1", ["10.0.0.1"]),
    ("10.0.0.1.", ["10.0.0.1"]),
    ("10.0.0.1:40000", ["10.0.0.1:40000"]),
    ("from 10.0.0.1:40000, again 10.0.0.1:40000", ["10.0.0.1:40000"]),
    ("10.0.0.1:mysql", ["10.0.0.1:3306"]),
    ("10.0.0.1(40000)", ["10.0.0.1:40000"]),
    ("/10.0.0.1:40000 and host/10.0.0.2:9092", ["10.0.0.1:40000 -> 10.0.0.2:9092"]),
    ("to 10.0.0.2:9092 from 10.0.0.1:40000", ["10.0.0.1:40000 -> 10.0.0.2:9092"]),
    ("[2001:db8::1]:40000", ["[2001:db8::1]:40000"]),
    ("[::ffff:10.0.0.1]:40000", ["10.0.0.1:40000"]),
    ("fe80::1%eth0 said", ["fe80::1"]),
    ("a 10.0.0.1:1 b 10.0.0.2:2 c 10.0.0.3:3", ["10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3"]),
    (" ".join(f"10.0.0.{n}:1" for n in range(1, 30)), [f"10.0.0.{n}:1" for n in range(1, 30)]),
    # which of them is the client
    ("client: 10.0.0.1, upstream: 10.0.0.2:80", ["10.0.0.1"]),
    ('remote_addr="10.0.0.1:40000" server=10.0.0.2:80', ["10.0.0.1:40000 -> 10.0.0.2:80"]),
    ("peer=10.0.0.2:80 local=10.0.0.1:40000", ["10.0.0.1:40000 -> 10.0.0.2:80"]),
    ("peer=10.0.0.1:40000", ["10.0.0.1:40000"]),
    ("clientele: none, 10.0.0.1:5", ["10.0.0.1:5"]),
    ("addr=/run/redis.sock:0 laddr=", []),
    ("tcp 0 0 0.0.0.0:22 0.0.0.0:* LISTEN", []),
    ("udp 0 0 10.0.0.1:5353 10.0.0.2:53 ESTABLISHED", ["10.0.0.1:5353 -> 10.0.0.2:53"]),
    ("udp ESTAB 0 0 10.0.0.1%eth0:5353 10.0.0.2:53", ["10.0.0.1:5353 -> 10.0.0.2:53"]),
    ("udp 17 29 src=10.0.0.1 dst=10.0.0.2 sport=5353 dport=53 src=10.0.0.2", ["10.0.0.1:5353 -> 10.0.0.2:53"]),
    ("icmp 1 29 src=10.0.0.1 dst=10.0.0.2 type=8", ["10.0.0.1", "10.0.0.2"]),
]


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_lines(line: str, expected: list[str]) -> None:
    assert [str(mention) for mention in mentions_in(line)] == expected


def test_the_protocol_of_a_line() -> None:
    (found,) = mentions_in("udp 0 0 10.0.0.1:5353 10.0.0.2:53")
    assert found == Mention(Place("10.0.0.1", 5353), Place("10.0.0.2", 53), "udp")


@pytest.mark.parametrize(
    ("line", "loose"),
    [
        ("10.0.0.1:40000 replaced 10.0.0.2:40001", True),
        ("10.0.0.1:40000->10.0.0.2:9092", False),
        ("tcp 0 0 10.0.0.1:40000 10.0.0.2:9092", False),
    ],
)
def test_endpoints_that_may_belong_to_two_connections(line: str, loose: bool) -> None:
    (found,) = mentions_in(line)
    assert found.loose is loose


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("2001:db8::11:39393", Place("2001:db8::11", 39393)),  # as netstat writes it
        ("::1:631", Place("::1", 631)),
        ("*:9093", None),
        (":::22", None),
        ("10.0.0.1", None),
        ("10.0.0.1:80x", None),
    ],
)
def test_tokens(token: str, expected: Place | None) -> None:
    assert place_in(token) == expected
