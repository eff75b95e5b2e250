"""The last commit of a batch, and the one that counts: one row in `deliveries` for each message, with its outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.ports import SourcePosition
from pipeline.run.batch import Batch, Item, Purpose, Standing
from pipeline.run.lake import KillSwitch, Lake
from pipeline.run.prepared import Unreadable
from pipeline.run.rows import delivery_row

_MESSAGE = ("source_partition", "source_offset")


def deliver(lake: Lake, batch: Batch, purpose: Purpose, beaten: set[str], switch: KillSwitch) -> None:
    """Commit what became of each message, then tell the source.

    Args:
        lake: where to.
        batch: whose other rows are committed.
        purpose: why the frames were brought in.
        beaten: contents that another process entered while we were at them.
        switch: told of each step.
    """
    held = lake.tables.positions("deliveries")
    # The same file twice in one batch is one message.
    fresh = {
        item.raw.position: item
        for item in reversed(batch.landed())
        if item.raw is not None and not held.holds(item.raw.position)
    }
    first = _find_first(lake, [item for item in fresh.values() if not _is_first(item, beaten)])
    rows = [
        delivery_row(item.raw, "new" if _is_first(item, beaten) else _find_outcome(item, first), str(purpose))
        for _, item in sorted(fresh.items())
        if item.raw is not None
    ]
    # Places without a message as well: the positions stay one range.
    covered = [p for item in fresh.values() if item.raw is not None for p in (*item.raw.empty, item.raw.position)]
    switch.reach("commit deliveries")
    lake.tables.append_new("deliveries", rows, covered, _MESSAGE)
    switch.reach("acknowledge")
    lake.source.acknowledge([item.raw.position for item in batch.landed() if item.raw is not None])


def _is_first(item: Item, beaten: set[str]) -> bool:
    """Whether this delivery brought the content."""
    known = item.standing is not Standing.FRESH or item.landed.frame_id in beaten
    return not known and not isinstance(item.result, Unreadable)


def _find_first(lake: Lake, items: Sequence[Item]) -> dict[str, tuple[SourcePosition, str]]:
    """Where known contents came from first, and as what: how a resumed delivery finds its outcome."""
    ids = sorted({item.landed.frame_id for item in items})
    if not ids:
        return {}
    first: dict[str, tuple[SourcePosition, str]] = {}
    for table, outcome in (("quarantine", "quarantined"), ("frames", "new")):
        columns = ["frame_id", "source_partition", "source_offset"]
        for row in lake.tables.scan(table, columns, where={"frame_id": ids}).to_pylist():
            position = SourcePosition(row["source_partition"], row["source_offset"])
            first[row["frame_id"]] = (position, outcome)
    return first


def _find_outcome(item: Item, first: Mapping[str, tuple[SourcePosition, str]]) -> str:
    if isinstance(item.result, Unreadable):
        return "quarantined"
    position, outcome = first.get(item.landed.frame_id, (None, ""))
    return outcome if item.raw is not None and position == item.raw.position else "duplicate"
