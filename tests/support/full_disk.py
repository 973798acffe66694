"""A disk that fills up, or turns read-only, under a history; run inside a mount namespace of its own, as root."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.history import RecordedAccounting, fail_and_recover


def main(fault: str, directory: str) -> None:
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], check=True)
    recorded = RecordedAccounting(Path(directory) / "history.db")
    recorded.close_some(5, first=500)
    assert recorded.flush() == 6
    filler = Path(directory) / "filler"

    def spoil() -> None:
        if fault == "read_only":
            recorded.store.close()
            subprocess.run(["mount", "-o", "remount,ro", directory], check=True)
        else:
            with filler.open("wb", buffering=0) as file:
                try:
                    while file.write(b"x" * 4096):
                        pass
                except OSError:
                    pass

    def mend() -> None:
        if fault == "read_only":
            subprocess.run(["mount", "-o", "remount,rw", directory], check=True)
        else:
            filler.unlink()

    spoil()
    fail_and_recover(recorded, mend, reason=fault)
    assert len(recorded.flows()) == 8, "no flow is lost"
    assert recorded.writer.figures.set_aside == 0
    recorded.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
