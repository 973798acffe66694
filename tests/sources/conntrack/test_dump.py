"""One full read of the conntrack table."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor

import pytest

from flowmap.errors import SourceDenied, SourceError
from flowmap.flows.records.batch import Flag
from flowmap.sources.conntrack.dump import Dump
from flowmap.sources.netlink_socket import Received
from flowmap.wire.netlink.conntrack_columns import ColumnDecoder
from tests.support.conntrack_kernel import INTERRUPTED, Kernel, done, entry, received

PARTS = [received(entry(1), entry(2), drained=False), received(entry(3), drained=False), received(done())]

READS: list[tuple[str, list[Received], bool, list[int]]] = [
    ("empty", [received(done())], True, []),
    ("one part", [received(entry(1), done())], True, [1]),
    ("three parts", PARTS, True, [1, 2, 3]),
    ("no end", [received(entry(1))], False, [1]),
    ("interrupted", [received(entry(1), INTERRUPTED)], False, [1]),
    ("overrun", [received(entry(1), drained=False, overrun=True), received(done())], False, [1]),
    ("truncated", [received(entry(1), truncated=1, drained=False), received(done())], False, [1]),
    ("busy kernel", [received(entry(1), done(errno.EBUSY))], False, [1]),
]


@pytest.mark.parametrize("ahead", [False, True], ids=["one thread", "read ahead"])
@pytest.mark.parametrize(("parts", "complete", "found"), [row[1:] for row in READS], ids=[row[0] for row in READS])
def test_reads(kernel: Kernel, parts: list[Received], complete: bool, found: list[int], ahead: bool) -> None:
    kernel.dumps = [list(parts)]
    with ThreadPoolExecutor(1) as pool:
        dump = Dump(ColumnDecoder(), pool if ahead else None, marked=int(Flag.END_UNANNOUNCED))
        batches = list(dump.batches())
    assert [number for batch in batches for number in batch.id.tolist()] == found
    assert all((batch.flags & Flag.END_UNANNOUNCED).all() for batch in batches)
    assert dump.complete is complete
    assert kernel.sockets[-1].closed


@pytest.mark.parametrize(("number", "kind"), [(errno.EPERM, SourceDenied), (errno.EINVAL, SourceError)])
def test_refused(kernel: Kernel, number: int, kind: type[SourceError]) -> None:
    kernel.dumps = [[received(done(number))]]
    dump = Dump(ColumnDecoder())
    with pytest.raises(kind) as raised:
        list(dump.batches())
    assert raised.value.remedy
    assert not dump.complete
    assert kernel.sockets[-1].closed


def test_malformed_entries_are_counted(kernel: Kernel) -> None:
    broken = bytearray(entry(2))
    broken[20:22] = b"\xff\xff"
    kernel.dumps = [[received(entry(1), bytes(broken), done())]]
    dump = Dump(ColumnDecoder())
    assert [batch.id.tolist() for batch in dump.batches()] == [[1]]
    assert dump.malformed == 1
