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
from pipeline.ports import OriginalTier

_CHUNK = 4 * 2**20
CONTENT_NAME = re.compile(r"[0-9a-f]{64}")


class LocalOriginals:
    """Content-addressed files under `root/ab/<sha256>`; a file once there is never written again."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: set[Path] = set()

    def put(self, source: Path, elsewhere: OriginalTier | None = None) -> tuple[str, int, Path]:
        """Copy a file in, if its content is neither here nor near at hand elsewhere.

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
        kept = elsewhere.find_nearby(frame_id) if elsewhere else None
        if kept is not None and not self._place(frame_id).exists():
            return frame_id, len(payload), kept
        return frame_id, len(payload), self.keep(frame_id, payload)

    def keep(self, frame_id: str, content: bytes) -> Path:
        """Take bytes whose hash is known, if they are not here yet.

        Raises:
            TransientError: the copy cannot be written (disk full, no permission).
        """
        place = self._place(frame_id)
        # A copy of another size was cut off by a power failure: this one replaces it.
        if not place.exists() or place.stat().st_size != len(content):
            self._write(place, content)
        return place

    def replace(self, frame_id: str, content: bytes) -> Path:
        """Take bytes whose hash is known in the place of whatever is here under their name; raises as `keep`."""
        place = self._place(frame_id)
        self._write(place, content)
        return place

    def adopt(self, frame_id: str, source: Path) -> None:
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

    def is_intact(self, frame_id: str) -> bool:
        """Whether a copy is here and hashes to its name."""
        place = self._place(frame_id)
        return place.exists() and hash_file(place) == frame_id

    def locate(self, frame_id: str) -> Path | None:
        """Path of the copy, None if this content is not kept here."""
        place = self._place(frame_id)
        return place if place.exists() else None

    def find_nearby(self, frame_id: str) -> Path | None:
        """As `locate`: what is kept here is at hand."""
        return self.locate(frame_id)

    def remove(self, frame_id: str) -> None:
        """Delete one copy; the caller has proved that another exists."""
        self._place(frame_id).unlink(missing_ok=True)

    def ids(self) -> Iterator[str]:
        """Every content hash kept here."""
        for path in sorted(self._root.glob("??/*")):
            if CONTENT_NAME.fullmatch(path.name):
                yield path.name

    def sweep(self) -> int:
        """Remove half-written copies a killed process left; returns how many."""
        leftovers = list(self._root.glob("??/.*.part"))
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)

    def _place(self, frame_id: str) -> Path:
        return self._root / name_of(frame_id)

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
    """New copies go to the hot store; reading looks there first, then in the archive.

    Taking frames in asks no archive that is far away: what only such a one has is kept here again, and the next run of
    the archive finds it proved there.
    """

    def __init__(self, hot: LocalOriginals, archive: OriginalTier) -> None:
        self.hot = hot
        self.archive = archive

    def put(self, source: Path) -> tuple[str, int, Path]:
        """Keep a copy in the hot store, unless the archive has this content near at hand."""
        return self.hot.put(source, self.archive)

    def keep(self, frame_id: str, content: bytes) -> Path:
        """Keep bytes in the hot store, unless the archive has this content near at hand."""
        archived = self.archive.find_nearby(frame_id) if self.hot.locate(frame_id) is None else None
        return archived or self.hot.keep(frame_id, content)

    def locate(self, frame_id: str) -> Path | None:
        """Wherever the bytes are."""
        return self.hot.locate(frame_id) or self.archive.locate(frame_id)

    def ids(self) -> Iterator[str]:
        """Every content hash kept in either store."""
        yield from sorted({*self.hot.ids(), *self.archive.ids()})


def name_of(frame_id: str) -> str:
    """Where a content lies under the root of any tier: `ab/<sha256>`.

    Raises:
        UsageError: this is no frame id.
    """
    if not CONTENT_NAME.fullmatch(frame_id):
        raise UsageError(f"{frame_id!r} is not a frame id (64 hex digits)")
    return f"{frame_id[:2]}/{frame_id}"


def hash_file(path: Path) -> str:
    """sha256 (hex) of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
