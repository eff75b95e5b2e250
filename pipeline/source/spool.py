"""A spool directory as a log: every file content gets a number in its directory, durably, before it is used.

The journal is a small SQLite database beside the stores. A message is (directory, file name, content), so a file that
is rewritten under its old name is a new message and the same file seen twice is not.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import TransientError
from pipeline.ports import Positions, RawFrame, SourcePosition

_SCHEMA = """
create table if not exists messages (
  directory text not null,
  number integer not null,
  name text not null,
  frame_id text not null,
  size integer not null,
  received_at text not null,
  primary key (directory, number),
  unique (directory, name, frame_id)
);
create table if not exists seen (
  path text primary key,
  size integer not null,
  modified_ns integer not null
);
"""
_PREFIX = "spool:"


class SpoolSource:
    """Numbers for files; see the module's text."""

    def __init__(self, journal: Path) -> None:
        self._held: Positions | None = None
        self._listed: dict[Path, tuple[int, int]] = {}
        journal.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = sqlite3.connect(journal, timeout=30, isolation_level=None)
            # WAL with FULL: a number that was handed out survives a power cut, too.
            self._database.execute("pragma journal_mode=wal")
            self._database.execute("pragma synchronous=full")
            self._database.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise TransientError(f"cannot open the spool journal {journal}: {error}") from error

    def enrol(self, raw: Sequence[tuple[Path, str, int]]) -> list[RawFrame]:
        """Give (path, frame_id, size) their numbers in one transaction; known messages keep theirs."""
        now = datetime.now(UTC).replace(tzinfo=None)
        with closing(self._database.cursor()) as cursor:
            cursor.execute("begin immediate")
            try:
                enrolled = [self._enrol_one(cursor, path, frame_id, size, now) for path, frame_id, size in raw]
            except BaseException:
                cursor.execute("rollback")
                raise
            cursor.execute("commit")
        return enrolled

    def pending(self, held: Positions) -> list[RawFrame]:
        """Messages numbered but not in the lake, oldest first: what a killed process left behind."""
        self._held = held
        return [raw for raw in self.messages() if not held.holds(raw.position)]

    def messages(self) -> Iterator[RawFrame]:
        """Every message ever numbered."""
        rows = self._database.execute(
            "select directory, number, name, frame_id, size, received_at from messages order by directory, number"
        )
        for directory, number, name, frame_id, size, received in rows:
            yield RawFrame(
                name=name,
                path=Path(directory) / name,
                position=SourcePosition(_PREFIX + directory, number),
                frame_id=frame_id,
                size=size,
                received_at=datetime.fromisoformat(received),
            )

    def acknowledge(self, positions: Sequence[SourcePosition]) -> None:
        """A spool keeps no reader's place: the lake does."""

    def list_new(self, directory: Path) -> list[Path]:
        """Files of a spool that changed since they were last marked as seen, in name order.

        Names that begin with a dot are being written and are left alone.
        """
        seen = {
            path: (int(size), int(modified))
            for path, size, modified in self._database.execute("select path, size, modified_ns from seen")
        }
        found: list[Path] = []
        try:
            paths = sorted(directory.iterdir())
        except OSError as error:
            raise TransientError(f"cannot list the spool {directory}: {error.strerror}") from error
        for path in paths:
            status = None if path.name.startswith(".") else _look_at(path)
            if status is None or not stat.S_ISREG(status.st_mode):
                continue
            self._listed[path] = (status.st_size, status.st_mtime_ns)
            if seen.get(show_path(path)) != self._listed[path]:
                found.append(path)
        return found

    def mark_seen(self, paths: Sequence[Path]) -> None:
        """Remember size and time of files whose batch is committed: a shortcut, not the truth.

        It is those of when the file was listed: one rewritten since then is listed again.
        """
        rows = []
        for path in paths:
            status = self._listed.pop(path, None)
            if status is None and (now := _look_at(path)) is not None:
                status = (now.st_size, now.st_mtime_ns)
            if status is not None:
                rows.append((show_path(path), *status))
        with closing(self._database.cursor()) as cursor:
            cursor.execute("begin")
            cursor.executemany("insert or replace into seen values (?, ?, ?)", rows)
            cursor.execute("commit")

    def close(self) -> None:
        """Close the journal."""
        self._database.close()

    def _enrol_one(self, cursor: sqlite3.Cursor, path: Path, frame_id: str, size: int, now: datetime) -> RawFrame:
        directory, name = show_path(path.absolute().parent), show_path(Path(path.name))
        known = cursor.execute(
            "select number, received_at from messages where directory = ? and name = ? and frame_id = ?",
            (directory, name, frame_id),
        ).fetchone()
        if known:
            number, received = int(known[0]), datetime.fromisoformat(known[1])
        else:
            received = now
            number = int(
                cursor.execute(
                    "select coalesce(max(number) + 1, 0) from messages where directory = ?", (directory,)
                ).fetchone()[0]
            )
            # Only where the journal was lost does the lake hold numbers that it does not know.
            while self._held is not None and self._held.holds(SourcePosition(_PREFIX + directory, number)):
                number += 1
            cursor.execute(
                "insert into messages values (?, ?, ?, ?, ?, ?)",
                (directory, number, name, frame_id, size, now.isoformat()),
            )
        return RawFrame(name, path, SourcePosition(_PREFIX + directory, number), frame_id, size, received)


def show_path(path: Path) -> str:
    """A path as text; bytes that are no UTF-8 are shown as escapes, for no table or journal could hold them."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _look_at(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
