"""The recorder: its bounds, how it ends, what it keeps and what it never does."""

from __future__ import annotations

import errno
import logging
import os
import resource
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowmap.config import Config, ControlPlaneConfig
from flowmap.engine.commands import Decide, Deliver, QuestionResult
from flowmap.engine.factory import make_accounting
from flowmap.errors import ConfigError
from flowmap.flows.records.batch import Datagrams, Flag, FlowBatch, RecordKind
from flowmap.model.source import SourceStats
from flowmap.recording.codec import encode_entries
from flowmap.recording.container import SIGNATURE, ChunkKind, Chunks
from flowmap.recording.entries import Asked, Checkpoint, ClockSet, Marked
from flowmap.recording.file import FORMAT, RecordingFile
from flowmap.recording.reader import RecordingReader
from flowmap.recording.recorder import Recorder
from flowmap.recording.settings import KEPT, kept_settings, read_settings
from flowmap.sources.base import ReadFinished, ReadStarted
from flowmap.wire.netlink.conntrack import CtMessage
from flowmap.wire.netlink.conntrack_columns import ColumnDecoder
from flowmap.wire.netlink.messages import MessageFlag
from tests.support.accounting import Auditor
from tests.support.commands import SOURCE, Actor, Clock, config, recorded, state
from tests.support.conntrack_messages import encode_entry
from tests.support.recordings import replayed
from tests.support.records import Record, batch_of, replace
from tests.support.waiting import until

FLOW = Record(RecordKind.OPENED, counters=(0, 0, 0, 0))


def twenty(turn: int) -> FlowBatch:
    """New flows that no other turn has."""
    return batch_of(*(replace(FLOW, client=f"10.{turn}.{k}.1", client_port=k, id=turn * 50 + k) for k in range(20)))


LONG: list[Any] = [part for turn in range(250) for part in (("step", twenty(turn)), ("settle",))]


class SlowFile(RecordingFile):
    """A disk that takes nothing until it is let."""

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__(path, **options)
        self.let = threading.Event()

    def append(self, kind: Any, data: bytes) -> None:
        assert self.let.wait(30)
        super().append(kind, data)


def recorder_for(file: RecordingFile, **options: Any) -> tuple[Recorder, Actor]:
    wanted, clock = config(), Clock()
    accounting = make_accounting(wanted, announces_births=True)
    facts = {"source": SOURCE, "settings": kept_settings(wanted)}
    stats = options.pop("stats", SourceStats)
    recorder = Recorder(
        accounting, file, facts=facts, stats=stats, clock=lambda: clock.now, wall_clock=clock.wall, **options
    )
    return recorder, Actor(recorder.apply, accounting, clock)


def test_the_size_allowed_is_kept_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path, whole = tmp_path / "bounded", tmp_path / "whole"
    recorded(whole, LONG)
    for size in (600, 5_000, 20_000):
        accounting, recorder = recorded(path, LONG, max_size=size)
        assert path.stat().st_size <= size < whole.stat().st_size
        assert recorder.report().size == path.stat().st_size
        assert (recorder.report().active, recorder.report().ended) == (False, "size")
        assert f"the recording to {path} ended after {path.stat().st_size} bytes: it has reached" in caplog.text
        Auditor(accounting).check()
        if size > 600:  # not even what is recorded has room there
            replay = replayed(path)
            assert (replay.difference, replay.reader.ended, replay.reader.missing) == (None, "size", "")
            assert 0 < replay.accounting.complete_reads + replay.records < 250 * 20


def test_a_limit_of_the_file_system_ends_the_recording_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "limited"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
    try:
        accounting, recorder = recorded(path, LONG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert recorder.report().ended == "disk"
    assert f"the file cannot be written: {os.strerror(errno.EFBIG)}" in caplog.text
    assert path.stat().st_size == recorder.report().size <= 6000
    replay = replayed(path)
    assert replay.difference is None
    assert replay.reader.ended == "disk" or "has no end" in replay.reader.missing
    Auditor(accounting).check()


def test_a_disk_that_is_too_slow_ends_the_recording_and_what_was_taken_is_kept(tmp_path: Path) -> None:
    file = SlowFile(tmp_path / "slow", max_size=1 << 30)
    recorder, actor = recorder_for(file, max_waiting=20_000)
    recorder.start()
    actor.run(LONG)
    assert recorder.report().ended == "behind"
    file.let.set()
    recorder.close()
    replay = replayed(file.path)
    assert (replay.difference, replay.reader.ended, replay.reader.missing) == (None, "behind", "")
    assert 0 < replay.records < 250 * 20


def test_a_disk_that_hangs_does_not_keep_the_daemon_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowmap.recording.recorder.CLOSE_SECONDS", 0.01)
    file = SlowFile(tmp_path / "hung", max_size=1 << 30)
    recorder, actor = recorder_for(file)
    recorder.start()
    actor.run(LONG[:10])
    recorder.close()
    file.let.set()
    recorder.finish().join(30)
    assert replayed(file.path).reader.ended == "stopped"


def test_a_defect_of_the_recorder_ends_the_recording_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def defective() -> SourceStats:
        return SourceStats(records=object())  # type: ignore[arg-type]

    recorder, actor = recorder_for(RecordingFile(tmp_path / "x", max_size=1 << 30), stats=defective)
    recorder.start()
    actor.run(LONG[:20])
    until(lambda: recorder.report().ended, "the thread of the recorder meets it")
    recorder.close()
    assert recorder.report().ended == "defect"
    assert "recording failed" in caplog.text
    assert replayed(tmp_path / "x").reader.ended == "defect"


def test_a_file_is_made_for_its_owner_and_never_replaced_untold(tmp_path: Path) -> None:
    path = tmp_path / "there"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="the file exists; --record-overwrite replaces it"):
        RecordingFile(path, max_size=1 << 20)
    assert path.read_text() == "precious"
    target = tmp_path / "target"
    target.write_text("not meant")
    path.unlink()
    path.symlink_to(target)
    with pytest.raises(ConfigError, match="the file exists"):
        RecordingFile(path, max_size=1 << 20)
    recorded(path, LONG[:4])
    assert target.read_text() == "not meant"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="cannot record to this file: No such file or directory"):
        RecordingFile(tmp_path / "nowhere" / "x", max_size=1 << 20)


SECRETS = {
    "access_key_id": "CANARY-key-id",
    "access_key_secret": "CANARY-secret",
    "security_token": "CANARY-token",
    "ecs_ram_role": False,
}


def test_no_secret_is_ever_written(tmp_path: Path) -> None:
    plane = {
        "workspace": "w",
        "namespaces": ["ns"],
        "endpoint": "https://canary-endpoint.example",
        "credentials": SECRETS,
    }
    http = {"listen": "127.0.0.1:10817", "allowed_hosts": ["canary-host"]}
    wanted = Config.model_validate({"control_plane": plane, "http": http, "history": {"path": "/canary/path"}})
    path = tmp_path / "recording"
    recorded(path, LONG[:4], wanted)
    with path.open("rb") as file:
        file.seek(len(SIGNATURE))
        text = b"".join(chunk.data for chunk in Chunks(file))
    assert b"10817" in text, "the settings are there"
    assert b"canary" not in text.lower()


def test_of_every_key_of_the_control_plane_it_is_decided_whether_it_is_kept() -> None:
    left_out = {"region", "credentials", "timeout", "proxy_url", "proxy_from_environment", "tls", "catalog", "blink"}
    assert set(ControlPlaneConfig.model_fields) == left_out | set(KEPT["control_plane"] or ())
    assert set(Config.model_fields) == set(KEPT) | {"expect", "fleet", "history", "log"}


def test_settings_come_back() -> None:
    wanted = config(grace="1.5s", confirm="fast", nat="original")
    again, unknown = read_settings(kept_settings(wanted))
    assert unknown == ()
    assert (again.attribute, again.export, again.collect) == (wanted.attribute, wanted.export, wanted.collect)
    assert again.control_plane.namespaces == wanted.control_plane.namespaces


@pytest.mark.parametrize(
    ("plane", "kept"),
    [
        ({"endpoint": "http://127.0.0.1:8123"}, "http://127.0.0.1:8123"),
        ({"endpoint": "https://example.com"}, None),
        ({"region": "cn-hangzhou"}, None),
    ],
)
def test_where_the_control_plane_is_is_kept_only_if_it_is_here(plane: dict[str, str], kept: str | None) -> None:
    """It decides whether loopback addresses can have owners, and which connections are flowmap's own."""
    again = read_settings(kept_settings(Config.model_validate({"control_plane": plane})))
    assert again.config.control_plane.endpoint == kept


def test_a_clock_that_is_set_is_followed(tmp_path: Path) -> None:
    recorder, actor = recorder_for(RecordingFile(tmp_path / "x", max_size=1 << 30))
    recorder.start()
    actor.run(LONG[:8])
    actor.clock.epoch += 3600
    actor.run(LONG[8:16])
    recorder.close()
    with RecordingReader(tmp_path / "x") as reader:
        begun, sets = reader.begin.epoch, [one.epoch for one in reader.entries() if isinstance(one, ClockSet)]
    assert sets == [begun + 3600]
    assert replayed(tmp_path / "x").epoch == begun + 3600


def events() -> tuple[bytes, list[int]]:
    """Netlink messages of 40 connections, some of other layouts, one that is none."""
    parts = []
    for n in range(40):
        values = {
            "original_v4_source": 0x0A000001,
            "original_v4_destination": 0x0A010001,
            "original_source_port": 1000 + n,
            "original_destination_port": 9092,
            "original_protocol": 6,
            "original_bytes": 10 * n,
            "original_packets": n,
            "reply_bytes": 5 * n,
            "reply_packets": n,
            "id": n + 1,
        }
        if n % 7 == 0:
            values |= {"tcp_state": 3}
        message = encode_entry(CtMessage.NEW, MessageFlag.CREATE if n % 2 else 0, values)
        parts.append(message if n != 11 else message[:20] + b"\xff" * (len(message) - 20))
    starts = np.cumsum([0, *map(len, parts)]).tolist()[:-1]
    return b"".join(parts), starts


@pytest.mark.parametrize("marked", [0, int(Flag.END_UNANNOUNCED)])
def test_messages_are_decoded_again(tmp_path: Path, marked: int) -> None:
    data, starts = events()
    recorder, actor = recorder_for(RecordingFile(tmp_path / "x", max_size=1 << 30))
    decoder = ColumnDecoder()
    recorder.start()
    actor.step(ReadStarted("start"))
    for _ in range(3):
        batch = decoder.decode(memoryview(data), starts).batch
        batch.flags |= np.uint16(marked)
        batch.datagrams = Datagrams(memoryview(data), starts, marked)
        actor.step(batch)
        actor.settle()
    actor.step(batch.take(slice(3)))  # a batch made of another: columns
    actor.step(ReadFinished(True))
    recorder.close()
    replay = replayed(tmp_path / "x")
    assert replay.difference is None
    assert state(replay.accounting) == state(actor.accounting)
    assert replay.records == 3 * len(batch) + 3 == 3 * 39 + 3


def tampered(path: Path, *entries: Any) -> None:
    """A recording of ``entries`` alone."""
    file = RecordingFile(path, max_size=1 << 30, overwrite=True)
    facts = {"format": FORMAT, "flowmap": "0", "startedAt": Clock().wall(), "epoch": Clock().wall() - Clock().now}
    file.begin({**facts, "source": SOURCE, "settings": kept_settings(config())})
    file.append(ChunkKind.OPERATIONS, encode_entries(entries))
    file.end({"reason": "stopped"})


def test_a_replay_that_comes_to_something_else_says_from_when(tmp_path: Path) -> None:
    path = tmp_path / "x"
    figures = Checkpoint.of(make_accounting(config(), announces_births=True))
    right, wrong = Marked(2000.0, figures), Marked(2001.0, replace(figures, pending=(1, 0)))
    for entries, expected in (
        ((Decide(1999.0), right), []),
        ((right, wrong, wrong), ["pending (0, 0), not (1, 0)"]),
        ((right, Asked(2001.0, 5, 3)), ["questions to ask 0, not 3"]),
    ):
        tampered(path, *entries)
        findings = replayed(path).findings()
        assert [finding.rpartition(": ")[2] for finding in findings] == expected
        assert all(
            finding.startswith("from 2027-01-15T08:16:41.000+00:00 on the result differs") for finding in findings
        )


def test_failures_of_the_control_plane_are_kept_with_their_causes(tmp_path: Path) -> None:
    recorder, actor = recorder_for(RecordingFile(tmp_path / "x", max_size=1 << 30))
    recorder.start()
    actor.run([("step", ReadStarted("start")), ("step", ReadFinished(True)), ("step", batch_of(FLOW)), ("ask", 9)])
    question = actor.asked[0]
    recorder.apply(Deliver(actor.clock.now, QuestionResult(question, None, cause="auth: no")))
    recorder.close()
    replay = replayed(tmp_path / "x")
    timeline = replay.accounting.attribution.timeline(question)
    assert timeline is not None
    assert timeline.failure == "auth: no"
    assert replay.source == SOURCE
