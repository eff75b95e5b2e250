"""Cells read lately, kept within a bound of memory: many frames of a night are compared with the same references."""

from __future__ import annotations

from collections import OrderedDict

from pipeline.store.matrix import Cell

_MOST_CELLS = 256


class CellCache:
    """References by spec and filter: their vectors, or how many there are where they are too many to hold."""

    def __init__(self, most_values: int) -> None:
        """At most so many float32 values are held."""
        self._most_values = most_values
        self._cells: OrderedDict[tuple[str, str], Cell | int] = OrderedDict()

    def find(self, key: tuple[str, str]) -> Cell | int | None:
        """What is known of a cell, None if it has to be read."""
        if key in self._cells:
            self._cells.move_to_end(key)
        return self._cells.get(key)

    def keep(self, key: tuple[str, str], cell: Cell | int) -> None:
        """Hold a cell; those not asked for longest make room."""
        self._cells[key] = cell
        while self._count_values() > self._most_values or len(self._cells) > _MOST_CELLS:
            self._cells.popitem(last=False)

    def clear(self) -> None:
        """Forget everything: the references changed."""
        self._cells.clear()

    def _count_values(self) -> int:
        return sum(cell[1].size for cell in self._cells.values() if isinstance(cell, tuple))
