"""Catalog entries in the form of the API, including the oddities in the examples of its documents.

``createdAt`` is text with a line end, or a number in lists. Label values may be numbers. "none" is two quote
characters. Clients must accept all this, so the sandbox produces it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from flowmap.catalog_file.catalog import DeploymentEntry, JobEntry, PackageJobEntry

Json = dict[str, Any]

NONE_TEXT = '""'

STATES = ("starting", "running", "cancelling", "cancelled", "finished", "failed")

_RESOURCES: Mapping[str, Any] = {
    "streamingResourceSetting": {
        "resourceSettingMode": "BASIC",
        "basicResourceSetting": {
            "parallelism": 4,
            "jobmanagerResourceSettingSpec": {"cpu": 1, "memory": "4 GiB"},
            "taskmanagerResourceSettingSpec": {"cpu": 2, "memory": "8 GiB"},
        },
    },
    "batchResourceSetting": {"maxSlot": 10, "basicResourceSetting": {"parallelism": 4}},
}


def success(request_id: str, data: Sequence[Json], **extra: int) -> Json:
    """The envelope of an answer. ``extra``: the paging fields."""
    return {
        "requestId": request_id,
        "success": True,
        "httpCode": 200,
        "errorCode": NONE_TEXT,
        "errorMessage": NONE_TEXT,
        **extra,
        "data": list(data),
    }


def failure(request_id: str, *, http_code: int, code: str, message: str) -> Json:
    """The envelope of a business error: ``success`` is false."""
    return {
        "requestId": request_id,
        "success": False,
        "httpCode": http_code,
        "errorCode": code,
        "errorMessage": message,
        "data": None,
    }


def gateway_error(request_id: str, *, code: str, message: str, host: str) -> Json:
    """The body of an error of the gateway."""
    return {
        "RequestId": request_id,
        "HostId": host,
        "Code": code,
        "Message": message,
        "Recommend": f"flowmap sandbox: see the wire contract for {code}",
    }


def deployment(
    entry: DeploymentEntry, *, workspace: str, in_list: bool, job_summary: bool = True, resources: bool = True
) -> Json:
    """A deployment. ``in_list``: times as numbers, as in the example of ListDeployments."""
    created, modified = int(entry.created_at), int(entry.modified_at)
    answer: Json = {
        "deploymentId": entry.id,
        "namespace": entry.namespace,
        "workspace": workspace,
        "name": entry.name,
        "description": entry.description,
        "engineVersion": entry.engine_version,
        "executionMode": entry.execution_mode,
        "creator": entry.creator,
        "creatorName": entry.creator_name,
        "modifier": entry.modifier,
        "modifierName": entry.creator_name,
        "deploymentHasChanged": False,
        "artifact": entry.artifact.model_dump(by_alias=True, exclude_none=True),
        "flinkConf": {"taskmanager.numberOfTaskSlots": 1 if in_list else "1"},
        "logging": {
            "loggingProfile": "default",
            "log4j2ConfigurationTemplate": "",
            "log4jLoggers": [{"loggerName": "root", "loggerLevel": "INFO"}],
            "logReservePolicy": {"openHistory": True, "expirationDays": 7},
        },
        "deploymentTarget": {"mode": "PER_JOB", "name": "default-queue"},
        "labels": dict(entry.labels),
        "localVariables": [],
        "createdAt": created if in_list else f"{created}\n",
        "modifiedAt": modified if in_list else str(modified),
    }
    if job_summary:
        answer["jobSummary"] = _job_summary(entry)
    if resources:
        answer.update(_RESOURCES)
    return answer


def _job_summary(entry: DeploymentEntry) -> Json:
    counts = Counter(job.status.lower() for job in entry.jobs)
    return {state: counts[state] for state in STATES}


def job(entry: DeploymentEntry, run: JobEntry, *, workspace: str) -> Json:
    """A job of a deployment."""
    state = run.status.upper()
    status: Json = {"currentJobStatus": state, "healthScore": 0, "riskLevel": ""}
    if state == "RUNNING":
        status["running"] = {"observedFlinkJobStatus": "RUNNING", "observedFlinkJobRestarts": 0}
    if state == "FAILED":
        failed_at = int(run.end_time or run.start_time)
        status["failure"] = {"reason": "SandboxFailure", "message": "the job failed", "failedAt": failed_at}
    answer: Json = {
        "jobId": run.id,
        "deploymentId": entry.id,
        "deploymentName": entry.name,
        "namespace": entry.namespace,
        "workspace": workspace,
        "engineVersion": entry.engine_version,
        "executionMode": entry.execution_mode,
        "creator": entry.creator,
        "creatorName": entry.creator_name,
        "modifier": entry.modifier,
        "modifierName": entry.creator_name,
        "status": status,
        "startTime": int(run.start_time),
        "metric": {"totalCpu": 2, "totalMemoryByte": 8 << 30},
        "sessionClusterName": "null",
        "artifact": entry.artifact.model_dump(by_alias=True, exclude_none=True),
        "flinkConf": {"taskmanager.numberOfTaskSlots": 1},
        "userFlinkConf": {"taskmanager.numberOfTaskSlots": "1"},
        "localVariables": [],
        "restoreStrategy": {
            "kind": "NONE",
            "allowNonRestoredState": False,
            "jobStartTimeInMs": int(run.start_time * 1000),
            "savepointId": "",
        },
        **_RESOURCES,
        "createdAt": str(int(run.start_time)),
        "modifiedAt": str(int(run.end_time or run.start_time)),
    }
    if run.end_time is not None:
        answer["endTime"] = int(run.end_time)
    return answer


def blink_page(request_id: str, jobs: Sequence[PackageJobEntry], *, index: int, size: int, total: int) -> Json:
    """A page of the legacy operation. Its envelope has no ``success``."""
    return {
        "TotalCount": total,
        "TotalPage": -(-total // size),
        "PageSize": size,
        "RequestId": request_id,
        "Jobs": {"Job": [_blink_job(entry) for entry in jobs]},
        "PageIndex": index,
    }


def _blink_job(entry: PackageJobEntry) -> Json:
    return {
        "JobId": entry.id,
        "JobName": entry.name or entry.id,
        "ProjectName": entry.project,
        "Packages": ",".join(entry.packages),
        "ApiType": entry.api_type,
        "JobType": entry.job_type,
        "ClusterId": entry.cluster_id,
        "QueueName": entry.queue_name,
        "EngineVersion": entry.engine_version,
        "IsCommitted": True,
        "FolderId": 10148,
        "Description": "",
        "Code": f"blink.job.name={entry.name or entry.id}",
        "PlanJson": '{"nodes": []}',
        "Properties": "#checkpoint\n",
        "Creator": entry.creator,
        "CreateTime": int(entry.create_time * 1000),
        "Modifier": entry.creator,
        "ModifyTime": int(entry.modify_time * 1000),
    }
