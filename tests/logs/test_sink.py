"""A sink never blocks its callers, writes whole lines, and counts those it cannot write."""

from __future__ import annotations

import os
import threading

from flowmap.logs.sink import Sink, write


def test_a_full_queue_rejects_lines_until_it_is_written() -> None:
    reading, writing = os.pipe()
    sink = Sink(writing, lines=2)
    assert [sink.put(line) for line in (b"a\n", b"b\n", b"c\n")] == [True, True, False]
    sink.start(lambda: None)
    sink.finish(10)
    os.close(writing)
    with os.fdopen(reading, "rb") as read:
        assert read.read() == b"a\nb\n"


def test_lines_are_written_without_a_thread() -> None:
    reading, writing = os.pipe()
    sink = Sink(writing)
    sink.put(b"last words\n")
    sink.finish(10)
    sink.finish(10)
    os.close(writing)
    with os.fdopen(reading, "rb") as read:
        assert read.read() == b"last words\n"


def test_lines_for_a_closed_reader_are_counted() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    sink = Sink(writing)
    for _ in range(3):
        sink.put(b"nobody reads this\n")
    sink.finish(10)
    os.close(writing)
    assert sink.failed == 3


def test_a_long_line_through_a_non_blocking_descriptor_arrives_whole() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    line = bytes(range(256)) * 4096
    got: list[bytes] = []

    def read() -> None:
        with os.fdopen(reading, "rb") as file:
            got.append(file.read())

    reader = threading.Thread(target=read)
    reader.start()
    assert write(writing, line)
    os.close(writing)
    reader.join(30)
    assert got == [line]
