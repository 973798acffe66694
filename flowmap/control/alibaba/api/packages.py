"""Which deployments and jobs use which file: an index over artifacts and legacy packages. Pure.

An artifact names a file by a URI or a path. These spellings are the same file:

- scheme and host in any case (RFC 3986, section 6.2.2.1), with percent-encoding undone. Paths are compared with their
  case, as OSS and Linux do;
- with and without query and fragment. They are dropped and never shown: a signed URL has its signature there;
- ``https://bucket.oss-<region>.aliyuncs.com/key`` is ``oss://bucket/key``: names of buckets are unique.

A pattern without a slash is compared with the file name, one with it with the whole URI. ``*``, ``?`` and ``[abc]``
work as in a shell, except that ``*`` matches slashes, too, and ``?`` in a URI starts a query.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple
from urllib.parse import unquote

from flowmap.control.alibaba.api.blink import BlinkJob
from flowmap.control.alibaba.api.models import Artifact, Deployment, Job

USES_LIMIT = 1_000_000
"""Most uses in an index."""

URI_LIMIT = 4096
"""Most characters of a URI; a longer text is not one."""

_OSS_HOST = re.compile(r"([a-z0-9][a-z0-9-]{1,61}[a-z0-9])\.oss-[a-z0-9-]+\.aliyuncs\.com(:\d+)?")
_GLOB = re.compile(r"[*?\[]")

_FIELDS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "SQLSCRIPT": ("sql_artifact", (("additional_dependencies", "additionalDependencies"),)),
    "JAR": (
        "jar_artifact",
        (("jar_uri", "jarUri"), ("additional_dependencies", "additionalDependencies")),
    ),
    "PYTHON": (
        "python_artifact",
        (
            ("python_artifact_uri", "pythonArtifactUri"),
            ("additional_dependencies", "additionalDependencies"),
            ("additional_python_libraries", "additionalPythonLibraries"),
            ("additional_python_archives", "additionalPythonArchives"),
        ),
    ),
    "CDCYAML": ("cdc_yaml_artifact", (("additional_dependencies", "additionalDependencies"),)),
}
"""By kind: the relevant part of an artifact, and its fields that name files, with the API's spelling."""

PACKAGES = "Packages"
"""The field of a legacy job that names files."""


class FileUse(NamedTuple):
    """A file as an artifact names it."""

    field: str
    """The API's name of the field, such as ``jarUri``."""
    uri: str
    """Without query and fragment, percent-encoding undone."""
    name: str
    """The last part of it."""


@dataclass(frozen=True, slots=True)
class PackageUser:
    """A deployment, one of its jobs, or a job of the legacy product that uses a file. The ids are its identity."""

    namespace: str
    """Of a legacy job: its project."""
    deployment_id: str | None = None
    """None for a legacy job."""
    job_id: str | None = None
    """None for the deployment itself."""
    name: str | None = field(default=None, compare=False)
    """Of the deployment, or of the legacy job."""
    status: str | None = field(default=None, compare=False)
    """Of the job, as in the answer."""


class Found(NamedTuple):
    """One match: a user and the file it uses."""

    user: PackageUser
    use: FileUse


def read_uri(text: str) -> str | None:
    """``text`` in the spelling in which files are compared; None if it names no file."""
    if len(text) > URI_LIMIT:
        return None
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        return text.strip() or None  # a path or a bare name: nothing in it is encoded
    authority, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    scheme, host = scheme.lower(), authority.rpartition("@")[2].lower()
    path = unquote(path)
    bucket = _OSS_HOST.fullmatch(host) if scheme in ("http", "https", "oss") else None
    if bucket is not None:
        scheme, host = "oss", bucket[1]
    return f"{scheme}://{host}{slash}{path}"


def file_name(uri: str) -> str:
    """The last part of a URI as :func:`read_uri` gives it; empty if it names no file."""
    path = uri.partition("://")[2].partition("/")[2] if "://" in uri else uri
    return path.rpartition("/")[2]


def files_of(artifact: Artifact | None) -> Iterator[FileUse | None]:
    """The files an artifact names; None for each entry that names none.

    ``kind`` selects the part. If it is unknown or its part is missing, all parts are read: an additional user is
    better than a missing one.
    """
    if artifact is None:
        return
    kind = (artifact.kind or "").upper()
    kinds = [kind] if kind in _FIELDS and getattr(artifact, _FIELDS[kind][0]) is not None else list(_FIELDS)
    for part_name, fields in (_FIELDS[name] for name in kinds):
        part = getattr(artifact, part_name)
        for attribute, api_name in fields if part is not None else ():
            value = getattr(part, attribute) or ()
            for text in (value,) if isinstance(value, str) else value:
                yield _use(api_name, text)


def _use(api_name: str, text: str) -> FileUse | None:
    uri = read_uri(text)
    name = file_name(uri) if uri else ""
    return FileUse(api_name, uri, name) if uri and name else None


class PackageIndex:
    """Files by name, with their users. Users may be added in any order and more than once."""

    def __init__(self, *, limit: int = USES_LIMIT) -> None:
        """``limit``: most uses; ``shed`` counts those left out."""
        self._limit = limit
        self._by_name: defaultdict[str, dict[Found, None]] = defaultdict(dict)
        self.uses = 0
        self.shed = 0
        """Uses left out because of the limit. If there are any, results may be incomplete."""

    @property
    def files(self) -> int:
        """Different file names."""
        return len(self._by_name)

    def add_deployment(self, deployment: Deployment, *, namespace: str) -> None:
        """A deployment of ``namespace`` as it is configured now."""
        user = PackageUser(namespace, deployment.deployment_id, name=deployment.name)
        self._add(user, files_of(deployment.artifact))

    def add_job(self, job: Job, *, namespace: str, deployment_id: str, name: str | None = None) -> None:
        """A job of the deployment ``deployment_id``, with the files that were configured at its start. ``name``: the
        deployment's, if the job lacks it."""
        status = job.status.current_job_status if job.status else None
        user = PackageUser(namespace, deployment_id, job.job_id, job.deployment_name or name, status)
        self._add(user, files_of(job.artifact))

    def add_blink_job(self, job: BlinkJob, *, project: str, package: str) -> None:
        """A job of the legacy product that an answer lists as a user of ``package``, even if its own list lacks it."""
        user = PackageUser(job.project_name or project, None, job.job_id, job.job_name)
        self._add(user, (_use(PACKAGES, name) for name in {package: None} | dict.fromkeys(job.packages or ())))

    def add(self, user: PackageUser, field: str, text: str) -> None:
        """A file that another control plane says ``user`` uses."""
        self._add(user, iter((_use(field, text),)))

    def find(self, pattern: str) -> tuple[Found, ...]:
        """Every use of a file that matches ``pattern``, sorted by namespace, deployment and job."""
        wanted = read_uri(pattern)
        if wanted is None:
            return ()
        whole, glob = "/" in wanted, _GLOB.search(wanted) is not None
        found = [
            one
            for name in self._names(None if whole or glob else wanted)
            for one in self._by_name[name]
            if _matches(one.use.uri if whole else name, wanted, glob)
        ]
        return tuple(sorted(found, key=_order))

    @staticmethod
    def is_called(name: str, pattern: str) -> bool:
        """Whether a file name matches a pattern without a slash."""
        return _matches(name, pattern, _GLOB.search(pattern) is not None)

    def _names(self, exact: str | None) -> Sequence[str]:
        if exact is None:
            return list(self._by_name)
        return [exact] if exact in self._by_name else []

    def _add(self, user: PackageUser, uses: Iterator[FileUse | None]) -> None:
        for use in uses:
            if use is None or (found := Found(user, use)) in self._by_name.get(use.name, ()):
                continue
            if self.uses >= self._limit:
                self.shed += 1
                continue
            self._by_name[use.name][found] = None
            self.uses += 1


def _matches(text: str, wanted: str, glob: bool) -> bool:
    # A name may contain a bracket, so the pattern is also compared literally.
    return text == wanted or (glob and fnmatchcase(text, wanted))


def _order(found: Found) -> tuple[str, str, str, str, str]:
    user, use = found
    return (user.namespace, user.deployment_id or "", user.job_id or "", use.field, use.uri)
