"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_SHARE = 0.85
_CHUNK = 2**20
_PATIENCE_SECONDS, _CALM, _IDLE_PERCENT = 240.0, 5, 12.0


class Memory:
    """Has the machine's memory in use before something is timed, as a machine has that was up for a while.

    A virtual machine may give memory that nobody uses back to its host, and gets it again page by page: here at 7
    microseconds each, against 0.8 for a page it has. With a frame of 0.5 MB that is a millisecond. So the kernel's
    cache is filled with a file of nothing, whose pages it gives away when somebody needs some.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._file.touch()
        os.truncate(self._file, int(psutil.virtual_memory().available * _SHARE))

    def claim(self) -> None:
        """Before each measurement: what lies idle does not stay for long."""
        _settle()
        buffer = bytearray(_CHUNK)
        with self._file.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def _settle() -> None:
    """Let what was begun before be finished: files written back, Milvus's segments merged."""
    os.sync()
    until, calm = time.monotonic() + _PATIENCE_SECONDS, 0
    while calm < _CALM and time.monotonic() < until:
        calm = calm + 1 if psutil.cpu_percent(interval=1.0) < _IDLE_PERCENT else 0


@contextmanager
def hold_memory(directory: Path) -> Iterator[Memory]:
    """The machine's memory, until the end; the file goes into this directory and takes no room there."""
    memory = Memory(directory / "nothing")
    memory.claim()
    try:
        yield memory
    finally:
        (directory / "nothing").unlink()


def describe_machine() -> dict[str, object]:
    """Processor, cores, memory and load: enough to judge whether two runs compare."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    }
