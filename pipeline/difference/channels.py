"""Residual -> channels: small maps of how significant the strangest thing of each kind is, cell by cell."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.filters import filter_boxes, filter_points, filter_streaks, measure_excess, sum_blocks
from pipeline.difference.lines import LINE_BIN_PX, Line, filter_lines, sharpen_lines
from pipeline.difference.robust import measure_spread
from pipeline.difference.sky import average_cells, spread_cells
from pipeline.difference.whole import NAMES as WHOLE

Image = NDArray[np.float32]
Floats = NDArray[np.float64]

POINT_CELLS = (32, 32)
STREAK_CELLS = (16, 16)
SKY_CELLS = (16, 16)
LINE_CELLS = (20, 16)
AXIS_CELLS = 64

_CLIP_SIGMA = 4.0
_STREAK_CLIP_SIGMA = 2.5
_LOCAL_SKY_PX = 32
_PSF_SIDE_PX = 5
_BOX_SIDE_PX = 3
_DOUBTED_SIGMA = 3.0
_CHANCE_SIGMA = 2.0
_LARGEST_DOUBT = 4.0
# The spread of some 500 offsets is known to a twentieth.
_BANDED = 1.1
_PLANE_CLIPS = 4
_PLANE_SIGMA = 2.5


@dataclass(frozen=True, eq=False, slots=True)
class Channels:
    """What the filters found, each a small map of standard deviations.

    Attributes:
        point: highest significance of new light of the PSF's shape, (32, 32).
        hole: the same of missing light.
        sharp: highest significance of light in 3 x 3 px, whatever the PSF, (32, 32).
        streak: of straight streaks, (16, 16).
        line: of lines across the frame, pooled over (angle, offset), (20, 16).
        column: of single columns, either sign, (64,).
        row: of single rows.
        sky: level of cells of sky over a plane, signed, in units of its own photon noise, (16, 16).
        cloud: the same of 16 such cells each, (4, 4): what is faint and wide.
        whole: width and elongation of the PSF, flux and noise of the whole frame, signed, (5,); from `measure_whole`.
    """

    point: Floats
    hole: Floats
    sharp: Floats
    streak: Floats
    line: Floats
    column: Floats
    row: Floats
    sky: Floats
    cloud: Floats
    whole: Floats

    def flat(self) -> dict[str, Floats]:
        """By name, flattened, in the order of the vector."""
        return {name: np.asarray(getattr(self, name)).ravel() for name in NAMES}


NAMES = ("point", "hole", "sharp", "streak", "line", "column", "row", "sky", "cloud", "whole")
SIZES = {
    "point": POINT_CELLS[0] * POINT_CELLS[1],
    "hole": POINT_CELLS[0] * POINT_CELLS[1],
    "sharp": POINT_CELLS[0] * POINT_CELLS[1],
    "streak": STREAK_CELLS[0] * STREAK_CELLS[1],
    "line": LINE_CELLS[0] * LINE_CELLS[1],
    "column": AXIS_CELLS,
    "row": AXIS_CELLS,
    "sky": SKY_CELLS[0] * SKY_CELLS[1],
    "cloud": SKY_CELLS[0] * SKY_CELLS[1] // 16,
    "whole": len(WHOLE),
}


@dataclass(frozen=True, eq=False, slots=True)
class Significance:
    """Channels, and what places are drawn from.

    Attributes:
        channels: small maps.
        point: significance of a point source at each pixel.
        sharp: the same of light in 3 x 3 px.
        normal: residual in standard deviations, clipped at four, with the offsets of its rows and columns.
        lines: the likeliest lines across the frame.
    """

    channels: Channels
    point: Image
    sharp: Image
    normal: Image
    lines: tuple[Line, ...]


def measure_channels(difference: Image, weight: Image, psf: Image, whole: Floats) -> Significance:
    """Filter a residual for points, holes, streaks, lines, columns, rows and clouds.

    Args:
        difference: frame minus expectation, sky plane subtracted, shape (height, width).
        weight: 1 / variance, 0 where a pixel is masked.
        psf: stamp of the frame's PSF, float32, sum 1.
        whole: from `measure_whole`.
    """
    root = np.sqrt(weight)
    normal = np.clip(difference * root, -_CLIP_SIGMA, _CLIP_SIGMA)
    sky, local = _measure_sky(normal, root)
    flat = difference - local
    known = (weight > 0).astype(np.float32)
    banded = np.clip(flat * root, -_CLIP_SIGMA, _CLIP_SIGMA)
    column, row = (_measure_axis(banded, known, axis) for axis in (0, 1))
    flat = remove_bands(flat, root)
    normal = flat * root
    light = normal * root
    points = filter_points(light, weight, psf)
    point = points.significance
    sharp = filter_boxes(light, weight)
    fair, even = doubt_misfits(point, normal, _PSF_SIDE_PX), doubt_misfits(sharp, normal, _BOX_SIDE_PX)
    # The light of a faint streak lies on many pixels: clipped so low a ray of a few is none, and a bright one stays.
    streak = filter_streaks(np.clip(normal, -_STREAK_CLIP_SIGMA, _STREAK_CLIP_SIGMA) * root, weight, psf)
    np.clip(normal, -_CLIP_SIGMA, _CLIP_SIGMA, out=normal)
    side = LINE_BIN_PX
    share = sum_blocks(known, side) / np.float32(side * side)
    line, lines = sharpen_lines(filter_lines(sum_blocks(normal, side) / np.float32(side), share), points, psf)
    channels = Channels(
        pool(fair, POINT_CELLS),
        pool(-fair, POINT_CELLS),
        pool(even, POINT_CELLS),
        pool(streak, STREAK_CELLS),
        pool(np.abs(line), LINE_CELLS),
        column,
        row,
        sky,
        _merge_cells(sky),
        whole,
    )
    return Significance(channels, point, sharp, banded, lines)


def doubt_misfits(significance: Image, normal: Image, side: int) -> Image:
    """Significances of a fit divided by the root of its reduced chi square, where that is more than chance makes it.

    What does not have the shape that was fitted is less sure than its light alone says, by the usual scale factor of
    poor fits (Rosenfeld et al. 1967, Rev. Mod. Phys. 39, 1). So cosmic rays count less. The factor is limited, for the
    misfit of a bright star is that of its PSF.

    Args:
        significance: of a shape at every pixel.
        normal: residual over its standard deviation, same shape.
        side: odd side of the square that the fit is compared in, px.
    """
    row, column = np.nonzero(np.abs(significance) > _DOUBTED_SIGMA)
    doubted = significance.copy()
    reach = side // 2
    squares = np.pad(np.square(normal / measure_excess(normal)), reach)
    total = np.zeros(row.size, dtype=np.float64)
    for down in range(side):
        for right in range(side):
            total += squares[row + down, column + right]
    freedom = side**2 - 1
    fitted = significance[row, column]
    misfit = (total - np.square(fitted.astype(np.float64))) / freedom / (1 + _CHANCE_SIGMA * math.sqrt(2 / freedom))
    doubted[row, column] = fitted / np.sqrt(np.clip(misfit, 1, _LARGEST_DOUBT**2))
    return doubted


def remove_bands(flat: Image, root: Image) -> Image:
    """Take off the offsets that rows and columns have as a population: noise of the read-out, common to many pixels.

    An offset is measured with noise, so only its likely share is taken: one less the variance of noise over that of all
    offsets (James & Stein 1961). A single row far off the others is no such noise and stays.

    Args:
        flat: residual over its local sky.
        root: one over the standard deviation of each pixel, 0 where masked.
    """
    weight = root * root
    for axis in (1, 0):
        light = (np.clip(flat * root, -_CLIP_SIGMA, _CLIP_SIGMA) * root).sum(axis=axis, keepdims=True)
        total = weight.sum(axis=axis, keepdims=True)
        known = total > 0
        strength = np.divide(light, np.sqrt(total), out=np.zeros_like(light), where=known)
        excess = float(measure_excess(strength))
        if excess <= _BANDED:
            continue
        usual = known & (np.abs(strength) <= _CLIP_SIGMA * excess)
        offset = np.divide(light, total, out=np.zeros_like(light), where=usual)
        flat = np.where(root > 0, flat - np.float32(1 - 1 / excess**2) * offset, np.float32(0))
    return flat


def pool(values: Image, grid: tuple[int, int]) -> Floats:
    """Maximum over each cell of a grid; a map smaller than the grid repeats its nearest pixel."""
    rows = np.arange(grid[0]) * values.shape[0] // grid[0]
    columns = np.arange(grid[1]) * values.shape[1] // grid[1]
    # Bands first: along the first axis whole rows are compared at once.
    bands = np.maximum.reduceat(values, rows, axis=0)
    return np.maximum.reduceat(bands, columns, axis=1).astype(np.float64)


def _measure_sky(normal: Image, root: Image) -> tuple[Floats, Image]:
    """Sky cells in standard deviations of their mean, and the sky between fine cells in the units of the residual.

    Means of clipped pixels: nearly as sharp as plain means, and a star left over counts as four sigma at most.
    """
    known = (root > 0).astype(np.float32)
    level, count = average_cells(normal, known, SKY_CELLS)
    fine = tuple(max(1, length // _LOCAL_SKY_PX) for length in normal.shape)
    clipped = np.divide(normal, root, out=np.zeros_like(normal), where=root > 0)
    local, _ = average_cells(clipped, root * root, (fine[0], fine[1]))
    return _take_plane_off(level, count), spread_cells(local, normal.shape)


def _take_plane_off(level: Floats, count: Floats) -> Floats:
    """Cells over the plane through most of them, in standard deviations."""
    error = 1 / np.sqrt(np.maximum(count, 1))
    rows, columns = (np.ravel(v) for v in np.indices(level.shape))
    design = np.column_stack([np.ones(rows.size), rows, columns]).astype(np.float64)
    values, weight = level.ravel(), np.sqrt(count.ravel())
    kept = weight > 0
    plane = np.zeros(3)
    for _ in range(_PLANE_CLIPS):
        if np.count_nonzero(kept) < 2 * design.shape[1]:
            break
        solved = np.linalg.lstsq(design[kept] * weight[kept, None], values[kept] * weight[kept], rcond=None)
        plane = np.asarray(solved[0], dtype=np.float64)
        off = np.abs(values - design @ plane) * weight
        kept = (weight > 0) & (off <= max(_PLANE_SIGMA, _PLANE_SIGMA * measure_spread(off[kept])))
    return np.where(count > 0, (level - (design @ plane).reshape(level.shape)) / error, 0)


def _merge_cells(sky: Floats) -> Floats:
    rows, columns = sky.shape
    return np.asarray(sky.reshape(rows // 4, 4, columns // 4, 4).sum(axis=(1, 3)) / 4)


def _measure_axis(normal: Image, known: Image, axis: int) -> Floats:
    """Strongest column (axis 0) or row (axis 1) of each of 64 groups, over its whole length and either half."""
    length = normal.shape[axis]
    starts = [0, length // 2]
    light = np.add.reduceat(normal, starts, axis=axis, dtype=np.float64)
    count = np.add.reduceat(known, starts, axis=axis, dtype=np.float64)
    if axis == 1:
        light, count = light.T, count.T
    light, count = np.vstack([light, light.sum(axis=0)]), np.vstack([count, count.sum(axis=0)])
    usual = np.median(count, axis=1, keepdims=True)
    strength = np.where(count > 0.25 * usual, light / np.sqrt(np.maximum(count, 1)), 0)
    best = np.abs(strength / measure_excess(strength)).max(axis=0)
    places = np.arange(AXIS_CELLS) * best.size // AXIS_CELLS
    return np.maximum.reduceat(best, places)
