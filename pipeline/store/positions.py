"""Source positions as a snapshot property: per partition the offsets a table holds, as inclusive ranges.

Every commit repeats the whole set, so the newest snapshot alone says where to go on, whatever was expired. Work in
order keeps a partition at a single range, `0-5119`.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping

from pipeline.ports import SourcePosition

PROPERTY = "oddframe.positions"

_Ranges = tuple[tuple[int, int], ...]


class PositionSet:
    """An immutable set of source positions."""

    def __init__(self, ranges: Mapping[str, _Ranges] | None = None) -> None:
        self._ranges: dict[str, _Ranges] = dict(ranges or {})

    def holds(self, position: SourcePosition) -> bool:
        """Whether the position is in the set."""
        return self.first_missing(position.partition, position.offset) != position.offset

    def first_missing(self, partition: str, start: int) -> int:
        """The first offset of a partition, from `start` on, that is not in the set."""
        ranges = self._ranges.get(partition, ())
        # The last range that begins at or before it; ranges that touch are one.
        at = bisect_right(ranges, start, key=lambda one: one[0]) - 1
        return ranges[at][1] + 1 if at >= 0 and ranges[at][1] >= start else start

    def last(self, partition: str, before: int | None = None) -> int | None:
        """The last offset of a partition in the set, of those before `before`; None where there is none."""
        ranges = self._ranges.get(partition, ())
        if before is None:
            return ranges[-1][1] if ranges else None
        at = bisect_left(ranges, before, key=lambda one: one[0]) - 1
        return min(ranges[at][1], before - 1) if at >= 0 else None

    def add(self, positions: Iterable[SourcePosition]) -> PositionSet:
        """A set with these positions as well."""
        ranges = dict(self._ranges)
        offsets: dict[str, list[tuple[int, int]]] = {}
        for position in positions:
            offsets.setdefault(position.partition, []).append((position.offset, position.offset))
        for partition, new in offsets.items():
            ranges[partition] = _join([*ranges.get(partition, ()), *new])
        return PositionSet(ranges)

    def fill(self, passed: PositionSet) -> PositionSet:
        """A set that holds, in the partitions it has, what another one holds as well."""
        ranges = {
            partition: _join([*own, *passed._ranges.get(partition, ())]) for partition, own in self._ranges.items()
        }
        return PositionSet(ranges)

    def count(self) -> int:
        """How many positions are held."""
        return sum(last - first + 1 for ranges in self._ranges.values() for first, last in ranges)

    def to_property(self) -> str:
        """The text kept with a snapshot."""
        return json.dumps(
            {partition: ",".join(f"{a}-{b}" for a, b in ranges) for partition, ranges in sorted(self._ranges.items())},
            ensure_ascii=False,
        )

    @classmethod
    def from_property(cls, text: str) -> PositionSet:
        """The set a snapshot's text stands for."""
        return cls(
            {
                partition: tuple((int(a), int(b)) for a, b in (part.split("-") for part in ranges.split(",") if part))
                for partition, ranges in json.loads(text).items()
            }
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PositionSet) and self._ranges == other._ranges

    def __hash__(self) -> int:
        return hash(self.to_property())


def _join(ranges: list[tuple[int, int]]) -> _Ranges:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(joined)
