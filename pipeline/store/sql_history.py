"""Tables as they were: which snapshot of each table answers a question about a snapshot or a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from pipeline.errors import UsageError
from pipeline.store.schema import TABLES
from pipeline.store.sql_parameters import coerce

AsOf = int | datetime
"""A snapshot id, or a moment in UTC."""

_TABLES = tuple(definition.name for definition in TABLES)
# Snapshot ids are 64-bit integers.
_MOST_DIGITS = 19


@dataclass(frozen=True, slots=True)
class TableSnapshot:
    """One commit to a table.

    Attributes:
        table: its name.
        snapshot_id: what to ask for to see the table as this commit left it.
        at: when, in naive UTC to the millisecond.
        operation: append, delete, overwrite or replace.
        rows: rows in the table after it; None where the writer did not say.
    """

    table: str
    snapshot_id: int
    at: datetime
    operation: str
    rows: int | None


class TableHistory:
    """The snapshots of a catalogue's tables."""

    def __init__(self, load: Callable[[str], Table], tables: Sequence[str] = _TABLES) -> None:
        """Nothing is read before the first question.

        Args:
            load: the table of that name with its newest metadata.
            tables: the tables there are.
        """
        self._load = load
        self._tables = tables

    def list_snapshots(self) -> list[TableSnapshot]:
        """Every snapshot that can still be asked for, the newest first."""
        found = [_describe(table, snapshot) for table in self._tables for snapshot in self._load(table).snapshots()]
        return sorted(found, key=lambda one: (one.at, one.table), reverse=True)

    def find_snapshots(self, as_of: AsOf, tables: Iterable[str]) -> dict[str, int | None]:
        """The snapshot of each of these tables that was current then; None for a table that was empty.

        A snapshot belongs to one table: the others are taken as they were at the moment it was made.

        Raises:
            UsageError: no table has the snapshot, or the snapshots of that time are gone.
        """
        if isinstance(as_of, datetime):
            moment = as_of.replace(tzinfo=UTC) if as_of.tzinfo is None else as_of
            since_1970 = int(moment.timestamp() * 1000)
            return {table: _find_snapshot(self._load(table), table, since_1970) for table in tables}
        wanted = list(tables)
        for owner in (*wanted, *(table for table in self._tables if table not in wanted)):
            snapshot = self._load(owner).snapshot_by_id(as_of)
            if snapshot is not None:
                others = [table for table in wanted if table != owner]
                found = {table: _find_snapshot(self._load(table), table, snapshot.timestamp_ms) for table in others}
                return {table: found.get(table, as_of) for table in wanted}
        raise UsageError(
            f"no table has a snapshot {as_of} (any more); `oddframe sql --snapshots` lists those there are"
        )


def read_as_of(text: str) -> AsOf:
    """What a user wrote: digits are a snapshot id, anything else a moment.

    Raises:
        UsageError: it is neither.
    """
    if text.strip().isdecimal() and len(text.strip()) <= _MOST_DIGITS:
        return int(text)
    try:
        moment = coerce("timestamp", text)
    except UsageError:
        raise UsageError(
            f"{text[:40]!r} is neither a snapshot nor a time: write a snapshot's number, or UTC as 2024-01-31T20:15:00"
        ) from None
    assert isinstance(moment, datetime)  # noqa: S101 - what this coercion gives for text
    return moment


def _describe(table: str, snapshot: Snapshot) -> TableSnapshot:
    summary = snapshot.summary
    rows = summary.additional_properties.get("total-records") if summary else None
    return TableSnapshot(
        table,
        snapshot.snapshot_id,
        datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC).replace(tzinfo=None),
        summary.operation.value if summary else "",
        int(rows) if rows is not None else None,
    )


def _find_snapshot(table: Table, name: str, moment: int) -> int | None:
    """Id of what was current at a moment, given in milliseconds since 1970."""
    snapshot = table.snapshot_as_of_timestamp(moment)
    if snapshot is not None:
        return snapshot.snapshot_id
    log = table.history()
    first = table.snapshot_by_id(log[0].snapshot_id) if log else None
    # Numbered from 1 within a table; expiry takes the lowest away.
    if first is not None and (first.sequence_number or 0) > 1:
        since = datetime.fromtimestamp(log[0].timestamp_ms / 1000, UTC).replace(tzinfo=None)
        raise UsageError(
            f"the snapshots of {name} before {since.isoformat(' ', 'milliseconds')} are gone: ask later on"
        )
    return None
