"""`pixels`, and the untrained yardstick `peak`: frames compared pixel on pixel, none registered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.robust import MAD_TO_SIGMA
from pipeline.difference.tiles import Tile
from pipeline.embed.pixels import Pixels
from pipeline.embed.types import NothingToEmbedError
from pipeline.evaluate.specs import Floats, Mask, mark_outstanding
from pipeline.frame.types import Frame

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PixelsSpec:
    """The embedding `pixels` of the whole frame, or of each tile alone; L2 to the nearest reference."""

    embedding: Pixels = field(default_factory=Pixels)
    name: str = "pixels"
    registers: bool = False

    def learn(self, references: Sequence[Frame], *, standing: bool = False) -> PixelsKnowledge | None:
        """Learn; see `Spec`."""
        del standing
        known = [(frame, v) for frame in references if (v := self.embed(frame.pixels, frame.valid)) is not None]
        return PixelsKnowledge(self, tuple(f for f, _ in known), np.stack([v for _, v in known])) if known else None

    def embed(self, pixels: Image, valid: Mask) -> Floats | None:
        """The vector of a piece of sky; None where it has none."""
        try:
            return self.embedding.embed(pixels, valid).astype(np.float64)
        except NothingToEmbedError:
            return None


@dataclass(frozen=True, eq=False, slots=True)
class PixelsKnowledge:
    """References and their vectors, (n, dimension)."""

    spec: PixelsSpec
    references: tuple[Frame, ...]
    vectors: Floats
    _tiles: dict[tuple[Tile, tuple[int, ...]], Floats] = field(default_factory=dict)

    def embed_tile(self, tile: Tile, shape: tuple[int, ...]) -> Floats:
        """Vectors of the references' same tile, (m, dimension); kept, for every frame of a shape asks for the same."""
        if (tile, shape) not in self._tiles:
            windows = [(r, _scale_tile(tile, shape, r.pixels.shape).window) for r in self.references]
            found = [self.spec.embed(r.pixels[window], r.valid[window]) for r, window in windows]
            known = [v for v in found if v is not None]
            self._tiles[tile, shape] = np.stack(known) if known else np.zeros((0, self.spec.embedding.dimension))
        return self._tiles[tile, shape]

    @property
    def usual(self) -> tuple[float, ...]:
        """Distance between each reference and its nearest other."""
        if len(self.references) < 2:  # noqa: PLR2004 - one has no other
            return ()
        apart = _measure_distances(self.vectors, self.vectors)
        np.fill_diagonal(apart, np.inf)
        return tuple(apart.min(axis=1).tolist())

    def compare(self, frame: Frame) -> PixelsComparison | None:
        """Compare; see `Knowledge`."""
        vector = self.spec.embed(frame.pixels, frame.valid)
        if vector is None:
            return None
        return PixelsComparison(self, frame, float(_measure_distances(vector[None], self.vectors).min()))


@dataclass(frozen=True, eq=False, slots=True)
class PixelsComparison:
    """A frame against its nearest reference."""

    knowledge: PixelsKnowledge
    frame: Frame
    score: float

    def rate_tiles(self, tiles: Sequence[Tile]) -> Floats:
        """Distance of each tile to the nearest of the references' same tiles; 0 where it cannot be told."""
        found = []
        for tile in tiles:
            own = self.knowledge.spec.embed(self.frame.pixels[tile.window], self.frame.valid[tile.window])
            theirs = self.knowledge.embed_tile(tile, self.frame.pixels.shape)
            found.append(float(_measure_distances(own[None], theirs).min()) if own is not None and len(theirs) else 0.0)
        return np.asarray(found)

    def list_places(self) -> list[tuple[float, float]]:
        """None: nothing is registered."""
        return []

    def mark_tiles(self, tiles: Sequence[Tile]) -> Mask:
        """Tiles far above the middle one."""
        return mark_outstanding(self.rate_tiles(tiles))


@dataclass(frozen=True, slots=True)
class PeakSpec:
    """Greatest absolute difference of a pixel, each frame less its median and over its robust sigma."""

    name: str = "peak"
    registers: bool = False

    def learn(self, references: Sequence[Frame], *, standing: bool = False) -> PeakKnowledge | None:
        """Learn; see `Spec`."""
        del standing
        known = [scaled for frame in references if (scaled := _scale(frame)) is not None]
        return PeakKnowledge(tuple(known)) if known else None


@dataclass(frozen=True, eq=False, slots=True)
class PeakKnowledge:
    """References, scaled; NaN where not valid."""

    references: tuple[Image, ...]

    @property
    def usual(self) -> tuple[float, ...]:
        """Each reference against the nearest of the others of its shape."""
        found = []
        for i, own in enumerate(self.references):
            others = [r for j, r in enumerate(self.references) if j != i and r.shape == own.shape]
            if others:
                found.append(PeakComparison(own, tuple(others)).score)
        return tuple(found)

    def compare(self, frame: Frame) -> PeakComparison | None:
        """Compare; see `Knowledge`."""
        scaled = _scale(frame)
        alike = tuple(r for r in self.references if r.shape == frame.pixels.shape)
        return None if scaled is None or not alike else PeakComparison(scaled, alike)


@dataclass(frozen=True, eq=False, slots=True)
class PeakComparison:
    """A scaled frame beside references of its shape."""

    scaled: Image
    references: tuple[Image, ...]

    @property
    def score(self) -> float:
        """Of the whole frame."""
        height, width = self.scaled.shape
        return float(self.rate_tiles([Tile(0, height, 0, width)])[0])

    def rate_tiles(self, tiles: Sequence[Tile]) -> Floats:
        """Of each tile, against the reference nearest to it there; 0 where no pixel is known on both."""
        found = []
        for tile in tiles:
            apart = [np.abs(self.scaled[tile.window] - reference[tile.window]) for reference in self.references]
            peaks = [float(np.nanmax(a)) for a in apart if np.isfinite(a).any()]
            found.append(min(peaks, default=0.0))
        return np.asarray(found)

    def list_places(self) -> list[tuple[float, float]]:
        """None: nothing is registered."""
        return []

    def mark_tiles(self, tiles: Sequence[Tile]) -> Mask:
        """Tiles far above the middle one."""
        return mark_outstanding(self.rate_tiles(tiles))


def _scale(frame: Frame) -> Image | None:
    light = frame.pixels[frame.valid]
    if not light.size:
        return None
    middle = np.median(light)
    spread = MAD_TO_SIGMA * float(np.median(np.abs(light - middle)))
    if spread <= 0:
        return None
    return np.where(frame.valid, (frame.pixels - middle) / np.float32(spread), np.float32(np.nan)).astype(np.float32)


def _scale_tile(tile: Tile, shape: tuple[int, ...], to: tuple[int, ...]) -> Tile:
    """The same part of a frame of another shape."""
    top, bottom = (round(row * to[0] / shape[0]) for row in (tile.top, tile.bottom))
    left, right = (round(column * to[1] / shape[1]) for column in (tile.left, tile.right))
    return Tile(top, bottom, left, right)


def _measure_distances(some: Floats, others: Floats) -> Floats:
    """L2 between rows of both, (n, m)."""
    return np.asarray(np.stack([np.sqrt(np.square(others - one).sum(axis=1)) for one in some]))
