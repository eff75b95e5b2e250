"""`pixels`: block means over the valid area, flattened, unit length. The baseline every other spec must beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.embed.types import NothingToEmbedError, to_unit

# Under half a cell of sky is too noisy a mean to stand for the cell.
_LEAST_COVER = 0.5


@dataclass(frozen=True, slots=True)
class Pixels:
    """Block means on a fixed grid; cells outside the valid area carry the frame's median and so add no distance."""

    rows: int = 32
    columns: int = 32
    name: str = "pixels"
    saturates: bool = False

    @property
    def version(self) -> str:
        """Version of the method and the grid."""
        return f"1-{self.rows}x{self.columns}"

    @property
    def dimension(self) -> int:
        """Rows times columns."""
        return self.rows * self.columns

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns."""
        return (self.rows, self.columns)

    def embed(self, pixels: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Mean of the valid pixels of each cell, flattened and divided by the L2 norm.

        Args:
            pixels: float32 (height, width).
            valid: bool, same shape.

        Returns:
            float32 (rows * columns,), unit length.

        Raises:
            NothingToEmbedError: no valid pixel, or a zero map.
        """
        return to_unit(mean_cells(pixels, valid, self.grid))


def mean_cells(pixels: NDArray[np.float32], valid: NDArray[np.bool_], grid: tuple[int, int]) -> NDArray[np.float64]:
    """Block means in float64; no BLAS, so the same bits come out whatever the thread count.

    Frames smaller than the grid repeat their nearest pixel.
    """
    if not valid.any():
        raise NothingToEmbedError("the frame has no valid pixel")
    rows = _edges(pixels.shape[0], grid[0])
    columns = _edges(pixels.shape[1], grid[1])
    if valid.all():
        return _sum_cells(pixels, rows, columns) / np.outer(
            _spans(rows, pixels.shape[0]), _spans(columns, pixels.shape[1])
        )
    counts = _sum_cells(valid.astype(np.float32), rows, columns)
    sums = _sum_cells(np.where(valid, pixels, np.float32(0)), rows, columns)
    sizes = np.outer(_spans(rows, pixels.shape[0]), _spans(columns, pixels.shape[1]))
    known = counts >= _LEAST_COVER * sizes
    if not known.any():
        known = counts > 0
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=known)
    return np.where(known, means, np.median(means[known]))


def _edges(length: int, cells: int) -> NDArray[np.intp]:
    return (np.arange(cells) * length // cells).astype(np.intp)


def _spans(edges: NDArray[np.intp], length: int) -> NDArray[np.float64]:
    # reduceat yields the single element where two edges coincide: a span of one.
    return np.maximum(np.diff(np.append(edges, length)), 1).astype(np.float64)


def _sum_cells(values: NDArray[np.float32], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float64]:
    # Band by band: reduceat along the first axis of a whole frame takes five times as long.
    ends = np.maximum(np.append(rows[1:], values.shape[0]), rows + 1)
    bands = np.stack([values[a:b].sum(axis=0, dtype=np.float64) for a, b in zip(rows, ends, strict=True)])
    return np.asarray(np.add.reduceat(bands, columns, axis=1), dtype=np.float64)
