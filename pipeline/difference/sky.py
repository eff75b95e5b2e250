"""What is left of the sky: a plane over the frame, and the mean of small cells once the stars are gone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.robust import measure_spread

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

_SAMPLES = 16
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
    rows, columns = _edges(height), _edges(width)
    points = []
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            known = image[top:bottom, left:right][valid[top:bottom, left:right]]
            if known.size >= max(1.0, _LEAST_SHARE * (bottom - top) * (right - left)):
                known = known[:: max(1, known.size // _ENOUGH)]
                points.append(((left + right) / 2, (top + bottom) / 2, float(np.median(known))))
    if not points:
        return np.full(image.shape, np.median(image[valid]), dtype=np.float32)
    x, y, level = np.asarray(points).T
    a, b, c = _fit_clipped(x / width, y / height, level)
    across = np.float32(a / width) * np.arange(width, dtype=np.float32)
    return across + (np.float32(b / height) * np.arange(height, dtype=np.float32) + np.float32(c))[:, None]


def _edges(length: int) -> list[int]:
    cells = min(_SAMPLES, length)
    return [length * i // cells for i in range(cells + 1)]


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
