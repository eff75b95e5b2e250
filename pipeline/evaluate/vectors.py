"""`residual` and `tiles`: one unit vector of a frame's difference, and one of each tile of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.tiles import GRIDS, Tile, cut_tiles, lay_tiles
from pipeline.difference.vector import flatten, unflatten
from pipeline.evaluate.differences import Difference, DifferenceKnowledge, Differences
from pipeline.evaluate.specs import Floats, Mask
from pipeline.frame.types import Frame
from pipeline.judge.calibration import to_amplitude

Vector = NDArray[np.float32]

WHOLE_GRID = (8, 8)
"""Tiles of a whole frame, where the protocol asks for no others."""


@dataclass(frozen=True, eq=False, slots=True)
class ResidualSpec:
    """One unit vector of the whole frame; the distance is that to the nearest reference."""

    shared: Differences
    name: str = "residual"
    registers: bool = True

    def learn(self, references: Sequence[Frame], *, standing: bool = False) -> ResidualKnowledge | None:
        """Learn; see `Spec`."""
        found = self.shared.learn(references, standing=standing)
        return None if found is None else ResidualKnowledge(found)


@dataclass(frozen=True, eq=False, slots=True)
class ResidualKnowledge:
    """References as whole vectors."""

    shared: DifferenceKnowledge

    @property
    def usual(self) -> tuple[float, ...]:
        """Amplitude between each reference and its nearest other; none where there is one vector only."""
        vectors = self.shared.vectors
        others = [[*vectors[:i], *vectors[i + 1 :]] for i in range(len(vectors))]
        return tuple(measure_nearest(v, near) for v, near in zip(vectors, others, strict=True) if near)

    def compare(self, frame: Frame) -> ResidualComparison | None:
        """Compare; see `Knowledge`."""
        found = self.shared.subtract(frame)
        return None if found is None else ResidualComparison(found, self.shared.vectors)


@dataclass(frozen=True, eq=False, slots=True)
class ResidualComparison:
    """A frame's vector; a tile has its share of what lies over the usual, streaks among it."""

    difference: Difference
    references: tuple[Vector, ...]

    @property
    def score(self) -> float:
        """Amplitude between the frame and the nearest reference."""
        return measure_nearest(flatten(self.difference.excess), self.references)

    def rate_tiles(self, tiles: Sequence[Tile]) -> Floats:
        """Length of what each tile adds to the frame's vector, over the constant."""
        return _rate(cut_tiles(self.difference.excess, self.difference.shape, tiles, tuple(GRIDS)))

    def list_places(self) -> list[tuple[float, float]]:
        """Of the difference."""
        return self.difference.places

    def mark_tiles(self, tiles: Sequence[Tile]) -> Mask:
        """What is listed."""
        return self.difference.mark_tiles(tiles)


@dataclass(frozen=True, eq=False, slots=True)
class TilesSpec:
    """One unit vector of each tile; the distance is that to the vector of no excess."""

    shared: Differences
    name: str = "tiles"
    registers: bool = True

    def learn(self, references: Sequence[Frame], *, standing: bool = False) -> TilesKnowledge | None:
        """Learn; see `Spec`."""
        found = self.shared.learn(references, standing=standing)
        return None if found is None else TilesKnowledge(found)


@dataclass(frozen=True, eq=False, slots=True)
class TilesKnowledge:
    """References as vectors of tiles."""

    shared: DifferenceKnowledge

    @property
    def usual(self) -> tuple[float, ...]:
        """The oddest tile of each reference, against the others."""
        vectors = self.shared.vectors
        # Cells lie where they lie on any frame, whatever its size.
        shape = (1024, 1024)
        tiles = lay_tiles(shape, WHOLE_GRID)
        found = [float(_rate(cut_tiles(unflatten(v), shape, tiles)).max()) for v in vectors]
        return tuple(found) if len(found) > 1 else ()

    def compare(self, frame: Frame) -> TilesComparison | None:
        """Compare; see `Knowledge`."""
        found = self.shared.subtract(frame)
        return None if found is None else TilesComparison(found)


@dataclass(frozen=True, eq=False, slots=True)
class TilesComparison:
    """A vector for each tile; the frame is as odd as its oddest one."""

    difference: Difference

    @property
    def score(self) -> float:
        """The highest over the tiles of the usual grid."""
        height, width = self.difference.shape
        grid = (min(WHOLE_GRID[0], height), min(WHOLE_GRID[1], width))
        return float(self.rate_tiles(lay_tiles((height, width), grid)).max())

    def rate_tiles(self, tiles: Sequence[Tile]) -> Floats:
        """Amplitude of each tile over no excess at all."""
        return _rate(cut_tiles(self.difference.excess, self.difference.shape, tiles))

    def list_places(self) -> list[tuple[float, float]]:
        """Of the difference."""
        return self.difference.places

    def mark_tiles(self, tiles: Sequence[Tile]) -> Mask:
        """What is listed."""
        return self.difference.mark_tiles(tiles)


def measure_nearest(vector: Vector, others: Sequence[Vector]) -> float:
    """Amplitude between a unit vector and the nearest of others, at least one."""
    apart = np.stack(others).astype(np.float64) - vector.astype(np.float64)
    return to_amplitude(float(np.sqrt(np.square(apart).sum(axis=1)).min()))


def _rate(vectors: Sequence[Vector]) -> Floats:
    # The distance to [0, 1] is that of the last coordinate alone: d^2 = 2 - 2 u_last.
    return np.asarray([to_amplitude(math.sqrt(max(0.0, 2 - 2 * float(v[-1])))) for v in vectors])
