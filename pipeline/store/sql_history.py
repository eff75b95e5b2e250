"""Tables as they were: which snapshot of each table answers a question about a snapshot or a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from pyiceberg.table import Table

from pipeline.errors import UsageError
from pipeline.store.schema import TABLES
from pipeline.store.sql_parameters import coerce

AsOf = int | datetime
"""A snapshot id, or a moment in UTC."""

_TABLES = tuple(definition.name for definition in TABLES)


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
        raise UsageError(f"no table has a snapshot {as_of} (any more): give another, or a time")


def read_as_of(text: str) -> AsOf:
    """What a user wrote: digits are a snapshot id, anything else a moment.

    Raises:
        UsageError: it is neither.
    """
    if text.strip().isdecimal():
        return int(text)
    moment = coerce("timestamp", text)
    assert isinstance(moment, datetime)  # noqa: S101 - what this coercion gives for text
    return moment


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
