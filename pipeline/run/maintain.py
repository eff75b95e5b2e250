"""Scheduled housekeeping of tables and vectors: merge, forget, sweep, compact. In that order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from pipeline.ports import VectorCompaction, VectorStore
from pipeline.run.archive import Progress
from pipeline.store.tidied import Compaction, Expiry, Surplus, Sweep

STEPS = ("compact", "expire", "orphans", "vectors")

# A query reads to its end in the snapshot it began with.
_LONGEST_QUERY = timedelta(hours=1)


class TableMaintenance(Protocol):
    """Housekeeping of the tables, one table a call; see `IcebergMaintenance`."""

    def names(self) -> tuple[str, ...]:
        """Every table."""

    def compact(self, table: str, *, small_bytes: int, most_small: int, dry_run: bool = False) -> Compaction:
        """Merge small files."""

    def expire(
        self, table: str, older_than: datetime, *, surplus: Surplus | None = None, dry_run: bool = False
    ) -> Expiry:
        """Forget snapshots that were replaced before a moment, and those that are too many."""

    def remove_orphans(self, table: str, older_than: datetime, *, dry_run: bool = False) -> Sweep:
        """Remove files that no snapshot names and that are older than a moment."""


@dataclass(frozen=True, slots=True)
class MaintainPlan:
    """What is small and what is old.

    Attributes:
        small_bytes: a data file below this size is small.
        most_small: a partition may have so many small files.
        snapshots_days: snapshots that were replaced longer ago are forgotten.
        most_snapshots: so many of a table stay, and those replaced within the hour.
        orphan_hours: files younger than this are never removed.
        vector_seconds: longest wait for the vector store.
    """

    small_bytes: int
    most_small: int
    snapshots_days: float
    most_snapshots: int
    orphan_hours: float
    vector_seconds: float


@dataclass(frozen=True, slots=True)
class VectorTidying:
    """What was done about one collection of vectors; in a dry run nothing, and it is named by its spec."""

    done: VectorCompaction
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        """One line of `oddframe maintain --json`."""
        return {
            "step": "vectors",
            "collection": self.done.collection,
            "state": self.done.state,
            "segments_before": self.done.segments_before,
            "segments_after": self.done.segments_after,
            "dry_run": self.dry_run,
        }


MaintainStep = Compaction | Expiry | Sweep | VectorTidying


def run_maintain(
    tables: TableMaintenance,
    open_vectors: Callable[[], VectorStore],
    plan: MaintainPlan,
    *,
    now: datetime,
    dry_run: bool = False,
    on_progress: Progress | None = None,
) -> Iterator[MaintainStep]:
    """Merge small files, forget old snapshots, remove orphans: all tables through one step each; then the vectors.

    May be stopped at any moment and run again. A dry run looks at the tables as they are: what expiry would set free
    is not among the orphans it lists.

    Args:
        tables: their housekeeping.
        open_vectors: called when the tables are done: vectors that cannot be reached do not stop the rest.
        plan: what is small and what is old.
        now: naive UTC.
        dry_run: change nothing.
        on_progress: told (step, done, total).

    Yields:
        What was done, as soon as it is done.

    Raises:
        StoreError: a table does not hold what its metadata says; the steps before it are done.
        TransientError: a store or disk did not answer; the steps before it are done.
    """
    tell = on_progress or _say_nothing
    before_orphans = now - timedelta(hours=plan.orphan_hours)
    # A reader may be at work in a snapshot that was replaced a moment ago: its files stay as long as those of a writer.
    before_snapshots = min(now - timedelta(days=plan.snapshots_days), before_orphans)
    surplus = Surplus(plan.most_snapshots, now - _LONGEST_QUERY)
    small, most = plan.small_bytes, plan.most_small
    chores: tuple[tuple[str, Callable[[str], MaintainStep]], ...] = (
        ("compact", lambda name: tables.compact(name, small_bytes=small, most_small=most, dry_run=dry_run)),
        ("expire", lambda name: tables.expire(name, before_snapshots, surplus=surplus, dry_run=dry_run)),
        ("orphans", lambda name: tables.remove_orphans(name, before_orphans, dry_run=dry_run)),
    )
    names = tables.names()
    for chore, work in chores:
        for done, name in enumerate(names):
            tell(chore, done, len(names))
            yield work(name)
        tell(chore, len(names), len(names))
    tell("vectors", 0, 1)
    with closing(open_vectors()) as vectors:
        if dry_run:
            tidied = [VectorCompaction(key, "not asked") for key in vectors.specs()]
        else:
            tidied = vectors.compact(plan.vector_seconds)
    yield from (VectorTidying(one, dry_run) for one in tidied)
    tell("vectors", 1, 1)


def _say_nothing(_step: str, _done: int, _total: int) -> None:
    return
