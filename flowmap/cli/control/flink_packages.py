"""Which jobs of open-source Flink use a file.

Flink's REST interface lists the uploaded jars, not the jobs that use them. So two other places are searched:

    what the author of a job publishes (global job parameters)     names a file; it need not be true
    the open files of TaskManagers on this host                    exact, by SHA-1 or by the name on the class path
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from flowmap.cli.shared.asking import Losses
from flowmap.cli.shared.flink import each_cluster
from flowmap.config import Config
from flowmap.control.alibaba.api.packages import FileUse, Found, PackageIndex, PackageUser, file_name
from flowmap.control.flink.blobs import Blob, blobs_of, is_of_a_job, is_process_of
from flowmap.control.flink.cluster import Cluster
from flowmap.control.flink.control_plane import FlinkControlPlane
from flowmap.control.flink.deployments import file_name_of_jar, status_of
from flowmap.errors import ControlError, QueryError
from flowmap.system.open_files import Looked, look

PUBLISHED, ON_CLASS_PATH, OPEN = "user-config", "class path", "open file"
"""Fields of uses: what a job publishes; a file of its TaskManager's class path; its own file, by SHA-1."""
THIS_HOST = "(this host)"
"""Namespace of a job on this host that no cluster knows."""


class _Process(NamedTuple):
    """A process of this host with files that jobs use."""

    blobs: tuple[Blob, ...]
    files: tuple[str, ...]
    ports: frozenset[int]


async def search_flink(arguments: argparse.Namespace, config: Config, losses: Losses) -> tuple[Found, ...]:
    """The jobs that use ``arguments.file``, as far as they can be found; the rest is a hint."""
    if not config.flink.enabled:
        return ()
    looked = look(is_of_a_job)
    processes = [_Process(blobs_of(one.files), one.files, one.ports) for one in looked.found]
    copy = sha1_of(Path(arguments.file))
    index, own, known = PackageIndex(), list[Found](), set[str]()

    async def read(plane: FlinkControlPlane, name: str) -> list[None]:
        await plane.list_deployments("", name)
        cluster = plane.clusters[name]
        known.update(cluster.jobs)
        if not arguments.no_jobs:
            await _add_published(cluster, index)
        for process in processes:
            _add_class_path(cluster, process, index)
        own.extend(_own_files(cluster, processes, copy))
        for jar in dict.fromkeys(map(file_name_of_jar, await cluster.jars())):
            if PackageIndex.is_called(jar, file_name(arguments.file)):
                losses.hint(f"{name}: {jar} is uploaded; Flink's REST interface does not list the jobs that use it")
        return []

    try:
        await each_cluster(arguments, config, losses, read)
    except ControlError as error:
        if not any(_equal(processes, copy)):
            raise
        losses.add(str(error))  # the open files still show the ids of jobs
    if not arguments.namespace:
        own += _unknown(processes, copy, known)
    _say_what_is_not_known(looked, processes, copy, losses)
    pattern = file_name(arguments.file) if copy else arguments.file
    return (*index.find(pattern), *own)


def sha1_of(path: Path) -> str:
    """The SHA-1 of a file, as Flink names it; empty if there is none. QueryError if it cannot be read."""
    if not path.is_file():
        return ""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise QueryError(f"{path}: cannot be read: {error.strerror}", field="file") from error


async def _add_published(cluster: Cluster, index: PackageIndex) -> None:
    for job in [job for job in cluster.jobs.values() if not job.over]:
        for key, value in (await cluster.published(job.id)).items():
            for text in value.replace(";", ",").split(","):
                index.add(_user(cluster, job.id), f"{PUBLISHED} {key}", text)


def _add_class_path(cluster: Cluster, process: _Process, index: PackageIndex) -> None:
    """Every job of a TaskManager uses what is on its class path."""
    for name, one in cluster.task_managers.items():
        if is_process_of(one.listed, process.blobs, process.ports):
            of_jobs = {blob.path for blob in process.blobs}
            for job_id in cluster.jobs_at(name):
                for path in process.files:
                    if path not in of_jobs:
                        index.add(_user(cluster, job_id), ON_CLASS_PATH, path)


def _own_files(cluster: Cluster, processes: Iterable[_Process], copy: str) -> Iterator[Found]:
    for blob in _equal(processes, copy):
        if blob.job_id in cluster.jobs:
            yield _found(_user(cluster, blob.job_id), blob)


def _unknown(processes: Iterable[_Process], copy: str, known: set[str]) -> Iterator[Found]:
    """Jobs that no cluster knows: its JobManager does not answer, or is not configured."""
    for blob in _equal(processes, copy):
        if blob.job_id not in known:
            yield _found(PackageUser(THIS_HOST, blob.job_id, blob.job_id), blob)


def _equal(processes: Iterable[_Process], copy: str) -> Iterator[Blob]:
    blobs = {(blob.job_id, blob.sha1): blob for one in processes for blob in one.blobs}
    return (blob for blob in blobs.values() if blob.sha1 == copy)


def _found(user: PackageUser, blob: Blob) -> Found:
    return Found(user, FileUse(OPEN, blob.path, file_name(blob.path)))


def _user(cluster: Cluster, job_id: str) -> PackageUser:
    owner, job = cluster.owner(job_id), cluster.jobs.get(job_id)
    status = None if job is None else status_of(job)
    return PackageUser(cluster.name, owner.deployment_id, job_id, owner.name, status)


def _say_what_is_not_known(looked: Looked, processes: Iterable[_Process], copy: str, losses: Losses) -> None:
    if looked.refused:
        losses.hint(
            f"{looked.refused} processes of this host could not be searched: run as root, or with CAP_SYS_PTRACE"
        )
    if not copy and any(one.blobs for one in processes):
        losses.hint("TaskManagers of this host know the files of their jobs by SHA-1 only: give the path of a copy")
    losses.hint("of open-source Flink only what jobs publish and the TaskManagers of this host are searched")
