"""What maintenance did to a table, or would do: one value an operation, one line of JSON each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_NAMED = 20


@dataclass(frozen=True, slots=True)
class Compaction:
    """Small data files of a table merged into larger ones.

    Attributes:
        table: its name.
        files_before: live data files.
        files_after: the same afterwards; an estimate in a dry run.
        rows: rows that were written anew, 0 where nothing was worth it.
        bytes_before: size of the live data files, bytes.
        bytes_after: the same afterwards; `bytes_before` in a dry run.
        dry_run: nothing was written.
    """

    table: str
    files_before: int
    files_after: int
    rows: int
    bytes_before: int
    bytes_after: int
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        """One line of `oddframe archive --json`."""
        return {
            "step": "compact",
            "table": self.table,
            "files_before": self.files_before,
            "files_after": self.files_after,
            "rows": self.rows,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "dry_run": self.dry_run,
        }


@dataclass(frozen=True, slots=True)
class Expiry:
    """Snapshots of a table forgotten; their files stay until the orphan sweep."""

    table: str
    expired: int
    kept: int
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        """One line of `oddframe archive --json`."""
        return {
            "step": "expire",
            "table": self.table,
            "expired": self.expired,
            "kept": self.kept,
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
        """One line of `oddframe archive --json`; names at most twenty files."""
        return {
            "step": "orphans",
            "table": self.table,
            "files": len(self.files),
            "bytes": self.bytes,
            "examples": list(self.files[:_NAMED]),
            "dry_run": self.dry_run,
        }
