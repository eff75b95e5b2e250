"""Rows of a frame a few at a time: what is worked out band by band needs no second frame to hold it."""

from __future__ import annotations

BAND_PIXELS = 2**18
"""Pixels of a band: the arrays of a step fit the processor's cache, and its loop costs nothing."""


def list_bands(shape: tuple[int, ...], *, multiple: int = 1, start: int = 0, stop: int | None = None) -> list[slice]:
    """Slices of rows that together make up a frame, in their order.

    Args:
        shape: (height, width) of the frame.
        multiple: rows of every band but the last are a multiple of it.
        start: first row.
        stop: row after the last one; None for the frame's height.
    """
    end = shape[0] if stop is None else stop
    rows = max(1, BAND_PIXELS // max(1, shape[1]) // multiple) * multiple
    return [slice(top, min(top + rows, end)) for top in range(start, end, rows)]
