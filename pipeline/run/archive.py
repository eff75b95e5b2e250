"""Scheduled housekeeping of originals: old ones to the archive, each proved before its first copy goes."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import StoreError
from pipeline.ports import OriginalTier, TableStore

_NAMED = 20

Progress = Callable[[str, int, int], None]


class TieredOriginalStore(Protocol):
    """A hot tier for new originals and an archive for old ones."""

    @property
    def hot(self) -> OriginalTier:
        """Where new ones go."""

    @property
    def archive(self) -> OriginalTier:
        """Where old ones go."""


@dataclass(frozen=True, slots=True)
class ArchivedOriginals:
    """Originals moved from the hot tier to the archive.

    Attributes:
        moved: how many, or how many would be.
        bytes: their size together.
        kept: how many stay in the hot tier.
        problems: one sentence for each that was left where it is because something is wrong with it.
        dry_run: nothing was moved.
    """

    moved: int
    bytes: int
    kept: int
    problems: tuple[str, ...]
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        """One line of `oddframe archive --json`; names at most twenty problems."""
        return {
            "step": "originals",
            "moved": self.moved,
            "bytes": self.bytes,
            "kept": self.kept,
            "problems": len(self.problems),
            "examples": list(self.problems[:_NAMED]),
            "dry_run": self.dry_run,
        }


@dataclass(frozen=True, slots=True)
class ChecksumCheck:
    """Archived originals read again; `problems` has a sentence for each that no longer hashes to its name."""

    checked: int
    total: int
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """One line of `oddframe archive --json`; names at most twenty problems."""
        return {
            "step": "checksums",
            "checked": self.checked,
            "total": self.total,
            "problems": len(self.problems),
            "examples": list(self.problems[:_NAMED]),
        }


def archive_originals(
    tables: TableStore,
    originals: TieredOriginalStore,
    older_than: datetime,
    *,
    dry_run: bool = False,
    on_progress: Progress | None = None,
) -> ArchivedOriginals:
    """Move the bytes of frames and quarantined contents that came in before a moment from the hot tier to the archive.

    Copy, force to disk, hash the copy, and only then delete: stopped anywhere, a copy is in one tier or in both, and
    the next run goes on. A hot copy that does not hash to its name is reported and left, as is one whose archived
    copy is wrong.

    Args:
        tables: `frames` and `quarantine` say what came when.
        originals: both tiers.
        older_than: naive UTC.
        dry_run: only count.
        on_progress: told ("originals", done, total).

    Raises:
        TransientError: the archive cannot be written.
    """
    tell = on_progress or _say_nothing
    if not dry_run:
        originals.archive.sweep()
    hot = set(originals.hot.ids())
    chosen = sorted(hot & _find_older(tables, older_than))
    moved, size, problems = 0, 0, list[str]()
    for done, frame_id in enumerate(chosen):
        tell("originals", done, len(chosen))
        place = originals.hot.locate(frame_id)
        if place is None:
            continue
        try:
            length = place.stat().st_size
            if not dry_run:
                _move(originals, frame_id, place)
        except (StoreError, OSError) as error:
            problems.append(str(error))
        else:
            moved, size = moved + 1, size + length
    tell("originals", len(chosen), len(chosen))
    return ArchivedOriginals(moved, size, len(hot) - moved, tuple(problems), dry_run)


def verify_checksums(
    archive: OriginalTier, *, sample: int | None = None, now: datetime, on_progress: Progress | None = None
) -> ChecksumCheck:
    """Read archived originals again and compare them with their names.

    Args:
        archive: the tier.
        sample: so many, others every day; None for all.
        now: naive UTC; its date chooses the sample.
        on_progress: told ("checksums", done, total).
    """
    tell = on_progress or _say_nothing
    everything = list(archive.ids())
    chosen = everything if sample is None else heapq.nsmallest(sample, everything, key=lambda i: _shuffle(i, now))
    problems: list[str] = []
    for done, frame_id in enumerate(chosen):
        tell("checksums", done, len(chosen))
        try:
            if not archive.is_intact(frame_id):
                problems.append(f"archived copy {frame_id} does not hash to its name")
        except OSError as error:
            problems.append(f"archived copy {frame_id} cannot be read: {error}")
    tell("checksums", len(chosen), len(chosen))
    return ChecksumCheck(len(chosen), len(everything), tuple(problems))


def _find_older(tables: TableStore, older_than: datetime) -> set[str]:
    """Contents whose every row is older: one that was quarantined long ago and read yesterday is new."""
    old: set[str] = set()
    recent: set[str] = set()
    for table, column in (("frames", "ingested_at"), ("quarantine", "at")):
        rows = tables.scan(table, ["frame_id", column])
        for frame_id, moment in zip(rows.column("frame_id").to_pylist(), rows.column(column).to_pylist(), strict=True):
            (old if moment is not None and moment < older_than else recent).add(frame_id)
    return old - recent


def _move(originals: TieredOriginalStore, frame_id: str, place: Path) -> None:
    if not originals.hot.is_intact(frame_id):
        raise StoreError(f"{place} does not hash to its name; it was neither archived nor deleted")
    originals.archive.adopt(frame_id, place)
    originals.hot.remove(frame_id)


def _shuffle(frame_id: str, now: datetime) -> bytes:
    return hashlib.sha256(f"{now:%Y-%m-%d} {frame_id}".encode()).digest()


def _say_nothing(_step: str, _done: int, _total: int) -> None:
    return
