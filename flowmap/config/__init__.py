"""The configuration: models a section, reading it, and the documentation made from it."""

from flowmap.config.loading import load, require_control_plane
from flowmap.config.models import (
    Attribute,
    Blink,
    Capture,
    Catalog,
    Collect,
    Config,
    Conntrack,
    ControlPlane,
    Credentials,
    Export,
    History,
    Http,
    Log,
    Sockets,
)
from flowmap.config.reference import config_markdown, example_yaml, masked, schema
from flowmap.config.values import Listen

__all__ = [
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
    "config_markdown",
    "example_yaml",
    "load",
    "masked",
    "require_control_plane",
    "schema",
]
