"""The file: what goes in comes out, limits hold, and what is broken is survived."""

from __future__ import annotations

import itertools
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowmap.errors import HistoryError
from flowmap.history.block import Block
from flowmap.history.closed_flows import MICROSECONDS, ClosedFlows
from flowmap.history.file import MOST_SET_ASIDE, Limits
from flowmap.history.merging import FACTOR
from flowmap.history.store import HistoryStore
from tests.support.closed_flows import NOW, Flow, closed, replace, rows, spread

LIMITS = Limits(retain=3600.0, max_size=4 << 20)
NOTHING = ClosedFlows.concatenate(())


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "history.db")


def opened(path: str, limits: Limits = LIMITS) -> HistoryStore:
    store = HistoryStore(path, limits)
    store.open()
    return store


def kept(path: str) -> list[tuple[object, ...]]:
    """Every flow in the file, in order, read by another connection."""
    with closing(sqlite3.connect(path)) as database:
        found = database.execute("SELECT seq, flows, data FROM block ORDER BY seq").fetchall()
    for (seq, flows, data), (following, *_) in itertools.pairwise(found):
        assert seq + flows <= following and len(Block(data)) == flows
    return [row for _, _, data in found for row in rows(Block(data).flows())]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_flows_are_kept_over_merges(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    path = str(tmp_path_factory.mktemp("history") / "h")
    store, given_rows = opened(path), []
    for n, size in enumerate(sizes):
        part = closed(*(Flow(client_port=n, counters=(m, 1, 1, 1)) for m in range(size)))
        given_rows += rows(part)
        store.write(part, (), now=NOW)
        while store.merge():
            pass
    store.close()
    assert kept(path) == given_rows
    with closing(sqlite3.connect(path)) as database:
        blocks = database.execute("SELECT count(*) FROM block").fetchone()[0]
    assert blocks < 3 * FACTOR, "small ones were joined"
    again = opened(path)
    assert (again.flows, again.set_aside) == (sum(sizes), 0)
    again.close()


def test_file_mode(path: str) -> None:
    old = os.umask(0)
    try:
        opened(path).close()
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        os.chmod(path, 0o644)
        store = opened(path)
        store.write(closed(Flow()), (), now=NOW)
        modes = [stat.S_IMODE(os.stat(path + suffix).st_mode) for suffix in ("", "-wal", "-shm")]
        assert modes == [0o600] * 3
        store.close()
    finally:
        os.umask(old)


def test_a_daemon_that_did_not_stop_properly_is_noticed(path: str) -> None:
    first = opened(path)
    assert not first.interrupted
    first.close()
    first.open()
    assert not first.interrupted, "it was the same daemon"
    first.close()
    killed = opened(path)
    assert killed.interrupted
    killed.end_run()
    killed.close()
    last = opened(path)
    assert not last.interrupted
    last.close()


@pytest.mark.parametrize("size", [1 << 20, 2 << 20])
def test_size_limit_deletes_the_oldest(path: str, size: int) -> None:
    limits = Limits(retain=1e9, max_size=size)
    store = opened(path, limits)
    given_rows, evicted, largest = [], 0, 0
    for _ in range(2 + (size << 1) // (limits.block_flows * 60)):
        part = spread(limits.block_flows)
        given_rows += rows(part)
        done = store.write(part, (), now=NOW)
        store.merge()
        evicted += done.evicted
        largest = max(largest, store.size())
        assert store.size() <= size
    store.close()
    assert evicted > 0 and largest > size * 2 // 3, "the limit was met, and what it allows was used"
    assert kept(path) == given_rows[evicted:]


def test_a_lower_limit_shrinks_the_file(path: str) -> None:
    store = opened(path)
    for _ in range(8):
        store.write(spread(4000), (), now=NOW)
    assert store.size() > 1 << 20
    store.close()
    store = opened(path, Limits(3600.0, 1 << 20))
    store.write(spread(100), (), now=NOW)
    assert store.size() <= 1 << 20 and store.flows > 1000
    store.close()


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.floats(0, 7200), min_size=1, max_size=12))
def test_age_deletes_whole_blocks(tmp_path_factory: pytest.TempPathFactory, ages: list[float]) -> None:
    path = str(tmp_path_factory.mktemp("history") / "h")
    store = opened(path)
    for age in ages:
        flow = Flow(born=NOW - age - 5, ended=NOW - age)
        store.write(closed(flow), (), now=NOW - age)
    removed = store.write(NOTHING, (), now=NOW).aged
    store.close()
    ended = [NOW - (row[2]) / MICROSECONDS for row in kept(path)]  # type: ignore[operator]
    young = [age for age in ages if age <= LIMITS.retain - 0.001]
    assert len(ended) <= len(ages) - removed
    assert sum(age <= LIMITS.retain - 0.001 for age in ended) == len(young)
    assert all(age <= LIMITS.retain + 0.001 for age in ended), "each of these is a block of its own"


def garble(path: str) -> None:
    with open(path, "r+b") as file:
        file.write(os.urandom(4096))


def garble_inside(path: str) -> None:
    size = os.stat(path).st_size
    with open(path, "r+b") as file:
        for at in range(4096, size, 4096):
            file.seek(at)
            file.write(os.urandom(2000))


def cut(path: str) -> None:
    os.truncate(path, os.stat(path).st_size * 2 // 3)


def of_another_version(path: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")


def without_a_table(path: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE span")


@pytest.mark.parametrize("spoil", [garble, garble_inside, cut, of_another_version, without_a_table])
def test_broken_files_are_replaced(path: str, spoil: object) -> None:
    store = opened(path)
    for _ in range(5):
        store.write(spread(1000), (), now=NOW)
    store.close()
    spoil(path)  # type: ignore[operator]
    spoilt = Path(path).read_bytes()
    store = opened(path)
    store.write(closed(Flow()), (), now=NOW)
    assert (store.flows, store.set_aside) == (1, 1)
    store.close()
    (aside,) = (file for file in Path(path).parent.iterdir() if ".broken-" in file.name)
    assert aside.read_bytes() == spoilt, "nothing is deleted"
    assert str(aside) in store.last_set_aside


def test_a_file_found_broken_later(path: str) -> None:
    store = opened(path)
    for _ in range(5):
        store.write(spread(1000), (), now=NOW)
    store.mark_broken(HistoryError("found by a reader", reason="corrupt"))
    store.close()
    store.open()
    assert (store.flows, store.set_aside) == (0, 1)
    store.close()


def test_at_most_five_broken_files(path: str) -> None:
    store = HistoryStore(path, LIMITS)
    for n in range(MOST_SET_ASIDE + 1):
        Path(path).write_bytes(b"no database, and longer than a header" * 10)
        if n < MOST_SET_ASIDE:
            store.open()
            store.close()
    with pytest.raises(HistoryError, match=f"{MOST_SET_ASIDE} broken files") as caught:
        store.open()
    assert (caught.value.reason, bool(caught.value.remedy)) == ("corrupt", True)
    assert Path(path).read_bytes().startswith(b"no database"), "it is where it was"


def test_foreign_files_are_not_touched(path: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE theirs (a)")
    before = Path(path).read_bytes()
    with pytest.raises(HistoryError) as caught:
        opened(path)
    assert caught.value.reason == "foreign"
    assert Path(path).read_bytes() == before and not list(Path(path).parent.glob("*broken*"))
    with pytest.raises(HistoryError) as caught:
        opened(str(Path(path).parent))
    assert caught.value.reason == "foreign"


def test_a_locked_file(path: str) -> None:
    store = opened(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(HistoryError) as caught:
            store.write(closed(Flow()), (), now=NOW)
        assert caught.value.reason == "locked"
        other.execute("ROLLBACK")
    store.write(closed(Flow()), (), now=NOW)
    assert store.flows == 1
    store.close()


def test_a_reader_that_holds_the_log(path: str) -> None:
    limits = Limits(1e9, 1 << 20)
    store = opened(path, limits)
    store.write(spread(100), (), now=NOW)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM block").fetchone()
        with pytest.raises(HistoryError) as caught:
            for _ in range(100):
                store.write(spread(200), (), now=NOW)
        assert caught.value.reason == "locked" and store.size() <= limits.max_size
        reader.execute("COMMIT")
    store.write(spread(200), (), now=NOW)
    store.close()


@pytest.mark.parametrize("replaced", [True, False])
def test_a_removed_file(path: str, replaced: bool) -> None:
    store = opened(path)
    os.unlink(path)
    if replaced:
        Path(path).touch()
    with pytest.raises(HistoryError) as caught:
        store.write(closed(Flow()), (), now=NOW)
    assert caught.value.reason == "cannot_open"
    store.close()
    for suffix in ("-wal", "-shm"):
        Path(path + suffix).unlink(missing_ok=True)
    store.open()
    store.write(closed(replace(Flow())), (), now=NOW)
    store.close()
    assert len(kept(path)) == 1


@pytest.fixture(autouse=True)
def no_open_files_are_left() -> Iterator[None]:
    yield
    links = (
        os.readlink(f"/proc/self/fd/{name}")
        for name in os.listdir("/proc/self/fd")
        if name.isdecimal() and os.path.islink(f"/proc/self/fd/{name}")
    )
    assert not [link for link in links if "/history" in link and link.endswith(("history.db", "/h"))]
