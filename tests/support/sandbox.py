"""An embedded control plane in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flowmap.catalog_file.catalog import CatalogFile
from flowmap.sandbox.control_plane import make_server, open_listener, run_server, url_of
from flowmap.sandbox.plane import SandboxControlPlane
from flowmap.sandbox.verify import DEFAULT_KEYS, Keys


class RunningSandbox(SandboxControlPlane):
    """A control plane that is served at ``url``."""

    url: str = ""


@contextmanager
def running_sandbox(
    catalog: CatalogFile | Mapping[str, Any] | None = None,
    *,
    catalog_path: Path | None = None,
    listen: str = "127.0.0.1:0",
    keys: Keys = DEFAULT_KEYS,
    **options: Any,
) -> Iterator[RunningSandbox]:
    """Serve a control plane in a thread while the block runs.

    It answers from ``catalog`` (an example if None) on a free port of 127.0.0.1; ``options`` go to
    :class:`SandboxControlPlane`. On leaving, open requests are aborted.
    """
    plane = RunningSandbox(catalog, catalog_path=catalog_path, keys=keys, **options)
    listener = open_listener(listen)
    plane.url = url_of(listener)
    server = make_server(plane)
    thread = threading.Thread(target=run_server, args=(server, listener), name="flowmap-sandbox", daemon=True)
    thread.start()
    try:
        yield plane
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()
