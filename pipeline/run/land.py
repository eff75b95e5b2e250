"""Files -> landed files: read once, hashed, kept by content, before anything is decided about them."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.ports import OriginalStore
from pipeline.source.spool import show_path
from pipeline.store.originals import hash_file

_TEXTS = frozenset({".csv", ".htm", ".html", ".json", ".log", ".md", ".toml", ".txt", ".xml", ".yaml", ".yml"})


@dataclass(frozen=True, slots=True)
class Landed:
    """A file whose content is known.

    Attributes:
        path: where it was found.
        place: where its bytes can be read from now on.
    """

    path: Path
    frame_id: str
    size: int
    place: Path


@dataclass(frozen=True, slots=True)
class NotLanded:
    """A path that gave no bytes: nothing is recorded of it, the reason is reported."""

    path: Path
    reason: str


def land_files(paths: Sequence[Path], originals: OriginalStore, max_bytes: int) -> list[Landed | NotLanded]:
    """Keep a copy of each file by content; a file over the size limit is hashed but not copied.

    Raises:
        TransientError: a copy cannot be written.
    """
    return [_land(path, originals, max_bytes) for path in paths]


def _land(path: Path, originals: OriginalStore, max_bytes: int) -> Landed | NotLanded:
    # A name may be any bytes; what is kept and shown of it is text.
    shown = Path(show_path(path))
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return NotLanded(shown, f"{shown} is not a regular file")
        if status.st_size > max_bytes:
            return Landed(shown, hash_file(path), status.st_size, path)
        try:
            frame_id, size, place = originals.put(path)
        except MemoryError:
            # Larger than a worker may hold: decoding it will say so, in its own place.
            return Landed(shown, hash_file(path), status.st_size, path)
    except UsageError:
        return NotLanded(shown, f"cannot read {shown}")
    except OSError as error:
        return NotLanded(shown, f"cannot read {shown}: {error.strerror}")
    return Landed(shown, frame_id, size, place)


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
            raise UsageError(f"{argument}: no such file, directory or match; check the path")
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


def split_batches(paths: Iterable[Path], size: int, first: int | None = None) -> Iterator[list[Path]]:
    """Groups of at most `size` paths, in order; from `first` on each is twice the one before, up to `size`."""
    iterator = iter(paths)
    step = first or size
    while group := list(islice(iterator, step)):
        yield group
        step = min(size, 2 * step)


def _may_be_frame(path: Path) -> bool:
    return path.suffix.lower() not in _TEXTS and not any(part.startswith(".") for part in path.parts)
