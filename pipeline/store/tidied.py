"""What maintenance did to a table, or would do: one value an operation, one line of JSON each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

_NAMED = 20


@dataclass(frozen=True, slots=True)
class Compaction:
    """Small data files of a table merged into larger ones.

    Attributes:
        table: its name.
        files_before: live data files.
        files_after: what merging made of these; an estimate in a dry run. Files that others added meanwhile are in
            neither number.
        rows: rows that were written anew, 0 where nothing was worth it.
        bytes_before: size of the live data files, bytes.
        bytes_after: the same afterwards; `bytes_before` in a dry run.
        left: small files that stayed because other writers replaced them or kept committing first; the next run tries
            again.
        dry_run: nothing was written.
    """

    table: str
    files_before: int
    files_after: int
    rows: int
    bytes_before: int
    bytes_after: int
    left: int
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        """One line of `oddframe maintain --json`."""
        return {
            "step": "compact",
            "table": self.table,
            "files_before": self.files_before,
            "files_after": self.files_after,
            "rows": self.rows,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "left": self.left,
            "dry_run": self.dry_run,
        }


@dataclass(frozen=True, slots=True)
class Surplus:
    """Which snapshots are too many, whatever their age.

    Attributes:
        most: so many of the newest are not.
        settled: nor is one that was replaced after this moment (naive UTC): somebody may be reading in it.
    """

    most: int
    settled: datetime


@dataclass(frozen=True, slots=True)
class Expiry:
    """Snapshots of a table forgotten; their files stay until the orphan sweep.

    Attributes:
        table: its name.
        expired: how many were forgotten, or would be.
        kept: how many stay.
        pinned: names of the tags that keep one.
        dry_run: nothing was forgotten.
    """

    table: str
    expired: int
    kept: int
    pinned: tuple[str, ...]
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        """One line of `oddframe maintain --json`."""
        return {
            "step": "expire",
            "table": self.table,
            "expired": self.expired,
            "kept": self.kept,
            "pinned": list(self.pinned),
            "dry_run": self.dry_run,
        }


@dataclass(frozen=True, slots=True)
class Sweep:
    """Files below a table's location that no snapshot it still has can name.

    Attributes:
        table: its name.
        files: their paths, all of them.
        bytes: their size together, bytes.
        dry_run: they were only listed.
    """

    table: str
    files: tuple[str, ...]
    bytes: int
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        """One line of `oddframe maintain --json`; names at most twenty files."""
        return {
            "step": "orphans",
            "table": self.table,
            "files": len(self.files),
            "bytes": self.bytes,
            "examples": list(self.files[:_NAMED]),
            "dry_run": self.dry_run,
        }


@dataclass(frozen=True, slots=True)
class Pin:
    """A snapshot kept under a name, whatever its age."""

    table: str
    snapshot_id: int
    name: str

    def to_json(self) -> dict[str, Any]:
        """One line of `oddframe maintain --pin --json`."""
        return {"table": self.table, "snapshot": self.snapshot_id, "pin": self.name}
