"""Open files of TaskManagers, as Flink 2.3 and 1.20 name them."""

from __future__ import annotations

import pytest

from flowmap.control.flink.blobs import Blob, blobs_of, is_of_a_job, is_process_of
from flowmap.control.flink.records import Host, ListedTaskManager

JOB, SHA1, RANDOM = "0a" * 16, "0b" * 20, "0c" * 16
BLOB = f"/tmp/tm_10.0.0.5:6122-ab/blobStorage/job_{JOB}/blob_p-{SHA1}-{RANDOM}"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (BLOB, Blob(JOB, SHA1, "10.0.0.5:6122-ab", BLOB)),
        (BLOB.replace("tm_10.0.0.5:6122-ab/blobStorage", "blobStore-1f"), "no process"),
        (BLOB.replace("blob_p", "blob_t"), None),  # transient: not a file of the job's classes
        (BLOB.replace(f"job_{JOB}", "no_job"), None),
        (BLOB[: -len(RANDOM) - 5], None),
        ("/opt/flink/lib/log4j-core-2.24.jar", None),
    ],
)
def test_blob(path: str, expected: object) -> None:
    found = blobs_of([path])
    assert [one.task_manager or "no process" if expected == "no process" else one for one in found] == (
        [] if expected is None else [expected]
    )
    assert is_of_a_job(path) == (expected is not None or path.endswith(".jar"))


@pytest.mark.parametrize("path", ["socket:[7]", "/usr/lib/jvm/modules", "pipe:[1.jar]", "/tmp/x.jar.log"])
def test_other_files(path: str) -> None:
    assert not is_of_a_job(path)


@pytest.mark.parametrize(
    ("blobs", "ports", "expected"),
    [((), {6122, 7000, 9}, True), ((), {6122}, False), ((BLOB,), set(), True), ((), set(), False)],
)
def test_process(blobs: tuple[str, ...], ports: set[int], expected: bool) -> None:
    listed = ListedTaskManager("10.0.0.5:6122-ab", Host("10.0.0.5", 6122), 7000, None, (1, 0, 1))
    assert is_process_of(listed, blobs_of(blobs), frozenset(ports)) == expected
