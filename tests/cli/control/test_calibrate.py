"""calibrate: which reading of the API names a known connection's deployment, and what is said where none does."""

from __future__ import annotations

from typing import Any

import pytest

from flowmap.cli.control.calibrate import ReadingFinding, ShapeReply, judge
from tests.support.known_catalog import KAFKA, MYSQL, SOURCE, TASK_MANAGER, catalog, entry
from tests.support.shell import Shell

READER = entry("reads", TASK_MANAGER, reads=[KAFKA], writes=[MYSQL])
NEIGHBOUR = entry("writes", "10.0.0.2", reads=[MYSQL], writes=[KAFKA])


@pytest.fixture(autouse=True)
def _known(shell: Shell) -> None:
    shell.sandbox.set_catalog(catalog("both", READER, NEIGHBOUR))


READINGS = [
    # semantics of the control plane, connection to, semantics found, questions that return it
    ("connection", KAFKA, "connection", ["client", "sink", "link", "exact"]),
    ("connection", MYSQL, "connection", ["client", "sink", "link", "exact"]),
    ("dataflow", KAFKA, "dataflow", ["source"]),
    ("dataflow", MYSQL, "dataflow", ["sink"]),
    ("both", KAFKA, "both", ["client", "sink", "source", "link", "exact"]),
    ("both", MYSQL, "both", ["client", "sink", "link", "exact"]),
]


@pytest.mark.parametrize(("reading", "service", "found", "returning"), READINGS)
def test_the_reading_is_found(shell: Shell, reading: str, service: str, found: str, returning: list[str]) -> None:
    shell.sandbox.set_catalog(catalog(reading, READER, NEIGHBOUR))
    answer = shell.json("calibrate", SOURCE, service, "reads")
    assert answer["semantics"] == found
    assert [one["question"] for one in answer["questions"] if one["returnsIt"]] == returning
    assert "name-reads" in answer["deployments"]
    assert shell.asked() == {"GetDeploymentsByIp": 14}


@pytest.mark.parametrize(("reading", "service", "found", "returning"), READINGS)
def test_the_daemon_names_the_connection_with_what_was_found(
    shell: Shell, reading: str, service: str, found: str, returning: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.sandbox.set_catalog(catalog(reading, READER, NEIGHBOUR))
    expected = shell.json("calibrate", SOURCE, service, "reads")
    monkeypatch.setenv("FLOWMAP__ATTRIBUTE__SEMANTICS", found)
    answer = shell.json("query", SOURCE, service, "--direct")
    assert (answer["state"], [one["name"] for one in answer["deployments"]]) == (
        expected["state"],
        expected["deployments"],
    )


NONE = [
    # entries, words, what is said
    ([NEIGHBOUR], [SOURCE, KAFKA, "reads"], "no question returns it"),
    ([entry("reads", TASK_MANAGER)], [SOURCE, KAFKA, "reads"], "no question about the service does"),
    ([READER], [KAFKA, SOURCE, "reads"], "the question with swapped endpoints returns it"),
]


@pytest.mark.parametrize(("entries", "words", "said"), NONE)
def test_where_no_reading_works_it_says_why(
    shell: Shell, entries: list[dict[str, Any]], words: list[str], said: str
) -> None:
    shell.sandbox.set_catalog(catalog("connection", *entries))
    assert shell.run("calibrate", *words, "-o", "table") == 3
    assert "attribute.semantics: no value works" in shell.out and said in shell.out


def test_the_table(shell: Shell) -> None:
    shell.sandbox.set_catalog(catalog("connection", READER, NEIGHBOUR))
    assert shell.run("calibrate", SOURCE, KAFKA, "reads", "-o", "table", "--namespace", "orders") == 0
    assert [line.split() for line in shell.out.splitlines()[:4]] == [
        ["QUESTION", "PARAMETERS", "RETURNS", "IT", "OTHERS"],
        ["client", "srcIp=10.0.0.1", "yes", "-"],
        ["sink", "dstIp=10.1.0.1", "dstPort=9092", "yes", "name-writes"],
        ["source", "srcIp=10.1.0.1", "srcPort=9092", "no", "-"],
    ]
    assert "attribute.semantics: connection" in shell.out
    assert "with this value, the connection is attributed: name-reads" in shell.out
    assert shell.asked() == {"GetDeploymentsByIp": 7}


def test_a_deployment_without_a_running_job_is_returned_and_would_not_be_named(shell: Shell) -> None:
    shell.sandbox.set_catalog(catalog("connection", entry("reads", TASK_MANAGER, status="FINISHED", reads=[KAFKA])))
    assert shell.run("calibrate", SOURCE, KAFKA, "reads", "-o", "table") == 0
    assert "yes, without a running job" in shell.out
    assert "with this value, the connection is unknown" in shell.out


FAULTS = [
    # shape that fails, how, exit status, semantics
    ("client", {"kind": "gateway"}, 1, None),
    ("sink", {"kind": "business"}, 0, "both"),
    ("source", {"kind": "wrong_types"}, 1, None),
    ("link", {"kind": "business"}, 0, "both"),
    ("exact", {"kind": "business"}, 0, "both"),
    ("client", {"kind": "bad_element"}, 0, "both"),
]


@pytest.mark.parametrize(("shape", "fault", "status", "semantics"), FAULTS)
def test_faults(shell: Shell, shape: str, fault: dict[str, Any], status: int, semantics: str | None) -> None:
    shell.sandbox.set_faults([{**fault, "shape": shape}])
    assert shell.run("calibrate", SOURCE, KAFKA, "reads", "-o", "table") == status
    assert (f"attribute.semantics: {semantics}" in shell.out) is (semantics is not None)
    if semantics is None:
        assert f"answers are missing ({shape}: " in shell.out


def test_without_any_answer_it_is_an_error(shell: Shell) -> None:
    shell.sandbox.set_faults([{"kind": "gateway"}])
    assert shell.run("calibrate", SOURCE, KAFKA, "reads") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [([TASK_MANAGER, KAFKA, "reads"], "SRC: the port is missing"), ([SOURCE, "10.1.0.1", "reads"], "DST: the port")],
)
def test_both_ports_are_needed(shell: Shell, words: list[str], message: str) -> None:
    assert shell.run("calibrate", *words) == 1
    assert message in shell.err and shell.asked() == {}


def test_ends_in_the_wrong_order_are_noticed() -> None:
    silent = {name: reply() for name in ("client", "sink", "source", "link", "exact")}
    found = judge("x", silent | {"exact swapped": reply("x")})
    assert found.semantics is None and "swapped endpoints returns it" in found.because
    found = judge("x", silent | {"link": reply("x")})
    assert found.semantics is None and "only link returns it" in found.because


def reply(*returns: str, error: str = "") -> ShapeReply:
    return ShapeReply(frozenset(returns), frozenset(), {}, error)


def test_an_answer_that_returns_it_counts_though_a_part_could_not_be_read() -> None:
    silent = {name: reply() for name in ("client", "sink", "source", "link", "exact")}
    damaged = silent | {"client": reply("x", error="protocol"), "sink": reply("x")}
    assert judge("x", damaged).semantics == "connection"
    missing = silent | {"client": reply(error="protocol"), "sink": reply("x")}
    assert judge("x", missing) == ReadingFinding(None, "answers are missing (client: protocol)")
