"""A disk that is full: a small file system of its own under the home, filled up and emptied again."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_BYTES = 4 * 2**20
_FILLER = "filler"


@contextmanager
def lend_small_disk(place: Path) -> Iterator[Path | None]:
    """A file system of a few MiB mounted at `place`, with what was there; None where this user may not mount one."""
    kept = place.with_name(f"{place.name}-kept")
    place.rename(kept)
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_BYTES}", "none", str(place)]
    mounted = shutil.which("mount") and subprocess.run(command, capture_output=True, check=False).returncode == 0
    shutil.copytree(kept, place, dirs_exist_ok=True)
    try:
        yield place if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)


def fill(place: Path) -> None:
    """Leave no byte free."""
    # Unbuffered: what could not be written must not be tried again on closing.
    with (place / _FILLER).open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def make_room(place: Path) -> None:
    """Give back what `fill` took."""
    (place / _FILLER).unlink()
