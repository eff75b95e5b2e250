"""Files that claim checks point to, kept by content: the same file twice is one, and none is ever half there."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from pipeline.errors import TransientError

_PIECE = 1 << 20


def park_file(path: Path, directory: Path) -> tuple[Path, str]:
    """Where a file can be claimed, and its sha256: itself where it lies below the directory, else a copy there.

    Raises:
        OSError: the file cannot be read.
        TransientError: the directory does not take it.
    """
    real = path.resolve()
    if real.is_relative_to(directory.resolve()):
        with real.open("rb") as file:
            return real, hashlib.file_digest(file, "sha256").hexdigest()
    with path.open("rb") as source:
        frame_id = hashlib.file_digest(source, "sha256").hexdigest()
        place = directory.absolute() / frame_id[:2] / frame_id
        if not place.exists():
            source.seek(0)
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                _copy_whole(source.fileno(), place)
            except OSError as error:
                raise TransientError(f"cannot keep {path.name} for a claim check: {error.strerror}") from error
    return place, frame_id


def _copy_whole(source: int, place: Path) -> None:
    handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=place.parent)
    try:
        with open(handle, "wb") as copy, open(source, "rb", closefd=False) as original:  # noqa: PTH123 - descriptors
            shutil.copyfileobj(original, copy, _PIECE)
            copy.flush()
            os.fsync(copy.fileno())
        Path(name).chmod(0o644)
        Path(name).rename(place)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
