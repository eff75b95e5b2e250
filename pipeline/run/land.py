"""Files -> landed files: read once, hashed, kept by content, before anything is decided about them."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TypeVar

from pipeline.errors import UsageError
from pipeline.ports import OriginalStore, RawFrame
from pipeline.run.prepared import Unreadable
from pipeline.source.spool import show_path

HASH_SECONDS = 60.0
"""Longest time for the name of a file that is over the size limit: as long as a frame may take by default."""

T = TypeVar("T")
_CHUNK = 4 * 2**20
_TEXTS = frozenset({".csv", ".htm", ".html", ".json", ".log", ".md", ".toml", ".txt", ".xml", ".yaml", ".yml"})


@dataclass(frozen=True, slots=True)
class Landed:
    """A file whose content is known.

    Attributes:
        path: where it was found.
        place: where its bytes can be read from now on.
        message: of a log that gave it its number already; None: it is to be numbered.
        fault: why its message holds no frame; its content is the message then.
        again: it is tried once more although it is known.
        formerly: the content that its message went into quarantine as.
    """

    path: Path
    frame_id: str
    size: int
    place: Path
    message: RawFrame | None = None
    fault: Unreadable | None = None
    again: bool = False
    formerly: str | None = None


@dataclass(frozen=True, slots=True)
class NotLanded:
    """A path that gave no bytes: nothing is recorded of it, the reason is reported."""

    path: Path
    reason: str


def land_files(
    paths: Sequence[Path], originals: OriginalStore, max_bytes: int, seconds: float = HASH_SECONDS
) -> list[Landed | NotLanded]:
    """Keep a copy of each file by content; a file over the size limit is hashed, within `seconds`, but not copied.

    Raises:
        TransientError: a copy cannot be written.
    """
    return [_land(path, originals, max_bytes, seconds) for path in paths]


def _land(path: Path, originals: OriginalStore, max_bytes: int, seconds: float) -> Landed | NotLanded:
    # A name may be any bytes; what is kept and shown of it is text.
    shown = Path(show_path(path))
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return NotLanded(shown, f"{shown} is not a regular file")
        if status.st_size > max_bytes:
            return _land_large(path, shown, status.st_size, seconds)
        try:
            frame_id, size, place = originals.put(path)
        except MemoryError:
            # Larger than a worker may hold: decoding it will say so, in its own place.
            return _land_large(path, shown, status.st_size, seconds)
    except UsageError:
        return NotLanded(shown, f"cannot read {shown}")
    except OSError as error:
        return NotLanded(shown, f"cannot read {shown}: {error.strerror}")
    return Landed(shown, frame_id, size, place)


def _land_large(path: Path, shown: Path, size: int, seconds: float) -> Landed | NotLanded:
    """Name a file by its content without keeping it; a size of any height must not hold up those behind it."""
    digest, deadline = sha256(), time.monotonic() + seconds
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if time.monotonic() > deadline:
                return NotLanded(shown, f"{shown} is too large: {size:,} bytes, not even hashed within {seconds:g} s")
    return Landed(shown, digest.hexdigest(), size, path)


def expand_paths(arguments: Iterable[str]) -> list[Path]:
    """Files named by paths, directories (walked, in name order) and glob patterns, in the order given.

    In a walked directory hidden files and the texts that lie beside frames (lists, logs, notes) are left alone.

    Raises:
        UsageError: an argument names nothing.
    """
    found: list[Path] = []
    for argument in arguments:
        if not argument.strip():
            raise UsageError("an empty path names nothing; is a variable not set?")
        try:
            matches = _expand_path(argument)
        except (OSError, ValueError) as error:
            # Too long a name, a loop of links, `**` inside a word.
            raise UsageError(f"{argument[:100]}: {getattr(error, 'strerror', None) or error}") from error
        if not matches:
            raise UsageError(f"{argument}{_explain_nothing(Path(argument))}")
        found += matches
    return found


def _expand_path(argument: str) -> list[Path]:
    path = Path(argument)
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file() and _may_be_frame(p.relative_to(path)))
    if path.exists():
        return [path]
    base = Path(path.anchor) if path.is_absolute() else Path()
    pattern = str(path.relative_to(path.anchor)) if path.is_absolute() else argument
    return sorted(p for p in base.glob(pattern) if p.is_file()) if pattern else []


def _explain_nothing(path: Path) -> str:
    if path.is_dir():
        return " holds no frames (hidden files and texts are left alone)"
    return ": no such file, directory or match; check the path"


def split_batches(things: Iterable[T], size: int, first: int | None = None) -> Iterator[list[T]]:
    """Groups of at most `size`, in order; from `first` on each is twice the one before, up to `size`."""
    iterator = iter(things)
    step = first or size
    while group := list(islice(iterator, step)):
        yield group
        step = min(size, 2 * step)


def _may_be_frame(path: Path) -> bool:
    return path.suffix.lower() not in _TEXTS and not any(part.startswith(".") for part in path.parts)
