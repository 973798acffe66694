"""Many runs: several at a time, each in a process of its own, with one line of results each in a file."""

from __future__ import annotations

import dataclasses
import functools
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from flowmap.cli.output.text import amount
from tests.ground_truth.modes import MODES
from tests.ground_truth.run import Outcome, carry_out
from tests.ground_truth.schedule import make_plan
from tests.ground_truth.truth import QUICK, Timing, summary
from tests.ground_truth.verdict import Wrong, explain


@dataclass(frozen=True, slots=True)
class Options:
    """What the runs have in common; see ``--help`` of the command."""

    quick: bool
    duration: float
    clients: int
    rate: float
    grace: float
    slack: float
    keep: Path | None = None
    keep_faulty: bool = False
    """Remove what was kept of runs that named every attributable flow, and nothing wrong."""


@dataclass(frozen=True, slots=True)
class Result:
    """One run in numbers."""

    seed: int
    mode: str
    load: float
    """Runnable tasks for each processor of the machine, over the last minute of the run."""
    connections: str
    flows: int = 0
    right: int = 0
    wrong: int = 0
    shared: int = 0
    unnamed: dict[str, int] = dataclasses.field(default_factory=dict)
    """Flows without a name, by state."""
    attributable: int = 0
    attributed: int = 0
    tied: int = 0
    untied: int = 0
    snapshots: int = 0
    inexact: int = 0
    bytes: int = 0
    missing: int = 0
    udp_share: float = 100.0
    calls: int = 0
    narrowing_calls: int = 0
    faulty_calls: int = 0
    allowed: float = 0.0
    overruns: int = 0
    named_within: tuple[float, float] = (0.0, 0.0)
    used: tuple[str, ...] = ()
    """What each daemon used of its host."""
    by_process: tuple[int, int] = (0, 0)
    counted_once: tuple[int, int] | None = None
    """See :class:`Outcome`."""
    failures: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Attributable flows with their name, in percent."""
        return 100.0 * self.attributed / self.attributable if self.attributable else 100.0


def carry_out_all(
    runs: Sequence[tuple[int, str]], options: Options, *, jobs: int, file: Path | None
) -> Iterator[Result]:
    """Results of the runs, by seed and mode, as they end. Those in ``file`` are taken from there."""
    known = read(file) if file and file.exists() else []
    yield from known
    done = {(result.seed, result.mode) for result in known}
    for result in _results([run for run in runs if run not in done], options, jobs):
        if file:
            with file.open("a") as lines:
                lines.write(json.dumps(dataclasses.asdict(result)) + "\n")
        yield result


def read(file: Path) -> list[Result]:
    """The results in ``file``."""
    return [Result(**json.loads(line)) for line in file.read_text().splitlines()]


def _results(runs: Sequence[tuple[int, str]], options: Options, jobs: int) -> Iterator[Result]:
    if jobs == 1:
        yield from (one_run(options, *run) for run in runs)
        return
    fresh = multiprocessing.get_context("spawn")  # a process makes namespaces, and a run must not leave any
    # Linux shares busy processors between sessions (sched_autogroup), so each run needs one of its own.
    with ProcessPoolExecutor(jobs, mp_context=fresh, max_tasks_per_child=1, initializer=os.setsid) as pool:
        waiting = {pool.submit(one_run, options, *run): run for run in runs}
        for ended in as_completed(waiting):
            try:
                yield ended.result()
            except Exception as error:  # one run that breaks must not end the others
                seed, mode = waiting[ended]
                yield Result(seed, mode, _load(), "", failures=(f"the run broke: {error!r}",))


def one_run(options: Options, seed: int, mode: str) -> Result:
    """Carry out one run; keep its evidence where that is asked for."""
    plan = make_plan(
        seed, duration=options.duration, mode=mode, clients=options.clients, rate=options.rate, grace=options.grace
    )
    directory = options.keep and options.keep / f"{seed}-{mode}"
    if directory:
        directory.mkdir(parents=True, exist_ok=True)
    outcome = carry_out(plan, replace(QUICK if options.quick else Timing(), slack=options.slack), directory=directory)
    result = _result(outcome)
    if directory:
        if options.keep_faulty and not result.failures and not outcome.verdict.missed:
            shutil.rmtree(directory)
        else:
            _dump(outcome, directory / "faults.json")
    return result


def _load() -> float:
    return round(os.getloadavg()[0] / (os.cpu_count() or 1), 1)


def _result(outcome: Outcome) -> Result:
    verdict, counted, calls = outcome.verdict, outcome.bytes, outcome.calls
    return Result(
        outcome.plan.seed, outcome.plan.mode, _load(), summary(outcome.record.connections), verdict.flows,
        verdict.right, len(verdict.wrong), verdict.shared, dict(verdict.states.most_common()), verdict.attributable,
        verdict.attributed, verdict.tied, verdict.untied, counted.snapshots, len(counted.imbalances),
        sum(counted.observed), counted.missing, counted.udp_share, calls.asked, calls.ties, calls.faulty,
        calls.allowed, outcome.overruns, outcome.named_within,
        tuple(f"memory {memory} MiB; descriptors {open_}" for memory, open_ in outcome.used),
        outcome.by_process, outcome.counted_once,
        tuple(outcome.failures(share=MODES[outcome.plan.mode].share)),
    )  # fmt: skip


def _dump(outcome: Outcome, file: Path) -> None:
    changes = outcome.record.changes
    missed = [
        explain(Wrong(one, last, "it has no name, and must have one"), changes) for one, last in outcome.verdict.missed
    ]
    wrong = [explain(one, changes) for one in outcome.verdict.wrong]
    report = {"wrong": wrong, "missed": missed, "evidence": outcome.evidence, "blind": outcome.record.blind}
    file.write_text(json.dumps(report, indent=1, default=str))


SUMS = (
    "MODE", "RUNS", "FLOWS", "RIGHT", "WRONG", "SHARED", "ATTRIBUTABLE", "NAMED", "SHARE %", "SNAPSHOTS", "INEXACT",
    "BYTES", "MISSING", "CALLS/1000", "CALLS/ALLOWED", "MEDIAN s", "99 % s", "LOAD", "FAILED",
)  # fmt: skip
"""Columns of :func:`sums`. Times to a name and the load: of the median run, and of the worst."""


def sums(results: Iterable[Result]) -> list[tuple[object, ...]]:
    """One row for each mode, in the order of ``MODES``."""
    every = list(results)
    rows = [_sum(mode, chosen) for mode in MODES if (chosen := [one for one in every if one.mode == mode])]
    return [*rows, _sum("all", every)] if len(rows) > 1 else rows


def _sum(name: str, results: Sequence[Result]) -> tuple[object, ...]:
    def total(field: str) -> int:
        return sum(int(getattr(one, field)) for one in results)

    def between(values: Iterable[float]) -> str:
        ordered = sorted(values)
        return f"{ordered[len(ordered) // 2]:g}, {ordered[-1]:g}"

    calls, whole = total("calls") + total("narrowing_calls") + total("faulty_calls"), functools.partial(max, 1)
    share = round(100.0 * total("attributed") / total("attributable"), 2) if total("attributable") else "-"
    most = max((one.calls + one.narrowing_calls + one.faulty_calls) / whole(one.allowed) for one in results)
    return (
        name, len(results), total("flows"), total("right"), total("wrong"), total("shared"), total("attributable"),
        total("attributed"), share, total("snapshots"), total("inexact"),
        amount(total("bytes")), total("missing"), round(1000 * calls / whole(total("flows"))), f"at most {most:.2f}",
        *(between(one.named_within[place] for one in results) for place in (0, 1)),
        between(one.load for one in results), sum(bool(one.failures) for one in results),
    )  # fmt: skip
