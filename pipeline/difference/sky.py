"""What is left of the sky: a plane over the frame, and the mean of small cells once the stars are gone."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.robust import measure_spread

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
T = TypeVar("T", bound=np.generic)

_SAMPLES = 16
_SAMPLED_PX = 16
_CLIPS = 4
_CLIP_SIGMA = 3.0
_LEAST_SHARE = 0.25
# Pixels of a cell for its median; the plane is fitted to hundreds of cells.
_ENOUGH = 256


def fit_plane(image: Image, valid: Mask) -> Image:
    """The plane through the sky of a frame, float32, shape (height, width).

    Medians of 16 x 16 cells, then least squares with cells more than 3 sigma off dropped, so that galaxies and clouds
    tilt nothing. A plane and no more: whatever is curved belongs to the field, and so to the reference, or is odd.

    Args:
        image: any units.
        valid: pixels that carry sky; at least one.
    """
    height, width = image.shape
    x, y, level = _sample_cells(image, valid)
    if not level.size:
        return np.full(image.shape, np.median(image[valid]), dtype=np.float32)
    a, b, c = _fit_clipped(x / width, y / height, level)
    across = np.float32(a / width) * np.arange(width, dtype=np.float32)
    return across + (np.float32(b / height) * np.arange(height, dtype=np.float32) + np.float32(c))[:, None]


def _sample_cells(image: Image, valid: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Column, row and median of every cell with enough sky; of large cells every so many pixels speak for all."""
    cells = [min(_SAMPLES, length) for length in image.shape]
    sides = [length // n for length, n in zip(image.shape, cells, strict=True)]
    steps = [max(1, side // _SAMPLED_PX) for side in sides]
    chosen = tuple(
        (np.arange(n)[:, None] * length // n + np.arange(0, side, step)).ravel()
        for n, length, side, step in zip(cells, image.shape, sides, steps, strict=True)
    )
    known, values = (_to_cells(array[np.ix_(*chosen)], cells) for array in (valid, image))
    ordered = np.sort(np.where(known, values, np.float32(np.inf)), axis=-1)
    count = known.sum(axis=-1)
    low, high = np.maximum((count - 1) // 2, 0)[..., None], np.maximum(count // 2, 0)[..., None]
    pair = (np.take_along_axis(ordered, low, -1) + np.take_along_axis(ordered, high, -1))[..., 0]
    enough = count >= max(1.0, _LEAST_SHARE * ordered.shape[-1])
    row, column = np.nonzero(enough)
    middle = [(np.arange(n) + 0.5) * length / n for n, length in zip(cells, image.shape, strict=True)]
    return middle[1][column], middle[0][row], pair[enough].astype(np.float64) / 2


def _to_cells(array: NDArray[T], cells: list[int]) -> NDArray[T]:
    """Rows and columns of cells, each with its pixels along the last axis."""
    rows, columns = (length // n for length, n in zip(array.shape, cells, strict=True))
    return array.reshape(cells[0], rows, cells[1], columns).swapaxes(1, 2).reshape(*cells, rows * columns)


def _fit_clipped(x: NDArray[np.float64], y: NDArray[np.float64], level: NDArray[np.float64]) -> tuple[float, ...]:
    kept = np.ones(x.size, dtype=bool)
    design = np.column_stack([x - 0.5, y - 0.5, np.ones_like(x)])
    plane = np.array([0.0, 0.0, float(np.median(level))])
    for _ in range(_CLIPS):
        if np.count_nonzero(kept) < 2 * design.shape[1]:
            break
        plane = np.linalg.lstsq(design[kept], level[kept], rcond=None)[0]
        left = level - design @ plane
        spread = measure_spread(left[kept] - np.median(left[kept]))
        kept = np.abs(left - np.median(left[kept])) <= max(_CLIP_SIGMA * spread, 1e-12)
    a, b, c = plane.tolist()
    return a, b, c - a / 2 - b / 2


def average_cells(
    values: Image, weight: Image, grid: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted mean of each cell of a grid, and the sum of its weights.

    Args:
        values: shape (height, width); what stands out must have been clipped.
        weight: same shape, 0 where a pixel says nothing.
        grid: rows and columns.

    Returns:
        Both float64, shape `grid`; the mean is 0 where no pixel has any weight.
    """
    rows = np.arange(grid[0]) * values.shape[0] // grid[0]
    columns = np.arange(grid[1]) * values.shape[1] // grid[1]
    total = np.add.reduceat(np.add.reduceat(weight, columns, axis=1, dtype=np.float64), rows, axis=0)
    light = np.add.reduceat(np.add.reduceat(values * weight, columns, axis=1, dtype=np.float64), rows, axis=0)
    return np.divide(light, total, out=np.zeros_like(light), where=total > 0), total


def spread_cells(cells: NDArray[np.float64], shape: tuple[int, int]) -> Image:
    """Linear between the centres of cells, and on beyond the outermost; float32, shape `shape`."""
    down, across = (_interpolate(n, length) for n, length in zip(cells.shape, shape, strict=True))
    return (down @ cells.astype(np.float32)) @ across.T


def _interpolate(cells: int, length: int) -> Image:
    place = (np.arange(length) + 0.5) * cells / length - 0.5 if cells > 1 else np.zeros(length)
    below = np.clip(np.floor(place).astype(np.intp), 0, max(0, cells - 2))
    share = (place - below).astype(np.float32)
    matrix = np.zeros((length, cells), dtype=np.float32)
    every = np.arange(length)
    matrix[every, below] = 1 - share
    if cells > 1:
        matrix[every, below + 1] = share
    return matrix
