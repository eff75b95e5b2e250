"""Straight lines across the frame: all of them coarsely, the likeliest once more at full resolution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.difference.bands import BAND_PIXELS
from pipeline.difference.filters import Points, measure_excess

Image = NDArray[np.float32]
Floats = NDArray[np.float64]

LINE_BIN_PX = 4
"""Lines across the frame are looked for on pixels four wide; on a large frame they are wider, see `choose_bin`."""

MOST_BINS = 256
"""Pixels so binned along the longer side of a frame, at most: finer ones would want more directions too."""

LINE_ANGLES = 180
_UPRIGHT = LINE_ANGLES // 2
_TURNS_AT_ONCE = 13
_SHORTEST_LINE = 0.3
_CLIP_SIGMA = 4.0
_PEAKS = 6
# A closer look goes a little over half a step of the coarse one each way, to a pixel.
_TURN_REACH = 0.6
_TURNS_PER_BIN_PX = 0.5
_SHIFT_REACH = 0.75


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


def choose_bin(shape: tuple[int, ...]) -> int:
    """Side in px of the pixels that lines across a frame of this shape are looked for on."""
    return max(LINE_BIN_PX, -(-max(shape) // MOST_BINS))


def filter_lines(normal: Image, known: Image) -> Image:
    """Significance of straight lines across the frame, shape (angles, offsets); coarse in both.

    Args:
        normal: residual over its standard deviation, clipped, summed over pixels of `choose_bin` and divided by the
            root of how many; shape (rows, columns).
        known: share of each such pixel that is not masked.
    """
    images = (normal, known, normal[:, ::-1], known[:, ::-1])
    sums = _sum_lines([image.ravel() for image in images], (normal.shape[0], normal.shape[1]))
    # What leans to the left leans to the right in a mirror, on the other side of the middle.
    total, counts = (np.concatenate([sums[k], sums[k + 2, -2:0:-1, ::-1]]) for k in (0, 1))
    enough = counts >= _SHORTEST_LINE * min(normal.shape)
    found: Image = np.where(enough, total / np.sqrt(np.maximum(counts, 1)), 0).astype(np.float32)
    return found / measure_excess(found)


def _sum_lines(images: list[Image], shape: tuple[int, int]) -> Image:
    """Sums along lines of a few flat images, for angles up to a right angle: (n, angles, offsets)."""
    order, counts = _list_lines(shape)
    offsets = counts.shape[1]
    ones = np.ones(_TURNS_AT_ONCE * order.shape[1], dtype=np.float32)
    sums = np.empty((len(images), *counts.shape), dtype=np.float32)
    for first in range(0, len(counts), _TURNS_AT_ONCE):
        some = slice(first, first + _TURNS_AT_ONCE)
        pixels = order[some].ravel().astype(np.int32)
        starts = np.concatenate([np.zeros(1, dtype=np.int32), np.cumsum(counts[some], dtype=np.int32)])
        lines = sparse.csr_matrix((ones[: pixels.size], pixels, starts), shape=(starts.size - 1, order.shape[1]))
        for own, image in zip(sums, images, strict=True):
            own[some] = (lines @ image).reshape(-1, offsets)
    return sums


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
    side = choose_bin((height, width))
    profile = float(np.square(psf.sum(axis=0)).sum() / np.square(psf).sum())
    turns_off = np.linspace(-_TURN_REACH, _TURN_REACH, 2 * math.ceil(_TURNS_PER_BIN_PX * side) + 1)
    reach = math.ceil(_SHIFT_REACH * side)
    shifts = np.arange(-reach, reach + 1, dtype=np.float64)
    # All directions at once where that is little.
    pieces = math.ceil(turns_off.size * shifts.size * math.hypot(height, width) / BAND_PIXELS)
    sharp, lines = coarse.copy(), []
    for place in _list_peaks(coarse):
        turn, offset = divmod(place, coarse.shape[1])
        turns = (turn + turns_off) * (math.pi / LINE_ANGLES)
        across = (offset - coarse.shape[1] // 2) * side + shifts
        values = np.concatenate([_integrate(points, few, across, profile) for few in np.array_split(turns, pieces)])
        best = np.unravel_index(int(np.argmax(values)), values.shape)
        sharp[turn, offset] = max(abs(float(coarse[turn, offset])), float(values[best]))
        lines.append(Line(float(values[best]), math.degrees(float(turns[best[0]])), float(across[best[1]])))
    return sharp, tuple(lines)


def _integrate(points: Points, turns: Floats, across: Floats, profile: float) -> Floats:
    """Significance, without its sign, of lines in some directions (radians) at some distances; (turns, across)."""
    height, width = points.significance.shape
    half = math.hypot(height, width) / 2
    along = np.arange(-half, half, dtype=np.float32)
    cosine, sine = np.cos(turns)[:, None, None], np.sin(turns)[:, None, None]
    x = np.rint((width - 1) / 2 + along * cosine - across[:, None] * sine).astype(np.int32)
    y = np.rint((height - 1) / 2 + along * sine + across[:, None] * cosine).astype(np.int32)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    at = np.where(inside, y * width + x, 0)
    light = np.clip(points.significance.ravel()[at], -_CLIP_SIGMA, _CLIP_SIGMA)
    weight = np.where(inside, points.information.ravel()[at], 0)
    total = (light * np.sqrt(weight)).sum(axis=2)
    information = weight.sum(axis=2) * profile
    return np.asarray(np.abs(total) / np.sqrt(np.maximum(information, np.finfo(np.float32).tiny)))


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
def _list_lines(shape: tuple[int, int]) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """Which pixels each line takes in: for every angle each pixel belongs to the line that passes closest.

    Of angles up to a right angle; the others are their mirror images.

    Returns:
        For each angle all pixels, those of the first line first, as flat indices: there are 256 x 256 at most, and two
        bytes hold them. And how many each line has, (angles, offsets).
    """
    rows, columns = np.indices(shape, dtype=np.float32)
    rows, columns = rows.ravel() - (shape[0] - 1) / 2, columns.ravel() - (shape[1] - 1) / 2
    reach = math.ceil(math.hypot(*shape) / 2)
    order = np.empty((_UPRIGHT + 1, rows.size), dtype=np.uint16)
    counts = np.empty((_UPRIGHT + 1, 2 * reach + 1), dtype=np.int32)
    for turn in range(_UPRIGHT + 1):
        angle = math.pi * turn / LINE_ANGLES
        # Sixteen bits are sorted digit by digit.
        across = (np.rint(rows * math.cos(angle) - columns * math.sin(angle)) + reach).astype(np.uint16)
        order[turn] = np.argsort(across, kind="stable")
        counts[turn] = np.bincount(across, minlength=2 * reach + 1)
    return order, counts
