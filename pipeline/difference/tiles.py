"""Excess over the usual, tile by tile: what is odd about each part of a frame, as unit vectors of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.channels import Significance
from pipeline.difference.filters import STREAK_LENGTHS_PX
from pipeline.difference.layout import NAMES, POINT_CELLS, SIZES, SKY_CELLS, STREAK_CELLS
from pipeline.difference.vector import Usual, exceed, flatten

Floats = NDArray[np.float64]

GRIDS = {"point": POINT_CELLS, "hole": POINT_CELLS, "sharp": POINT_CELLS, "streak": STREAK_CELLS, "sky": SKY_CELLS}
"""Channels whose cells have a place on the frame; lines, columns, rows and clouds reach beyond any tile."""

_STREAKS_ACROSS = 2.0


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of a frame: rows top to bottom - 1, columns left to right - 1, 0-based px."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def holds(self, x: float, y: float) -> bool:
        """Whether a place lies on it; x is the column, pixels reach half a pixel around their centres."""
        return self.left <= x + 0.5 < self.right and self.top <= y + 0.5 < self.bottom


def lay_tiles(shape: tuple[int, int], grid: tuple[int, int]) -> tuple[Tile, ...]:
    """Tiles of a frame, row by row, as even as whole pixels allow.

    Args:
        shape: (height, width) of the frame.
        grid: rows and columns of tiles; no more than the frame has pixels.
    """
    rows, columns = ([n * i // count for i in range(count + 1)] for n, count in zip(shape, grid, strict=True))
    return tuple(Tile(rows[i], rows[i + 1], columns[j], columns[j + 1]) for i in range(grid[0]) for j in range(grid[1]))


def measure_tiles(found: Significance, usual: Usual, tiles: Sequence[Tile]) -> list[NDArray[np.float32]]:
    """One unit vector per tile of what exceeds the usual there; see `cut_tiles`."""
    return cut_tiles(exceed(found.channels, usual), (found.point.shape[0], found.point.shape[1]), tiles)


def choose_channels(tiles: Sequence[Tile]) -> tuple[str, ...]:
    """Channels that tell the tiles of a grid apart.

    Streaks count only on tiles more than twice as wide as the longest that is looked for: their filter answers as far
    as half a streak beside a star.
    """
    smallest = min((min(t.bottom - t.top, t.right - t.left) for t in tiles), default=0)
    return tuple(n for n in GRIDS if n != "streak" or smallest > _STREAKS_ACROSS * max(STREAK_LENGTHS_PX))


def cut_tiles(
    excess: Floats, shape: tuple[int, int], tiles: Sequence[Tile], names: Sequence[str] | None = None
) -> list[NDArray[np.float32]]:
    """Give each tile the cells whose centres lie on it, with the constant that keeps the amplitude.

    A tile smaller than a cell has the cell that its own centre lies on.

    Args:
        excess: from `exceed`.
        shape: (height, width) of the frame.
        tiles: of one grid.
        names: channels out of `GRIDS`; None for `choose_channels`.

    Returns:
        For each tile float32 of one length, unit length; with no excess the last coordinate is 1.
    """
    maps = split_excess(excess)
    cells: list[list[Floats]] = [[] for _ in tiles]
    for name in choose_channels(tiles) if names is None else names:
        pieces = [_cut(maps[name].reshape(GRIDS[name]), shape, tile) for tile in tiles]
        rows, columns = (max((p.shape[axis] for p in pieces), default=0) for axis in (0, 1))
        for own, piece in zip(cells, pieces, strict=True):
            padded = np.zeros((rows, columns))
            padded[: piece.shape[0], : piece.shape[1]] = piece
            own.append(padded.ravel())
    return [flatten(np.concatenate(own)) for own in cells]


def split_excess(excess: Floats) -> dict[str, Floats]:
    """The excess of each channel, by name, flat."""
    ends = np.cumsum([SIZES[name] for name in NAMES])
    return dict(zip(NAMES, np.split(excess, ends[:-1]), strict=True))


def _cut(cells: Floats, shape: tuple[int, int], tile: Tile) -> Floats:
    rows = _choose(cells.shape[0], shape[0], tile.top, tile.bottom)
    columns = _choose(cells.shape[1], shape[1], tile.left, tile.right)
    return cells[rows, columns]


def _choose(count: int, length: int, start: int, stop: int) -> slice:
    """Cells out of `count` over `length` pixels whose centres lie from `start` to `stop`."""
    centres = (np.arange(count) + 0.5) * length / count
    inside = np.flatnonzero((centres >= start) & (centres < stop))
    if inside.size:
        return slice(int(inside[0]), int(inside[-1]) + 1)
    nearest = int((start + stop) / 2 * count / length)
    return slice(nearest, nearest + 1)
