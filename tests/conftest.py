"""For every test: no keys or settings from the environment, and no request to a metadata service."""

from __future__ import annotations

import os

for _name in [name for name in os.environ if name.startswith(("ALIBABA_CLOUD_", "FLOWMAP_"))]:
    del os.environ[_name]
os.environ["ALIBABA_CLOUD_ECS_METADATA_DISABLED"] = "true"
