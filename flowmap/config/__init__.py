"""The configuration: its models, loading, and the documentation generated from it."""

from flowmap.config.control_plane import BlinkConfig, CatalogConfig, ControlPlaneConfig, CredentialsConfig
from flowmap.config.expectations import read_expectations
from flowmap.config.flink import FlinkClusterConfig, FlinkConfig
from flowmap.config.history import ClickHouseConfig, HistoryConfig
from flowmap.config.loading import load, read_web_config, require_control_plane
from flowmap.config.models import (
    AttributeConfig,
    CaptureConfig,
    CollectConfig,
    Config,
    ConntrackConfig,
    ExpectConfig,
    ExportConfig,
    HttpConfig,
    LogConfig,
    SocketsConfig,
)
from flowmap.config.reference import config_markdown, example_yaml, masked, schema
from flowmap.config.values import Listen
from flowmap.config.web import Access, TlsServer, WebConfig

__all__ = [
    "Access",
    "AttributeConfig",
    "BlinkConfig",
    "CaptureConfig",
    "CatalogConfig",
    "ClickHouseConfig",
    "CollectConfig",
    "Config",
    "ConntrackConfig",
    "ControlPlaneConfig",
    "CredentialsConfig",
    "ExpectConfig",
    "ExportConfig",
    "FlinkClusterConfig",
    "FlinkConfig",
    "HistoryConfig",
    "HttpConfig",
    "Listen",
    "LogConfig",
    "SocketsConfig",
    "TlsServer",
    "WebConfig",
    "config_markdown",
    "example_yaml",
    "load",
    "masked",
    "read_expectations",
    "read_web_config",
    "require_control_plane",
    "schema",
]
