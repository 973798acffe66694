"""A control plane that only a proxy can reach."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flowmap.cli import command
from tests.support.connect_proxy import ConnectProxy


@dataclass
class Site:
    """A control plane that only the proxy can reach, and how to ask it."""

    proxy: ConnectProxy
    directory: Path
    capsys: pytest.CaptureFixture[str]

    def run(self, *words: str, **plane: Any) -> tuple[int, str]:
        """Exit status, and everything that was said."""
        settings = {
            "endpoint": "https://plane.example",
            "workspace": "w",
            "timeout": "2s",
            "credentials": {"access_key_id": "i", "access_key_secret": "s"},
            "proxy_url": self.proxy.url.replace("://", "://ann:canary@"),
            "tls": {"ca_file": str(self.directory / "ca.pem")},
        }
        file = self.directory / "flowmap.yaml"
        file.write_text(json.dumps({"control_plane": settings | plane}))
        status = command.main([*words, "-c", str(file)])
        said = "".join(self.capsys.readouterr())
        assert "canary" not in said
        return status, said
