"""Client of the legacy Blink API (foas, version 2018-11-11): which jobs use a package. Off by default.

Gateway, signature (HMAC-SHA1) and envelope differ from the 2022-07-18 API. Attempts, waits and errors are the same.
"""

from __future__ import annotations

from email.utils import formatdate
from typing import Annotated, Any, Self

from pydantic import BeforeValidator

from flowmap.control.alibaba.api import requests
from flowmap.control.alibaba.api.caller import USER_AGENT, Caller, Observe, Outgoing, default_transport, no_observer
from flowmap.control.alibaba.api.envelope import Elements
from flowmap.control.alibaba.api.listing import Listing
from flowmap.control.alibaba.api.models import ApiModel, Identifier, Seconds, api_model
from flowmap.control.alibaba.api.signing import canonical_query, encode, sign_hmac_sha1
from flowmap.control.alibaba.credentials.base import Credentials, CredentialsProvider
from flowmap.control.clock import SYSTEM_CLOCK, Clock
from flowmap.control.http.endpoint import Endpoint, parse_endpoint, region_id
from flowmap.control.http.json_tree import read_tree
from flowmap.control.http.text import plain_text
from flowmap.control.http.transport_api import HttpReply, Transport
from flowmap.errors import BadRequest, ProtocolError

ACTION = "GetRefPackageJob"
VERSION = "2018-11-11"

MAINLAND = Endpoint("https", "foas.aliyuncs.com")
OVERSEAS = Endpoint("https", "foas.ap-northeast-1.aliyuncs.com")
"""One gateway serves all regions whose id does not begin with ``cn-`` (the vendor SDK's table)."""

_UNSAFE = set("/?#%[]")


def _package_names(value: object) -> object:
    return tuple(name for part in value.split(",") if (name := part.strip())) if isinstance(value, str) else value


@api_model(lambda name: "".join(word.capitalize() for word in name.split("_")))
class BlinkJob(ApiModel):
    """A job of a Blink project."""

    job_id: Identifier
    job_name: str | None = None
    project_name: str | None = None
    packages: Annotated[tuple[str, ...] | None, BeforeValidator(_package_names)] = None
    """File names of the packages it uses."""
    api_type: str | None = None
    """``DATASTREAM`` or ``SQL``."""
    job_type: str | None = None
    """``FLINK_STREAM`` or ``FLINK_BATCH``."""
    cluster_id: str | None = None
    queue_name: str | None = None
    engine_version: str | None = None
    is_committed: bool | None = None
    folder_id: int | None = None
    description: str | None = None
    code: str | None = None
    plan_json: str | None = None
    """Text that holds JSON."""
    properties: str | None = None
    creator: str | None = None
    create_time: Seconds | None = None
    modifier: str | None = None
    modify_time: Seconds | None = None


def read_blink_answer(body: bytes) -> Elements[BlinkJob]:
    """Read a page of jobs. ``Jobs`` may be a list, an object around a list or around one job, or left out where
    ``TotalCount`` is there; ProtocolError for anything else."""
    try:
        tree: Any = read_tree(body)
    except ValueError as error:
        raise ProtocolError(f"the answer is not JSON: {error}", status=200, reason="malformed") from error
    if not isinstance(tree, dict):
        raise ProtocolError("the answer is not an object", status=200)
    total, request_id = _count(tree.get("TotalCount")), plain_text(tree.get("RequestId"))
    items = _jobs(tree.get("Jobs"), total)
    if items is None:
        raise ProtocolError("the answer has neither 'Jobs' nor 'TotalCount'", status=200, request_id=request_id)
    jobs = [job for item in items if (job := _job(item)) is not None]
    return Elements(
        items=tuple(jobs),
        request_id=request_id or "",
        dropped=len(items) - len(jobs),
        page_index=_count(tree.get("PageIndex")),
        page_size=_count(tree.get("PageSize")),
        total_size=total,
    )


class BlinkClient:
    """The legacy API of one region. Use it in one event loop, and close it."""

    def __init__(
        self,
        *,
        region: str,
        credentials: CredentialsProvider,
        endpoint: str | None = None,
        timeout: float = 10.0,
        user_agent: str = USER_AGENT,
        observe: Observe = no_observer,
        transport: Transport | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Parameters as for ``ControlClient``. Without ``endpoint`` the one of the region is used."""
        self._region = region_id(region)
        by_region = MAINLAND if region.startswith("cn-") else OVERSEAS
        self._endpoint = by_region if endpoint is None else parse_endpoint(endpoint)
        self._user_agent = user_agent
        self._caller = Caller(
            transport=transport or default_transport(),
            credentials=credentials,
            timeout=timeout,
            observe=observe,
            clock=clock,
        )

    @property
    def breaker_open(self) -> bool:
        """Whether calls are suspended after failures in a row."""
        return self._caller.breaker_open

    def get_ref_package_job(
        self, *, project: str, package: str, page_size: int = requests.PAGE_SIZE
    ) -> Listing[BlinkJob]:
        """``GetRefPackageJob``, all pages: the jobs of ``project`` that use ``package``. Raises BadRequest at once."""
        segments = ("projects", _name("project", project), "packages", _name("package", package), "jobs")
        size = requests.integer("page_size", page_size, low=1, high=requests.PAGE_SIZE)

        async def ask(index: int) -> Elements[BlinkJob]:
            query = {"pageIndex": str(index), "pageSize": size, "RegionId": self._region}
            answered = await self._caller.call(
                ACTION, sign=lambda keys, now: self._sign(segments, query, keys, now), read=_read, scope=project
            )
            return answered.value

        return Listing(ask, lambda job: job.job_id, page_size=page_size)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._caller.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _sign(self, segments: tuple[str, ...], query: dict[str, str], keys: Credentials, now: float) -> Outgoing:
        headers = {
            "accept": "application/json",
            "date": formatdate(now, usegmt=True),
            "x-acs-action": ACTION,
            "x-acs-version": VERSION,
            "x-acs-region-id": self._region,
            "x-acs-signature-method": "HMAC-SHA1",
            "x-acs-signature-version": "1.0",
        }
        if keys.security_token:
            headers["x-acs-security-token"] = keys.security_token
        signature = sign_hmac_sha1(
            method="GET",
            path="/api/v2/" + "/".join(segments),
            query=query,
            headers=headers,
            access_key_id=keys.access_key_id,
            access_key_secret=keys.access_key_secret,
        )
        headers["authorization"] = signature.authorization
        headers["host"] = self._endpoint.authority
        headers["user-agent"] = self._user_agent
        path = "/api/v2/" + "/".join(encode(segment) for segment in segments)
        return Outgoing(f"{self._endpoint.url}{path}?{canonical_query(query)}", headers)


def _read(reply: HttpReply) -> Elements[BlinkJob]:
    return read_blink_answer(reply.body)


def _name(parameter: str, value: str) -> str:
    """A name that is one path segment both raw and encoded, since the raw path is signed."""
    checked = requests.text(parameter, value)
    if checked in (".", "..") or _UNSAFE & set(checked):
        raise BadRequest(f"{parameter}: {value!r} is not a name (no {' '.join(sorted(_UNSAFE))}, not '.' or '..')")
    return checked


def _jobs(value: object, total: int | None) -> list[object] | None:
    """The jobs from any of their wrappings; None if the answer does not give whether there are any."""
    if isinstance(value, dict):
        value = value.get("Job")
        value = [value] if isinstance(value, dict) else value
    if value is None and total is not None:
        return []
    return value if isinstance(value, list) else None


def _job(item: object) -> BlinkJob | None:
    try:
        return BlinkJob.model_validate(item)
    except ValueError:
        return None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
