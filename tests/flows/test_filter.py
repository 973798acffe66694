"""Include and exclude patterns."""

from __future__ import annotations

import pytest

from flowmap.flows.filter import Filter, Pattern
from flowmap.flows.records.batch import Flag, RecordKind
from tests.support.records import Record, batch_of, replace

FLOW = Record(RecordKind.OPENED)  # 10.0.0.1:40000 to 10.1.0.1:9092, TCP
SIX = replace(FLOW, client="2001:db8::1", server="2001:db9::1", server_port=443)
NAT = replace(FLOW, translated=("192.0.2.1", 1, "172.16.0.1", 8080))


@pytest.mark.parametrize(
    ("pattern", "record", "matches"),
    [
        ("10.0.0.0/8", FLOW, True),
        ("10.1.0.1", FLOW, True),
        ("10.0.0.1", FLOW, True),
        ("10.0.0.2", FLOW, False),
        ("0.0.0.0/0", FLOW, True),
        ("0.0.0.0/0", SIX, False),
        ("::/0", SIX, True),
        ("::/0", FLOW, False),
        ("::/80", FLOW, False),
        ("::/96", FLOW, False),
        ("::ffff:0:0/95", FLOW, False),
        ("::ffff:0:0/96", FLOW, True),
        ("::ffff:0:0/96", SIX, False),
        ("::ffff:10.0.0.0/104", FLOW, True),
        ("::ffff:10.9.0.0/112", FLOW, False),
        ("[::ffff:10.1.0.0]/112:9092", FLOW, True),
        ("10.0.0.77/24", FLOW, True),
        ("[::]/0:9092", FLOW, False),
        ("[::]/0:443", SIX, True),
        ("0.0.0.0/0:443", SIX, False),
        ("2001:db8::/32", SIX, True),
        ("2001:db8::/32", FLOW, False),
        ("tcp/9092", FLOW, True),
        ("TCP/9092", FLOW, True),
        ("udp/9092", FLOW, False),
        ("tcp/40000", FLOW, False),
        ("10.1.0.0/16:9092", FLOW, True),
        ("10.1.0.0/16:9093", FLOW, False),
        ("10.0.0.0/16:9092", FLOW, False),
        ("[2001:db9::]/32:443", SIX, True),
        ("[2001:db9::1]:443", SIX, True),
        ("[2001:db8::]/32:443", SIX, False),
        ("172.16.0.0/12", NAT, True),
        ("192.0.2.0/24", NAT, True),
        ("172.16.0.1:8080", NAT, True),
        ("tcp/8080", NAT, True),
        ("10.1.0.1:9092", NAT, True),
    ],
)
def test_patterns(pattern: str, record: Record, matches: bool) -> None:
    assert Pattern.parse(pattern).matches(batch_of(record)).tolist() == [matches]


@pytest.mark.parametrize(
    "text", ["", "home", "10.0.0.0/33", "tcp/", "tcp/0", "tcp/65536", "tcp/x", "10.0.0.1:0", "10.0.0.1:99999", "xyz/5"]
)
def test_invalid_patterns(text: str) -> None:
    with pytest.raises(ValueError):
        Pattern.parse(text)


@pytest.mark.parametrize(
    ("include", "exclude", "ignored"),
    [
        ([], [], [False, False]),
        (["10.0.0.0/8"], [], [False, True]),
        ([], ["10.0.0.0/8"], [True, False]),
        (["10.0.0.0/8", "tcp/443"], ["2001:db8::1"], [False, True]),
        (["tcp/1"], ["tcp/2"], [True, True]),
    ],
)
def test_include_and_exclude(include: list[str], exclude: list[str], ignored: list[bool]) -> None:
    assert Filter(include, exclude).ignores(batch_of(FLOW, SIX)).tolist() == ignored


def test_flows_of_a_cgroup_that_is_left_out_are_ignored() -> None:
    left_out = replace(FLOW, flags=Flag.LEFT_OUT)
    assert Filter().ignores(batch_of(FLOW, left_out)).tolist() == [False, True]
    assert Filter(["10.0.0.0/8"]).ignores(batch_of(FLOW, left_out)).tolist() == [False, True]
