"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import TransientError, UsageError


def make_directory(path: Path) -> None:
    """Make a directory with its parents; a place where none can be is a `UsageError`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the directory {path}: {error.strerror or error}") from error


def write_whole(path: Path, content: bytes, *, flush: bool = False) -> None:
    """Write a file under a hidden name, then give it its own, so that nobody ever reads half of it.

    Args:
        path: where; its directory exists.
        content: the bytes.
        flush: whether the file and its name are to be on disk, not only in memory, on return.

    Raises:
        TransientError: the disk did not take it; nothing is left behind.
    """
    hidden = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with hidden.open("wb") as stream:
            stream.write(content)
            if flush:
                stream.flush()
                os.fsync(stream.fileno())
        hidden.replace(path)
        if flush:
            _flush_directory(path.parent)
    except OSError as error:
        raise TransientError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        hidden.unlink(missing_ok=True)


def _flush_directory(directory: Path) -> None:
    # Only with its directory on disk is a renamed file sure to be found after a power cut.
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
