"""A telescope that is not there: hands finished frames to a spool directory at the pace of a camera."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.simulate.files import make_directory, write_whole


def feed(
    files: Iterable[Path],
    spool: Path,
    cadence_s: float = 0.0,
    sleep: Callable[[float], None] = time.sleep,
    on_file: Callable[[Path, bool], None] | None = None,
    *,
    burst: int = 1,
) -> int:
    """Copy frames into a spool directory one by one; one that it already holds is passed over, without a wait.

    A frame is written under a name that starts with a dot, flushed to disk and then renamed, so a reader that passes
    hidden files over never sees half a frame.

    Args:
        files: the frames, in the order in which they are to appear.
        spool: the directory, made where missing.
        cadence_s: seconds to wait between one burst and the next.
        sleep: waits that many seconds.
        on_file: told of every frame: its path, and whether it was copied (False: it was already there).
        burst: frames that appear together, without a wait between them.

    Returns:
        How many frames were copied.

    Raises:
        UsageError: the spool holds a different file of that name, a frame is missing, or a number makes no sense.
        TransientError: the disk did not take a frame; those before it are whole.
    """
    if cadence_s < 0 or burst < 1:
        raise UsageError(f"a cadence of {cadence_s} s with bursts of {burst} frames makes no sense")
    make_directory(spool)
    copied = 0
    for file in files:
        content = _read(file)
        known = _is_known(spool / file.name, content)
        if not known:
            if copied and copied % burst == 0 and cadence_s > 0:
                sleep(cadence_s)
            write_whole(spool / file.name, content, flush=True)
            copied += 1
        if on_file is not None:
            on_file(file, not known)
    return copied


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the frame {file}: {error.strerror or error}") from error


def _is_known(target: Path, content: bytes) -> bool:
    if not target.exists():
        return False
    if target.is_file() and target.read_bytes() == content:
        return True
    raise UsageError(f"{target} already exists and is a different file: empty the spool or rename the frame")
