"""The elements of answers: deployments and jobs, as the API's documents and the vendor's SDK describe them.

Field names are the API's in snake case; every field but an element's own id may be absent. Types are strict, except
where the documents' examples and the SDK's declarations disagree, and there exactly as far as they do:

=======================================  ============================================================
``createdAt``, ``modifiedAt``            text, text with a line end, or a number: seconds as int
``startTime``, ``endTime``, ``failedAt``  10 digits are seconds, 13 are milliseconds: seconds as int
``labels``                               values are text or other scalars: all become text
``sessionClusterName``                   the word ``null`` means none
``errorCode``, ``errorMessage``          empty and two quote characters mean none (see ``envelope``)
``flinkConf``, ``userFlinkConf``         values of any type are kept as they are
``cpu``, ``totalCpu``                    whole numbers become float
=======================================  ============================================================

Unknown fields are ignored. ``resourcePlan`` holds text that is nearly JSON and stays text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Self, TypeVar, cast, dataclass_transform

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass
from pydantic_core import SchemaSerializer, SchemaValidator, to_json

MILLISECONDS_FROM = 100_000_000_000
"""A time at or above this (the year 5138 in seconds) is in milliseconds."""


def camel(name: str) -> str:
    """The API's spelling of a field: ``log4j_loggers`` to ``log4jLoggers``."""
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def _seconds(value: object) -> object:
    """A time in whole seconds; pydantic refuses any other value later."""
    if isinstance(value, str):
        text = value.strip()
        if not (text.isascii() and text.isdecimal() and len(text) <= 15):
            return value
        value = int(text)
    if isinstance(value, int) and not isinstance(value, bool) and value >= MILLISECONDS_FROM:
        return value // 1000
    return value


def _label_text(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return "" if value is None else value


def _none_if_null(value: object) -> object:
    return None if value == "null" else value


Seconds = Annotated[int, BeforeValidator(_seconds)]
"""Seconds since the epoch."""

LabelText = Annotated[str, BeforeValidator(_label_text)]

Identifier = Annotated[str, Field(min_length=1)]


M = TypeVar("M")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def api_model(alias: Callable[[str], str] = camel) -> Callable[[type[M]], type[M]]:
    """Make a class one of the API's: strict, frozen, unknown fields ignored, ``alias`` giving the API's spelling.

    A pydantic dataclass with slots, not a BaseModel: ten thousand deployments take 16 MiB instead of 100, and a third
    of the time to read.
    """
    config = ConfigDict(
        strict=True,
        extra="ignore",
        alias_generator=alias,
        validate_by_name=True,
        allow_inf_nan=False,
        defer_build=True,  # most classes are parts of others and need no validator of their own
    )
    return cast("Callable[[type[M]], type[M]]", dataclass(config=config, kw_only=True, frozen=True, slots=True))


@api_model()
class ApiModel:
    """Base of everything that comes from the API."""

    @classmethod
    def model_validate(cls, value: object) -> Self:
        """Read a value of JSON; ValueError (pydantic's ValidationError) if it is not as documented."""
        validator: SchemaValidator = cls.__pydantic_validator__  # type: ignore[attr-defined]
        # Via JSON: a strict dataclass accepts an object from JSON, not a dict from Python.
        read: Self = validator.validate_json(to_json(value))
        return read

    def model_dump(self, *, mode: str = "python", by_alias: bool = False, exclude_none: bool = False) -> dict[str, Any]:
        """The fields as plain values, as pydantic's models have it."""
        serializer: SchemaSerializer = type(self).__pydantic_serializer__  # type: ignore[attr-defined]
        plain: dict[str, Any] = serializer.to_python(self, mode=mode, by_alias=by_alias, exclude_none=exclude_none)
        return plain


@api_model()
class SqlArtifact(ApiModel):
    sql_script: str | None = None
    additional_dependencies: list[str] | None = None


@api_model()
class JarArtifact(ApiModel):
    jar_uri: str | None = None
    entry_class: str | None = None
    main_args: str | None = None
    additional_dependencies: list[str] | None = None


@api_model()
class PythonArtifact(ApiModel):
    python_artifact_uri: str | None = None
    entry_module: str | None = None
    main_args: str | None = None
    additional_dependencies: list[str] | None = None
    additional_python_libraries: list[str] | None = None
    additional_python_archives: list[str] | None = None


@api_model()
class CdcYamlArtifact(ApiModel):
    cdc_yaml: str | None = None
    additional_dependencies: list[str] | None = None


@api_model()
class Artifact(ApiModel):
    """What a deployment runs. The documents' examples fill several kinds at once; ``kind`` decides."""

    kind: str | None = None
    sql_artifact: SqlArtifact | None = None
    jar_artifact: JarArtifact | None = None
    python_artifact: PythonArtifact | None = None
    cdc_yaml_artifact: CdcYamlArtifact | None = None


@api_model()
class ResourceSpec(ApiModel):
    """``BasicResourceSettingSpec``: cores, and memory as text such as ``4 GiB``."""

    cpu: float | None = None
    memory: str | None = None


@api_model()
class BasicResourceSetting(ApiModel):
    parallelism: int | None = None
    jobmanager_resource_setting_spec: ResourceSpec | None = None
    taskmanager_resource_setting_spec: ResourceSpec | None = None


@api_model()
class ExpertResourceSetting(ApiModel):
    jobmanager_resource_setting_spec: ResourceSpec | None = None
    resource_plan: str | None = None


@api_model()
class StreamingResourceSetting(ApiModel):
    resource_setting_mode: str | None = None
    basic_resource_setting: BasicResourceSetting | None = None
    expert_resource_setting: ExpertResourceSetting | None = None


@api_model()
class BatchResourceSetting(ApiModel):
    max_slot: int | None = None
    basic_resource_setting: BasicResourceSetting | None = None


@api_model()
class LocalVariable(ApiModel):
    name: str | None = None
    value: str | None = None


@api_model()
class Log4jLogger(ApiModel):
    logger_name: str | None = None
    logger_level: str | None = None


@api_model()
class LogReservePolicy(ApiModel):
    open_history: bool | None = None
    expiration_days: int | None = None


@api_model()
class Logging(ApiModel):
    logging_profile: str | None = None
    log4j2_configuration_template: str | None = None
    log4j_loggers: list[Log4jLogger] | None = None
    log_reserve_policy: LogReservePolicy | None = None


@api_model()
class DeploymentTarget(ApiModel):
    """``BriefDeploymentTarget``: the resource queue or session cluster a deployment runs in."""

    mode: str | None = None
    name: str | None = None


@api_model()
class JobSummary(ApiModel):
    """Number of a deployment's jobs in each state."""

    starting: int | None = None
    running: int | None = None
    cancelling: int | None = None
    cancelled: int | None = None
    finished: int | None = None
    failed: int | None = None


@api_model()
class _Resource(ApiModel):
    """The fields that deployments and jobs share."""

    namespace: str | None = None
    workspace: str | None = None
    engine_version: str | None = None
    execution_mode: str | None = None
    """``STREAMING`` or ``BATCH``; the SDK's comments also say ``STREAM``."""
    artifact: Artifact | None = None
    flink_conf: dict[str, Any] | None = None
    local_variables: list[LocalVariable] | None = None
    logging: Logging | None = None
    streaming_resource_setting: StreamingResourceSetting | None = None
    batch_resource_setting: BatchResourceSetting | None = None
    creator: str | None = None
    creator_name: str | None = None
    modifier: str | None = None
    modifier_name: str | None = None
    created_at: Seconds | None = None
    modified_at: Seconds | None = None


@api_model()
class Deployment(_Resource):
    """A deployed job. It has no address: an answer of ``GetDeploymentsByIp`` does not give what matched."""

    deployment_id: Identifier
    name: str | None = None
    description: str | None = None
    labels: dict[str, LabelText] | None = None
    """None if the answer lacks them, which differs from a deployment without labels."""
    job_summary: JobSummary | None = None
    deployment_target: DeploymentTarget | None = None
    deployment_has_changed: bool | None = None
    referenced_deployment_draft_id: str | None = None


@api_model()
class JobFailure(ApiModel):
    reason: str | None = None
    message: str | None = None
    failed_at: Seconds | None = None


@api_model()
class JobStatusRunning(ApiModel):
    observed_flink_job_status: str | None = None
    observed_flink_job_restarts: int | None = None


@api_model()
class JobStatus(ApiModel):
    current_job_status: str | None = None
    """``STARTING``, ``RUNNING``, ``CANCELLING``, ``CANCELLED``, ``FINISHED`` or ``FAILED``."""
    running: JobStatusRunning | None = None
    failure: JobFailure | None = None
    health_score: int | None = None
    risk_level: str | None = None


@api_model()
class JobMetric(ApiModel):
    total_cpu: float | None = None
    total_memory_byte: int | None = None


@api_model()
class RestoreStrategy(ApiModel):
    """``DeploymentRestoreStrategy``: the state a job was started from."""

    kind: str | None = None
    """``NONE``, ``LATEST_SAVEPOINT``, ``FROM_SAVEPOINT`` or ``LATEST_STATE``."""
    allow_non_restored_state: bool | None = None
    job_start_time_in_ms: int | None = None
    savepoint_id: str | None = None


@api_model()
class Job(_Resource):
    """One run of a deployment."""

    job_id: Identifier
    deployment_id: str | None = None
    deployment_name: str | None = None
    status: JobStatus | None = None
    start_time: Seconds | None = None
    end_time: Seconds | None = None
    metric: JobMetric | None = None
    restore_strategy: RestoreStrategy | None = None
    session_cluster_name: Annotated[str | None, BeforeValidator(_none_if_null)] = None
    user_flink_conf: dict[str, Any] | None = None
