"""The configuration: models a section, reading it, and the documentation made from it."""

from flowmap.config.control_plane import Blink, Catalog, ControlPlane, Credentials
from flowmap.config.loading import load, read_web_config, require_control_plane
from flowmap.config.models import Attribute, Capture, Collect, Config, Conntrack, Export, History, Http, Log, Sockets
from flowmap.config.reference import config_markdown, example_yaml, masked, schema
from flowmap.config.values import Listen
from flowmap.config.web import Access, TlsServer, WebConfig

__all__ = [
    "Access",
    "Attribute",
    "Blink",
    "Capture",
    "Catalog",
    "Collect",
    "Config",
    "Conntrack",
    "ControlPlane",
    "Credentials",
    "Export",
    "History",
    "Http",
    "Listen",
    "Log",
    "Sockets",
    "TlsServer",
    "WebConfig",
    "config_markdown",
    "example_yaml",
    "load",
    "masked",
    "read_web_config",
    "require_control_plane",
    "schema",
]
