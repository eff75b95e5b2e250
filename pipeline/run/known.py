"""Which contents the lake may know: eight bytes an id, so that a process that runs for a year stays small."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_DIGITS = 16
"""Of an id, 64 bits: two of a billion contents begin alike once in forty runs, and then one is looked up in vain."""

_MOST_RECENT = 65_536


class KnownIds:
    """A set of ids by their beginnings: what is not in it was never added, what is in it may be known.

    Whoever finds an id here asks the lake before believing it.
    """

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._old: NDArray[np.uint64] = np.unique(np.fromiter((_shorten(i) for i in ids), dtype=np.uint64))
        self._recent: set[int] = set()
        self._gone: set[int] = set()

    def __contains__(self, frame_id: str) -> bool:
        """Whether it may have been added."""
        key = _shorten(frame_id)
        if key in self._recent:
            return True
        if key in self._gone:
            return False
        place = int(np.searchsorted(self._old, np.uint64(key)))
        return place < self._old.size and int(self._old[place]) == key

    def add(self, frame_id: str) -> None:
        """Know it from now on."""
        key = _shorten(frame_id)
        self._gone.discard(key)
        self._recent.add(key)
        if len(self._recent) >= _MOST_RECENT:
            self._old = np.union1d(self._old, np.fromiter(self._recent, dtype=np.uint64))
            self._recent.clear()

    def discard(self, frame_id: str) -> None:
        """Know it no more."""
        key = _shorten(frame_id)
        self._recent.discard(key)
        self._gone.add(key)


def _shorten(frame_id: str) -> int:
    return int(frame_id[:_DIGITS], 16)
