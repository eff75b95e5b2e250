"""Frames as delivered, byte for byte, named by their sha256: a hot store for new ones and an archive for old ones."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from pipeline.errors import StoreError, TransientError, UsageError

_CHUNK = 4 * 2**20
_CONTENT_NAME = re.compile(r"[0-9a-f]{64}")


class LocalOriginals:
    """Content-addressed files under `root/ab/<sha256>`; a file once there is never written again."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: set[Path] = set()

    def put(self, source: Path, elsewhere: LocalOriginals | None = None) -> tuple[str, int, Path]:
        """Copy a file in, if its content is neither here nor elsewhere yet.

        Returns:
            sha256 (hex), size in bytes, path of the copy.

        Raises:
            UsageError: the file cannot be read.
            TransientError: the copy cannot be written (disk full, no permission).
        """
        try:
            payload = source.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {source}: {error.strerror}") from error
        frame_id = hashlib.sha256(payload).hexdigest()
        place = self._place(frame_id)
        kept = elsewhere.locate(frame_id) if elsewhere else None
        if kept is not None and not place.exists():
            return frame_id, len(payload), kept
        # A copy of another size was cut off by a power failure: this one replaces it.
        if not place.exists() or place.stat().st_size != len(payload):
            self._write(place, payload)
        return frame_id, len(payload), place

    def adopt(self, frame_id: str, source: Path) -> Path:
        """Copy a file whose hash is known, durably, and prove the copy before returning.

        Raises:
            StoreError: the copy does not hash to `frame_id`.
        """
        place = self._place(frame_id)
        if not place.exists():
            self._write(place, source.read_bytes(), durable=True)
        # Also a copy that was there already: whoever made it may have been killed before it was on disk.
        self._settle(place)
        if hash_file(place) != frame_id:
            raise StoreError(f"{place} does not hash to its name; the copy in {source} was left alone")
        return place

    def is_intact(self, frame_id: str) -> bool:
        """Whether a copy is here and hashes to its name."""
        place = self._place(frame_id)
        return place.exists() and hash_file(place) == frame_id

    def locate(self, frame_id: str) -> Path | None:
        """Path of the copy, None if this content is not kept here."""
        place = self._place(frame_id)
        return place if place.exists() else None

    def remove(self, frame_id: str) -> None:
        """Delete one copy; the caller has proved that another exists."""
        self._place(frame_id).unlink(missing_ok=True)

    def ids(self) -> Iterator[str]:
        """Every content hash kept here."""
        for path in sorted(self._root.glob("??/*")):
            if _CONTENT_NAME.fullmatch(path.name):
                yield path.name

    def sweep(self) -> int:
        """Remove half-written copies a killed process left; returns how many."""
        leftovers = list(self._root.glob("??/.*.part"))
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)

    def _place(self, frame_id: str) -> Path:
        if not _CONTENT_NAME.fullmatch(frame_id):
            raise UsageError(f"{frame_id!r} is not a frame id (64 hex digits)")
        return self._root / frame_id[:2] / frame_id

    def _settle(self, place: Path) -> None:
        """Force a file, its name, and the directories above it to disk."""
        for path in (place, place.parent, self._root):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def _write(self, place: Path, payload: bytes, *, durable: bool = False) -> None:
        part = place.with_name(f".{place.name}.{uuid4().hex}.part")
        try:
            if place.parent not in self._made:
                place.parent.mkdir(parents=True, exist_ok=True)
                self._made.add(place.parent)
            with part.open("wb") as file:
                file.write(payload)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            part.rename(place)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            free = shutil.disk_usage(self._root).free // 2**20 if self._root.exists() else 0
            raise TransientError(f"cannot keep a copy in {self._root}: {error.strerror} ({free} MiB free)") from error


class TieredOriginals:
    """New copies go to the hot store; reading looks there first, then in the archive."""

    def __init__(self, hot: LocalOriginals, archive: LocalOriginals) -> None:
        self.hot = hot
        self.archive = archive

    def put(self, source: Path) -> tuple[str, int, Path]:
        """Keep a copy in the hot store, unless the archive has this content already."""
        return self.hot.put(source, self.archive)

    def locate(self, frame_id: str) -> Path | None:
        """Wherever the bytes are."""
        return self.hot.locate(frame_id) or self.archive.locate(frame_id)

    def ids(self) -> Iterator[str]:
        """Every content hash kept in either store."""
        yield from sorted({*self.hot.ids(), *self.archive.ids()})


def hash_file(path: Path) -> str:
    """sha256 (hex) of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
