"""``flowmap sandbox``: run the embedded control plane alone, on loopback.

It answers signed requests from a catalog file, or from an example catalog.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the address and the catalog."""
    parser.add_argument(
        "--listen", default="127.0.0.1:0", help="loopback address and port; default: 127.0.0.1:0 (any free port)"
    )
    parser.add_argument(
        "--catalog", metavar="FILE", type=Path, help="YAML or JSON file with the deployments; default: an example"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM. The first line on stdout ends with the URL."""
    from flowmap.sandbox import control_plane
    from flowmap.sandbox.verify import ACCESS_KEY_ID, ACCESS_KEY_SECRET

    def announce(url: str) -> None:
        print(f"access key {ACCESS_KEY_ID}, secret {ACCESS_KEY_SECRET}, endpoint {url}", flush=True)

    control_plane.serve(arguments.listen, arguments.catalog, on_ready=announce)
    return 0
