"""What recording costs: events of a conntrack table into the books, recorded and not, in turns.

    python -m tests.bench.bench_record [--events N] [--rounds N]     # as root: it makes a network namespace

The events are real: they are read from the kernel once, then replayed from memory to both, so that both do the same.
CPU is that of the whole process, the recorder's thread included. The peer is the same work without a recorder.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from flowmap.config import Config
from flowmap.engine.commands import Apply, Decide, TakeStep
from flowmap.engine.factory import make_accounting
from flowmap.flows.records.batch import Datagrams
from flowmap.model.source import SourceFacts, SourceStats
from flowmap.recording.file import RecordingFile
from flowmap.recording.reader import RecordingReader
from flowmap.recording.recorder import Recorder
from flowmap.recording.settings import kept_settings
from flowmap.replay.recording import Replay
from flowmap.sources.base import CaughtUp, ReadFinished, ReadStarted
from flowmap.sources.netlink_socket import NETLINK_NETFILTER, NetlinkSocket
from flowmap.wire.netlink.conntrack import CtMessage, Group
from flowmap.wire.netlink.conntrack_columns import ColumnDecoder
from tests.bench.bench_conntrack import requests, submit
from tests.support.netns import namespace

Slice = tuple[bytes, list[int]]
A_POLL = 4000
"""Events read at a time: what gathers in 0.1 s at 40,000 a second."""

FACTS = SourceFacts("conntrack", "ip", announces_births=True)


def collect(events: int) -> list[Slice]:
    """So many real events, in the slices they are read in."""
    found: list[Slice] = []
    with namespace() as space, space.entered():
        space.track()
        space.sysctl("net.netfilter.nf_conntrack_acct", 1)
        listener = NetlinkSocket(NETLINK_NETFILTER, groups=Group, receive_buffer=64 << 20, chunk=1 << 20)
        channel = NetlinkSocket(NETLINK_NETFILTER)
        for start in range(0, events // 2, A_POLL // 2):
            for operation in (CtMessage.NEW, CtMessage.DELETE):
                for request in requests(range(start, start + A_POLL // 2), operation):
                    submit(channel, request)
            received = listener.receive()
            assert not received.overrun
            while received.starts:
                found.append((bytes(received.data), received.starts))
                received = listener.receive()
        listener.close()
        channel.close()
    return found


def work(slices: list[Slice], apply: Apply) -> int:
    """What the daemon does with the events: decode, apply, settle; the number of records."""
    decoder, records = ColumnDecoder(), 0
    now = time.monotonic()
    for step in (ReadStarted("start"), ReadFinished(True)):
        apply(TakeStep(step, now, now))
    for data, starts in slices:
        now = time.monotonic()
        batch = decoder.decode(memoryview(data), starts).batch
        batch.datagrams = Datagrams(data, starts)
        apply(TakeStep(batch, now, now))
        apply(TakeStep(CaughtUp(now), now, now))
        apply(Decide(now))
        records += len(batch)
    return records


def bench(slices: list[Slice], directory: Path, rounds: int) -> None:
    """The best of so many rounds each, in turns."""
    config = Config.model_validate({"control_plane": {"workspace": "w"}, "collect": {"max_flows": 200_000}})
    cpu: dict[bool, float] = {}
    thread: dict[bool, float] = {}
    raw, records, path = sum(len(data) for data, _ in slices), 0, directory / "recording"
    for turn in range(2 * rounds):
        recorded = bool(turn % 2)
        accounting = make_accounting(config, announces_births=True)
        recorder = None
        if recorded:
            file = RecordingFile(path, max_size=1 << 30, overwrite=True)
            facts = {"source": FACTS, "settings": kept_settings(config)}
            recorder = Recorder(accounting, file, facts=facts, stats=SourceStats, max_waiting=1 << 30)
            recorder.start()
        began, began_thread = time.process_time(), time.thread_time()
        records = work(slices, accounting.apply if recorder is None else recorder.apply)
        own = time.thread_time() - began_thread
        if recorder is not None:
            recorder.finish().join()
        spent = time.process_time() - began
        cpu[recorded] = min(cpu.get(recorded, 1e9), spent)
        thread[recorded] = min(thread.get(recorded, 1e9), own)
    size = path.stat().st_size
    each = 1e6 / records
    print(f"{records} events of {raw / records:.0f} bytes")
    print(f"  not recorded   {cpu[False] * each:6.2f} µs CPU an event")
    print(f"  recorded       {cpu[True] * each:6.2f} µs CPU an event, {cpu[True] / cpu[False]:.2f} × not recorded")
    print(f"  of the writer  {thread[True] * each:6.2f} µs CPU an event, {thread[True] / thread[False]:.2f} ×")
    print(f"  at 40,000/s    {(cpu[True] - cpu[False]) * each * 4:6.1f} % of a core for recording")
    print(f"  file           {size / records:6.1f} bytes an event, {size / raw:.3f} × the raw messages")
    replay(path, records)


def replay(path: Path, records: int) -> None:
    """How fast it replays, and that it does."""
    began = time.process_time()
    with RecordingReader(path) as reader:
        done = Replay(reader)
        for _ in done.run():
            pass
    spent = time.process_time() - began
    assert done.findings() == []
    assert done.records == records
    print(f"  replay         {spent / records * 1e6:6.2f} µs CPU an event, {records / spent:,.0f} a CPU second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("needs root: it makes a network namespace")
    slices = collect(options.events)
    with tempfile.TemporaryDirectory() as directory:
        bench(slices, Path(directory), options.rounds)


if __name__ == "__main__":
    main()
