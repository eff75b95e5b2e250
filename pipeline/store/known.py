"""Which contents the lake may know: eight bytes an id, so that a process that runs for a year stays small."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_DIGITS = 16
"""Of an id, 64 bits: two of a billion contents begin alike once in forty runs, and then one is looked up in vain."""

_MOST_RECENT = 65_536


class Marks:
    """A set of 64-bit numbers at about eight bytes each."""

    def __init__(self, marks: Iterable[int] = ()) -> None:
        self._old: NDArray[np.uint64] = np.unique(np.fromiter(marks, dtype=np.uint64))
        self._recent: set[int] = set()
        self._gone: set[int] = set()

    def __contains__(self, mark: int) -> bool:
        """Whether it was added."""
        if mark in self._recent:
            return True
        if mark in self._gone:
            return False
        place = int(np.searchsorted(self._old, np.uint64(mark)))
        return place < self._old.size and int(self._old[place]) == mark

    def add(self, mark: int) -> None:
        """Have it in the set."""
        self._gone.discard(mark)
        self._recent.add(mark)
        if len(self._recent) >= _MOST_RECENT:
            self._old = np.union1d(self._old, np.fromiter(self._recent, dtype=np.uint64))
            self._recent.clear()

    def discard(self, mark: int) -> None:
        """Have it in the set no more."""
        self._recent.discard(mark)
        self._gone.add(mark)


class KnownIds:
    """A set of ids by their beginnings: what is not in it was never added, what is in it may be known.

    Whoever finds an id here asks the lake before believing it.
    """

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._marks = Marks(_shorten(i) for i in ids)

    def __contains__(self, frame_id: str) -> bool:
        """Whether it may have been added."""
        return _shorten(frame_id) in self._marks

    def add(self, frame_id: str) -> None:
        """Know it from now on."""
        self._marks.add(_shorten(frame_id))

    def discard(self, frame_id: str) -> None:
        """Know it no more."""
        self._marks.discard(_shorten(frame_id))


def _shorten(frame_id: str) -> int:
    return int(frame_id[:_DIGITS], 16)
