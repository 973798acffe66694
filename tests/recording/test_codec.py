"""Entries as bytes and back."""

from __future__ import annotations

import struct
from typing import Any, get_args

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from flowmap.attribute.answers.intervals import OwnershipInterval
from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import Question, Shape
from flowmap.config import Config
from flowmap.engine.commands import (
    Ask,
    Command,
    Configure,
    CountFlowless,
    Decide,
    Deliver,
    Finish,
    GiveUp,
    QuestionResult,
    Restore,
    TakeStep,
    Tidy,
)
from flowmap.errors import DecodeError
from flowmap.flows.records.batch import Datagrams, Flag, FlowBatch
from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import DeploymentInfo, Owner
from flowmap.model.namespace import NetworkNamespace
from flowmap.model.source import SourceStats
from flowmap.model.workload import Workload
from flowmap.recording.codec import CODES, decode_entries, encode_entries
from flowmap.recording.entries import Asked, Checkpoint, ClockSet, Entry, Marked, Undecoded
from flowmap.recording.file import FORMAT
from flowmap.sources.base import (
    AddressesRemoved,
    Broadcasts,
    CaughtUp,
    Lost,
    MeasuringFinished,
    NamespaceAddresses,
    NamespacesNamed,
    ReadFinished,
    ReadStarted,
    Step,
    WorkloadsNamed,
)
from tests.support.commands import records
from tests.support.recordings import comparable
from tests.support.records import batch_of

QUESTION = Question("ns", Shape.LINK, Endpoint(Address(1 << 63, (1 << 64) - 1), 0), Endpoint(Address(0, 5), 9092))
OWNER = Owner("w", "ns", "id-1", "naïve ☃ \ud800 \x00\n")
INFO = DeploymentInfo(OWNER, labels={"team": "ä", "": ""}, jobs_by_state={"running": 1}, seen_at=1.5)
FIGURES = Checkpoint((1 << 70, 2), (3, 4), 5, 6, 7, 8, 9, 10, {"deployment": (11, 12)}, 13)

ENTRIES: list[Entry] = [
    Asked(1e9 + 1 / 3, 5, 0),
    Deliver(0.3, QuestionResult(QUESTION, Answer(0.1, 0.2, frozenset((OWNER,))), (INFO,), unreadable=2)),
    Deliver(float("inf"), QuestionResult(QUESTION, None, cause="timeout: late \ud800", retry_after=0.1)),
    Decide(5e-324),
    Tidy(1.5),
    Configure(Config.model_validate({"attribute": {"grace": "1500ms"}, "export": {"peers": {"ä": ["10.0.0.1:1"]}}})),
    Restore(((QUESTION, OwnershipInterval(frozenset((OWNER,)), 1.0, 2.0, 3.0, 4.0, 5)),), 6.0),
    CountFlowless(7.0, "late", (1 << 63, 1, 2, 3)),
    Finish(),
    GiveUp(float("-inf"), 2.0),
    ClockSet(-1.75),
    Marked(4.0, FIGURES, SourceStats(up=True, records=1 << 65, lost={"malformed": 2}, notes={"ä": "b"})),
    TakeStep(ReadStarted("overrun"), 2.0, 1.0),
    TakeStep(ReadFinished(False), 2.0, 1.0),
    TakeStep(CaughtUp(0.1), 2.0, 1.0),
    TakeStep(Lost("truncated"), 2.0, 1.0),
    TakeStep(MeasuringFinished(True), 2.0, 1.0),
    TakeStep(Broadcasts((Address.parse("10.0.0.255"), Address(1 << 63, (1 << 64) - 1))), 2.0, 1.0),
    TakeStep(Broadcasts(()), 2.0, 1.0),
    TakeStep(WorkloadsNamed(((2, Workload("/a.service", unit="a.service", pid=7, cgroup_id=1 << 40)),)), 2.0, 1.0),
    TakeStep(WorkloadsNamed(()), 2.0, 1.0),
    TakeStep(AddressesRemoved((Address.parse("10.0.0.1"), Address.parse("fe80::1"))), 2.0, 1.0),
    TakeStep(AddressesRemoved(None), 2.0, 1.0),
    TakeStep(NamespaceAddresses(1, (Address.parse("10.0.0.2"), Address.parse("::1"))), 2.0, 1.0),
    TakeStep(NamespacesNamed(((1, NetworkNamespace(4026532000, "blue")), (9, NetworkNamespace(1 << 33)))), 2.0, 1.0),
    Undecoded(2.0, 1.0, Datagrams(b"", ())),
    Undecoded(2.0, 1.0, Datagrams(bytes(range(64)), (0, 4, 4, 60), int(Flag.END_UNANNOUNCED))),
    Undecoded(2.0, 1.0, Datagrams(b"abcdefgh", (0,))),
]


def test_entries_come_back_as_they_were() -> None:
    assert list(decode_entries(encode_entries(ENTRIES))) == ENTRIES
    assert list(decode_entries(encode_entries([]))) == []


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: type(entry).__name__)
def test_each_alone(entry: Any) -> None:
    assert list(decode_entries(encode_entries([entry]))) == [entry]


@given(st.lists(st.lists(records, max_size=5)))
def test_batches_come_back_as_they_were(batches: list[list[Any]]) -> None:
    entries: list[Entry] = [TakeStep(batch_of(*batch), 2.0, 1.0) for batch in batches]
    assert [comparable(one) for one in decode_entries(encode_entries(entries))] == [comparable(one) for one in entries]


def test_a_batch_that_comes_back_can_be_written_to() -> None:
    (entry,) = decode_entries(encode_entries([TakeStep(FlowBatch(3), 1.0, 1.0)]))
    assert isinstance(entry, TakeStep)
    assert isinstance(entry.step, FlowBatch)
    entry.step.flags |= np.uint16(1)
    assert len(entry.step) == 3


@given(st.binary(max_size=200))
def test_any_bytes_are_either_entries_or_refused(data: bytes) -> None:
    for chunk in (data, struct.pack("<I", len(data)) + data):
        try:
            list(decode_entries(chunk))
        except DecodeError as error:
            assert "\n" not in str(error)


def test_every_cut_of_a_chunk_is_refused_or_shorter() -> None:
    chunk = encode_entries(ENTRIES)
    for size in range(len(chunk)):
        try:
            found = list(decode_entries(chunk[:size]))
        except DecodeError:
            continue
        assert found == ENTRIES[: len(found)]


def test_every_command_has_a_code() -> None:
    assert {kind for kind in (*get_args(Command), *get_args(Step)) if kind not in (TakeStep, Ask)} - set(CODES) == set()
    assert len(set(CODES.values())) == len(CODES)
    assert (max(CODES.values()), FORMAT) == (28, 7), "another entry makes the format grow"


def test_an_entry_says_which_field_cannot_be_read() -> None:
    text = b'{"question": {}, "answer": null}'
    stream = struct.pack("<Bd", CODES[Deliver], 1.0) + struct.pack("<I", len(text)) + text
    with pytest.raises(DecodeError, match=r"an entry cannot be read: question\.namespace: Field required$"):
        list(decode_entries(struct.pack("<I", len(stream)) + stream))


def test_an_unknown_entry_is_refused_in_one_line() -> None:
    with pytest.raises(DecodeError, match="unknown code 255"):
        list(decode_entries(struct.pack("<I", 1) + b"\xff"))
