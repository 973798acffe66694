"""The Kubernetes manifests, and patches applied as Kubernetes does."""

from __future__ import annotations

from typing import Any

import yaml

from tests.dockerfile import ROOT

DIRECTORY = ROOT / "config" / "kubernetes"
_KEYS = {"containers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath"}
"""By which key items of a list are merged; other lists are replaced."""


def objects(*names: str) -> dict[str, Any]:
    """The objects in files of the directory, by ``KIND/NAME``."""
    documents = [one for name in names for one in yaml.safe_load_all((DIRECTORY / name).read_text())]
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in documents}


def patch_of(name: str) -> Any:
    """The patch in a file of the directory."""
    return yaml.safe_load((DIRECTORY / name).read_text())


def merged(value: Any, patch: Any, key: str = "") -> Any:
    """A strategic merge patch, as ``kubectl patch`` applies it by default to these kinds."""
    if isinstance(value, dict) and isinstance(patch, dict):
        return value | {name: merged(value.get(name), part, name) for name, part in patch.items()}
    if isinstance(value, list) and isinstance(patch, list) and (by := _KEYS.get(key)):
        changes = {one[by]: one for one in patch}
        kept = [merged(one, changes.pop(one[by], {})) for one in value]
        return [*kept, *changes.values()]
    return patch
