"""A spool directory as a log: every file content gets a number in its directory, durably, before it is used.

The journal is a small SQLite database beside the stores. A message is (directory, file name, content), so a file that
is rewritten under its old name is a new message and the same file seen twice is not.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import StoreError, TransientError
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
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_PROTOCOL,
    }
)  # fmt: skip

Look = tuple[int, int]
"""Size and time of change (ns) of a file: another look that is the same means the same content."""


class SpoolSource:
    """Numbers for files; see the module's text."""

    def __init__(self, journal: Path) -> None:
        self._held: Positions | None = None
        self._journal = journal
        self._listed: dict[Path, Look] = {}
        # What `seen` says of the files that are there: asked for once, for a look comes several times a second.
        self._seen: dict[Path, dict[str, Look | None]] = {}
        journal.parent.mkdir(parents=True, exist_ok=True)
        with self._faults():
            self._database = sqlite3.connect(journal, timeout=30, isolation_level=None)
            # WAL with FULL: a number that was handed out survives a power cut, too.
            self._database.execute("pragma journal_mode=wal")
            self._database.execute("pragma synchronous=full")
            self._database.executescript(_SCHEMA)

    def enrol(self, raw: Sequence[tuple[Path, str, int]]) -> list[RawFrame]:
        """Give (path, frame_id, size) their numbers in one transaction; known messages keep theirs."""
        now = datetime.now(UTC).replace(tzinfo=None)
        with self._transaction() as cursor:
            return [self._enrol_one(cursor, path, frame_id, size, now) for path, frame_id, size in raw]

    def pending(self, held: Positions) -> list[RawFrame]:
        """Messages numbered but not in the lake, oldest first: what a killed process left behind."""
        self._held = held
        return [raw for raw in self.messages() if not held.holds(raw.position)]

    def messages(self) -> Iterator[RawFrame]:
        """Every message ever numbered."""
        with self._faults():
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
        known = self._seen.get(directory, {})
        seen: dict[str, Look | None] = {}
        found: list[Path] = []
        for name, look in _look_around(directory):
            seen[name] = known[name] if name in known else self._read_seen(directory / name)
            if seen[name] != look:
                path = directory / name
                self._listed[path] = look
                found.append(path)
        # Of files that are gone nothing is kept: they may come back, but they do not pile up here.
        self._seen[directory] = seen
        return found

    def mark_seen(self, paths: Sequence[Path]) -> None:
        """Remember size and time of files whose batch is committed: a shortcut, not the truth.

        It is those of when the file was listed: one rewritten since then is listed again.
        """
        looks = {path: look for path in paths if (look := self._listed.pop(path, None) or _look_at(path)) is not None}
        with self._transaction() as cursor:
            rows = [(show_path(path), *look) for path, look in looks.items()]
            cursor.executemany("insert or replace into seen values (?, ?, ?)", rows)
        for path, look in looks.items():
            self._seen.get(path.parent, {})[path.name] = look

    def close(self) -> None:
        """Close the journal."""
        self._database.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        with self._faults(), closing(self._database.cursor()) as cursor:
            cursor.execute("begin immediate")
            try:
                yield cursor
                cursor.execute("commit")
            except BaseException:
                # A full disk has rolled it back already.
                if self._database.in_transaction:
                    cursor.execute("rollback")
                raise

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """What SQLite raises, as our errors: what another process or the disk is to blame for may pass."""
        try:
            yield
        except sqlite3.Error as error:
            # The low byte is the kind, the others say more of it.
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _PASSING:
                raise TransientError(f"the spool journal {self._journal} cannot be used now: {error}") from error
            # The lake holds what was delivered: a new journal goes on after the numbers it finds there.
            raise StoreError(
                f"the spool journal cannot be used: {error}; move {self._journal} and its -wal and -shm away, "
                "and bring in once more what was under way"
            ) from error

    def _read_seen(self, path: Path) -> Look | None:
        with self._faults():
            row = self._database.execute(
                "select size, modified_ns from seen where path = ?", (show_path(path),)
            ).fetchone()
        return None if row is None else (int(row[0]), int(row[1]))

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


def _look_at(path: Path) -> Look | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns)


def _look_around(directory: Path) -> Iterator[tuple[str, Look]]:
    """Every finished file of a directory, in name order."""
    try:
        with os.scandir(directory) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise TransientError(f"cannot list the spool {directory}: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        try:
            status = entry.stat()
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            yield entry.name, (status.st_size, status.st_mtime_ns)
