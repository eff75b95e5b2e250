"""Files -> landed files: read once, hashed, kept by content, before anything is decided about them."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.ports import OriginalStore
from pipeline.store.originals import hash_file

_READERS = 2


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
    """Keep a copy of each file by content, two at a time; a file over the size limit is hashed but not copied."""

    def land(path: Path) -> Landed | NotLanded:
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                return NotLanded(path, f"{path} is not a regular file")
            if status.st_size > max_bytes:
                return Landed(path, hash_file(path), status.st_size, path)
            frame_id, size, place = originals.put(path)
        except UsageError as error:
            return NotLanded(path, str(error))
        except OSError as error:
            return NotLanded(path, f"cannot read {path}: {error.strerror}")
        return Landed(path, frame_id, size, place)

    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(land, paths))


def expand_paths(arguments: Iterable[str]) -> list[Path]:
    """Files named by paths, directories (walked, in name order) and glob patterns, in the order given.

    Raises:
        UsageError: an argument names nothing.
    """
    found: list[Path] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            matches = sorted(p for p in path.rglob("*") if p.is_file() and not _is_hidden(p.relative_to(path)))
        elif path.exists():
            matches = [path]
        else:
            base = Path(path.anchor) if path.is_absolute() else Path()
            pattern = str(path.relative_to(path.anchor)) if path.is_absolute() else argument
            matches = sorted(p for p in base.glob(pattern) if p.is_file()) if pattern else []
        if not matches:
            raise UsageError(f"{argument}: no such file, directory or match; check the path")
        found += matches
    return found


def split_batches(paths: Iterable[Path], size: int) -> Iterator[list[Path]]:
    """Groups of at most `size` paths, in order."""
    iterator = iter(paths)
    while group := list(islice(iterator, size)):
        yield group


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
