"""Finds the files of jobs among the open files of a TaskManager. Pure.

In a session cluster a TaskManager fetches the files of a job from the JobManager and keeps them open while the job's
classes are loaded: ``…/tm_<resource id>/blobStorage/job_<job id>/blob_p-<SHA-1 of the file>-<random>``. The file's own
name is lost. What is on the class path of the whole process is open by its name and belongs to all its jobs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from flowmap.control.flink.records import ListedTaskManager

_BLOB = re.compile(
    r"(?:/tm_(?P<process>[^/]+)/blobStorage|/blobStore-[^/]+)"
    r"/job_(?P<job>[0-9a-f]{32})/blob_p-(?P<sha1>[0-9a-f]{40})-[0-9a-f]+"
)
_FILE = re.compile(r"/.+\.(?:jar|py|pyc|zip|whl|egg)")


class Blob(NamedTuple):
    """A file of a job, as its descriptor names it."""

    job_id: str
    sha1: str
    task_manager: str
    """Resource id of the TaskManager; empty where the path lacks it."""
    path: str


def is_of_a_job(path: str) -> bool:
    """Whether an open file may be one that jobs use."""
    return _FILE.fullmatch(path) is not None or _BLOB.search(path) is not None


def blobs_of(paths: Iterable[str]) -> tuple[Blob, ...]:
    """The files of jobs among the open files of a process."""
    matches = ((path, _BLOB.search(path)) for path in paths)
    return tuple(Blob(one["job"], one["sha1"], one["process"] or "", path) for path, one in matches if one)


def is_process_of(one: ListedTaskManager, blobs: Iterable[Blob], ports: frozenset[int]) -> bool:
    """Whether a process with these blobs and listening ports is the listed TaskManager."""
    return one.id in {blob.task_manager for blob in blobs} or {one.rpc.port, one.data_port} <= ports
