"""A hundred hosts in processes of their own, of which some are killed and some are stopped with questions in flight."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

from tests.support.fleet import SETTINGS, settled
from tests.support.fleet_process import BURST, EACH, RATE
from tests.support.valkey import running
from tests.support.waiting import until

HOSTS, QUESTIONS = 25, 200


def lines(log: Path, kind: str) -> list[tuple[float, str, str]]:
    found = [line.split() for line in log.read_text().splitlines() if line.startswith(kind)] if log.exists() else []
    return [(float(at), name, what) for _, at, name, what in (line for line in found if len(line) == 4)]


def has(log: Path, kind: str, least: int) -> bool:
    return len(lines(log, kind)) >= least


def test_killed_and_stopped_askers_cost_time_but_no_call_too_many(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        settled(server)
        logs = {name: tmp_path / f"{name}.log" for name in ("killed", "stopped", "one", "other")}
        children: dict[str, subprocess.Popen[bytes]] = {}

        def start(name: str) -> None:
            words = [str(server.port), name, str(HOSTS), str(QUESTIONS), str(logs[name])]
            children[name] = subprocess.Popen([sys.executable, "-m", "tests.support.fleet_process", *words])

        try:
            for name in ("killed", "stopped"):
                start(name)
                until(partial(has, logs[name], "call", 2), f"{name} has calls", seconds=60)
            for name in ("one", "other"):
                start(name)
            os.kill(children["killed"].pid, signal.SIGKILL)
            os.kill(children["stopped"].pid, signal.SIGSTOP)
            time.sleep(5)  # longer than the lease of its tickets
            os.kill(children["stopped"].pid, signal.SIGCONT)
            for name in ("one", "other", "stopped"):
                until(partial(has, logs[name], "done", 1), f"{name} has every answer", seconds=120)
        finally:
            for child in children.values():
                child.kill()
                child.wait()
    calls = sorted(call for log in logs.values() for call in lines(log, "call"))
    times = [at for at, _, _ in calls]
    for begin in times:
        assert len([at for at in times if begin <= at < begin + 5]) <= 5 * RATE + BURST + 1
    by_question = defaultdict(list)
    for at, _, what in calls:
        by_question[what].append(at)
    assert len(by_question) == QUESTIONS, "everything was asked"
    for asked in by_question.values():
        assert all(later - earlier >= SETTINGS.recheck for earlier, later in zip(asked, asked[1:], strict=False))
    survivors = [one for name in ("one", "other", "stopped") for one in lines(logs[name], "answer")]
    assert len(survivors) == 3 * HOSTS * EACH
    assert len(calls) < len(survivors) / 2, "most answers are those of another host's call"
