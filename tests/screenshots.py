"""Pictures of the page's main views over the demo, to be looked at: ``python -m tests.screenshots [FOLDER]``.

``--readme`` writes the picture that README shows. Needs Debian's ``chromium`` and ``chromium-driver``, and selenium.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from flowmap.sandbox.demo.demo import Demo
from tests.support.browser import Browser, browser

README_PICTURE = Path(__file__).parent / "data" / "page" / "map.png"
SETTLE = 14.0
"""Seconds until the demo has rates."""


def views(demo: Demo) -> Iterator[tuple[str, str]]:
    """Name and address of each view."""
    with urllib.request.urlopen(f"{demo.url}/api/v1/flows?peer=orders-kafka&state=attributed") as response:
        flow = json.load(response)["flows"][0]
    owner, client, server = flow["deployments"][0]["deploymentId"], flow["client"], flow["server"]
    yield "map", "/"
    yield "filter", "/?text=kafka&order=bytes"
    yield "others", "/?limit=2"
    yield "deployment", f"/?view=deployment&deployment={owner}"
    yield "peer", "/?view=peer&peer=orders-kafka"
    yield "connections", "/?view=connections"
    ends = f"srcIp={client['ip']}&srcPort={client['port']}&dstIp={server['ip']}&dstPort={server['port']}"
    yield "explain", f"/?view=explain&{ends}&protocol=tcp"
    yield "state", "/?view=state"


def picture(tab: Browser, file: Path, width: int, height: int, *, dark: bool = False, whole: bool = True) -> None:
    """Write a picture of what is open."""
    media = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    tab.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    tab.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    time.sleep(2.5)
    if whole:
        size["height"] = min(2000, max(height, tab.run("return document.documentElement.scrollHeight")))
        tab.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        time.sleep(0.5)
    tab.driver.save_screenshot(str(file))


def main(arguments: list[str]) -> int:
    """Write all pictures, or README's."""
    with Demo("127.0.0.1", 0) as demo, browser() as tab:
        time.sleep(SETTLE)
        if "--readme" in arguments:
            tab.open(demo.url)
            picture(tab, README_PICTURE, 1000, 600, whole=False)
            sys.stdout.write(f"{README_PICTURE}: {README_PICTURE.stat().st_size:,} bytes\n")
            return 0
        folder = Path(arguments[0] if arguments else tempfile.mkdtemp(prefix="flowmap-page-"))
        folder.mkdir(parents=True, exist_ok=True)
        for name, address in views(demo):
            tab.open(demo.url + address)
            picture(tab, folder / f"{name}.png", 1280, 800)
            if name in ("map", "explain", "state"):
                picture(tab, folder / f"{name}-dark.png", 1280, 800, dark=True)
            if name in ("map", "connections"):
                picture(tab, folder / f"{name}-narrow.png", 390, 800)
        sys.stdout.write(f"{folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
