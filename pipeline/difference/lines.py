"""Straight lines across the frame: all of them coarsely, the likeliest once more at full resolution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.difference.filters import Points, measure_excess

Image = NDArray[np.float32]

LINE_BIN_PX = 4
"""Lines across the frame are looked for on pixels four wide."""

LINE_ANGLES = 180
_SHORTEST_LINE = 0.3
_CLIP_SIGMA = 4.0
_PEAKS = 6
# A closer look goes a little over half a step of the coarse one each way.
_TURNS = np.array([-0.6, -0.3, 0.0, 0.3, 0.6])
_SHIFTS_PX = np.array([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0])


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line across the frame.

    Attributes:
        sigma: its significance.
        angle_deg: direction from +x towards +y, about 0 to 180.
        across_px: how far it passes the middle of the frame, along the normal (-sin, cos).
    """

    sigma: float
    angle_deg: float
    across_px: float

    def measure_distance(self, x: NDArray[np.floating], y: NDArray[np.floating], shape: tuple[int, ...]) -> Image:
        """How far places lie beside it, px, signed."""
        angle = math.radians(self.angle_deg)
        dx, dy = x - (shape[1] - 1) / 2, y - (shape[0] - 1) / 2
        return np.asarray(dy * math.cos(angle) - dx * math.sin(angle) - self.across_px)


def filter_lines(normal: Image, known: Image) -> Image:
    """Significance of straight lines across the frame, shape (angles, offsets); coarse in both.

    Args:
        normal: residual over its standard deviation, clipped, summed over pixels of `LINE_BIN_PX` and divided by the
            root of how many; shape (rows, columns).
        known: share of each such pixel that is not masked.
    """
    lines = _list_lines(normal.shape)
    offsets = lines.shape[0] // LINE_ANGLES
    total = lines @ normal.ravel()
    counts = lines @ known.ravel()
    enough = counts >= _SHORTEST_LINE * min(normal.shape)
    found: Image = np.where(enough, total / np.sqrt(np.maximum(counts, 1)), 0).astype(np.float32)
    return (found / measure_excess(found)).reshape(LINE_ANGLES, offsets)


def sharpen_lines(coarse: Image, points: Points, psf: Image) -> tuple[Image, tuple[Line, ...]]:
    """Measure the likeliest lines again at full resolution, around where the coarse ones say.

    The integral of a point-source fit along a line is the fit of the line: its profile is the PSF summed along it.
    Single pixels are clipped at four sigma, so that no star or ray makes a line.

    Args:
        coarse: from `filter_lines`.
        points: of the residual.
        psf: stamp of the PSF.

    Returns:
        `coarse` with the values at the likeliest lines replaced where the closer look found more; and these lines.
    """
    height, width = points.significance.shape
    light = np.clip(points.significance, -_CLIP_SIGMA, _CLIP_SIGMA) * np.sqrt(points.information)
    profile = float(np.square(psf.sum(axis=0)).sum() / np.square(psf).sum())
    half = math.hypot(height, width) / 2
    along = np.arange(-half, half, dtype=np.float32)
    sharp, lines = coarse.copy(), []
    for place in _list_peaks(coarse):
        turn, offset = divmod(place, coarse.shape[1])
        turns = (turn + _TURNS) * (math.pi / LINE_ANGLES)
        across = (offset - coarse.shape[1] // 2) * LINE_BIN_PX + _SHIFTS_PX
        cosine, sine = np.cos(turns)[:, None, None], np.sin(turns)[:, None, None]
        x = np.rint((width - 1) / 2 + along * cosine - across[:, None] * sine).astype(np.int32)
        y = np.rint((height - 1) / 2 + along * sine + across[:, None] * cosine).astype(np.int32)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        at = np.where(inside, y * width + x, 0)
        total = np.where(inside, light.ravel()[at], 0).sum(axis=2)
        information = np.where(inside, points.information.ravel()[at], 0).sum(axis=2) * profile
        values = np.abs(total) / np.sqrt(np.maximum(information, np.finfo(np.float32).tiny))
        best = np.unravel_index(int(np.argmax(values)), values.shape)
        sharp[turn, offset] = max(abs(float(coarse[turn, offset])), float(values[best]))
        lines.append(Line(float(values[best]), math.degrees(float(turns[best[0]])), float(across[best[1]])))
    return sharp, tuple(lines)


def _list_peaks(coarse: Image) -> list[int]:
    """Flat indices of the strongest lines, no two of them next to each other."""
    strength = np.abs(coarse)
    order = np.argpartition(-strength.ravel(), _PEAKS * 8)[: _PEAKS * 8]
    chosen: list[int] = []
    for place in order[np.argsort(-strength.ravel()[order], kind="stable")].tolist():
        turn, offset = divmod(place, coarse.shape[1])
        apart = (max(abs(turn - p // coarse.shape[1]), abs(offset - p % coarse.shape[1])) > 1 for p in chosen)
        if all(apart):
            chosen.append(place)
        if len(chosen) == _PEAKS:
            break
    return chosen


@lru_cache(maxsize=2)
def _list_lines(shape: tuple[int, int]) -> sparse.csr_matrix:
    """Which pixels each line takes in: for every angle each pixel belongs to the line that passes closest."""
    rows, columns = np.indices(shape, dtype=np.float32)
    rows, columns = rows.ravel() - (shape[0] - 1) / 2, columns.ravel() - (shape[1] - 1) / 2
    reach = math.ceil(math.hypot(*shape) / 2)
    offsets = 2 * reach + 1
    lines = []
    for turn in range(LINE_ANGLES):
        angle = math.pi * turn / LINE_ANGLES
        across = np.rint(rows * math.cos(angle) - columns * math.sin(angle)).astype(np.int64) + reach
        lines.append(across + turn * offsets)
    pixels = np.tile(np.arange(rows.size), LINE_ANGLES)
    ones = np.ones(pixels.size, dtype=np.float32)
    shape_of_all = (LINE_ANGLES * offsets, rows.size)
    return sparse.csr_matrix((ones, (np.concatenate(lines), pixels)), shape=shape_of_all)
