"""Directories for tests that become another user."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def public_directory(mode: int = 0o755) -> Iterator[Path]:
    """A directory with these rights, removed at the end. ``tmp_path`` is closed to other users."""
    with tempfile.TemporaryDirectory(prefix="flowmap-test-") as name:
        path = Path(name)
        path.chmod(mode)
        yield path
