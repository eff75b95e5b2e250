"""Which pixels carry sky: values that are no number and the zero-filled margins of registered frames do not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SOLID = 5
"""Side in pixels of the solid square of zeros that only padding shows."""

RUN = 24
"""Length of the run of zeros along the border that only padding shows, even where it is a pixel deep."""

MAX_ZERO_FRACTION = 0.5
"""Above this share of exact zeros beside the squares, zero is an ordinary value and nothing is padding."""

MIN_FILL = 0.5
"""What is left must fill this share of its bounding box, else it is scattered events on an empty frame."""

Mask = NDArray[np.bool_]


def valid_area(pixels: NDArray[np.float32], finite: Mask) -> Mask:
    """Mark the pixels that carry sky.

    A pixel without a finite value is invalid. An exact zero is invalid where it belongs to padding, that is to a
    group of zeros (4-connected, joined through pixels without a value) that touches the border and is solid: it holds
    a square of 5 x 5 zeros, or a run of 24 along the border, or fills a whole edge. Zeros of a frame whose ordinary
    values include zero form ragged groups without these: at 30 % zeros one square is expected in 10^13 places, at 50 %
    in 3 * 10^7. Where zero is more common than that the rule steps back and leaves every finite pixel valid: if more
    than half of what lies outside the squares is zero (bias frames, clipped sky), or if what would be left fills less
    than half of its bounding box (photon counts scattered over an empty field). A frame of nothing but zeros carries no
    sky at all.

    Args:
        pixels: shape (height, width).
        finite: same shape, False where the pixel has no value (NaN, infinite, BLANK).

    Returns:
        Same shape; `finite` itself where no pixel on the border is zero.
    """
    if not _shows_run_on_border(pixels, finite):
        return finite
    zero = (pixels == 0) & finite
    padding, squares = _find_padding(zero, finite)
    left = finite & ~padding
    if not left.any():
        return left
    beside = finite & ~squares
    if np.count_nonzero(zero & beside) > MAX_ZERO_FRACTION * np.count_nonzero(beside) or _measure_fill(left) < MIN_FILL:
        return finite
    return left


def _shows_run_on_border(pixels: NDArray[np.float32], finite: Mask) -> bool:
    for edge, known in zip(_take_edges(pixels), _take_edges(finite), strict=True):
        zero = edge == 0
        empty = zero | ~known
        if zero.any() and (empty.all() or _mark_runs(empty, SOLID).any()):
            return True
    return False


def _mark_runs(line: Mask, length: int) -> Mask:
    """Mark where a run of at least `length` begins."""
    marked = np.zeros_like(line)
    if line.size >= length:
        marked[: line.size - length + 1] = np.lib.stride_tricks.sliding_window_view(line, length).all(axis=1)
    return marked


def _take_edges(image: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    return image[0], image[-1], image[:, 0], image[:, -1]


def _find_padding(zero: Mask, finite: Mask) -> tuple[Mask, Mask]:
    """Find the pixels of solid groups at the border, and the pixels that squares of such groups cover."""
    empty = zero | ~finite
    groups, count = ndimage.label(empty)
    border = np.zeros(count + 1, dtype=bool)
    solid = np.zeros(count + 1, dtype=bool)
    for edge in _take_edges(groups):
        border[edge] = True
        solid[edge if edge.all() else edge[_mark_runs(edge > 0, RUN)]] = True
    corners = _mark_squares(empty)
    solid[groups[corners]] = True
    border[0] = False
    chosen = (border & solid)[groups]
    return chosen & zero, _fill_squares(corners & chosen)


def _fill_squares(corners: Mask) -> Mask:
    """Mark all pixels of the squares whose upper left corners are marked."""
    rows = corners.copy()
    for shift in range(1, SOLID):
        rows[shift:] |= corners[:-shift]
    filled = rows.copy()
    for shift in range(1, SOLID):
        filled[:, shift:] |= rows[:, :-shift]
    return filled


def _mark_squares(empty: Mask) -> Mask:
    """Mark the upper left corner of every square of `SOLID` x `SOLID` that is wholly empty."""
    marked = np.zeros_like(empty)
    height, width = empty.shape
    if height < SOLID or width < SOLID:
        return marked
    rows = empty[: height - SOLID + 1].copy()
    for shift in range(1, SOLID):
        rows &= empty[shift : height - SOLID + 1 + shift]
    square = rows[:, : width - SOLID + 1].copy()
    for shift in range(1, SOLID):
        square &= rows[:, shift : width - SOLID + 1 + shift]
    marked[: height - SOLID + 1, : width - SOLID + 1] = square
    return marked


def _measure_fill(left: Mask) -> float:
    rows, columns = np.flatnonzero(left.any(axis=1)), np.flatnonzero(left.any(axis=0))
    box = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    return float(np.count_nonzero(left) / box)
