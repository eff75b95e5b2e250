"""Residual -> channels: small maps of how significant the strangest thing of each kind is, cell by cell."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.axes import measure_axes, remove_bands
from pipeline.difference.bands import list_bands
from pipeline.difference.filters import BIN_PX, filter_boxes, filter_points, filter_streaks, measure_excess, sum_blocks
from pipeline.difference.layout import LINE_CELLS, NAMES, POINT_CELLS, SKY_CELLS, STREAK_CELLS
from pipeline.difference.lines import Line, choose_bin, filter_lines, sharpen_lines
from pipeline.difference.robust import measure_spread
from pipeline.difference.sky import average_cells, spread_cells

Image = NDArray[np.float32]
Floats = NDArray[np.float64]

_CLIP_SIGMA = 4.0
_STREAK_CLIP_SIGMA = 2.5
_LOCAL_SKY_PX = 32
_PSF_SIDE_PX = 5
_BOX_SIDE_PX = 3
_DOUBTED_SIGMA = 3.0
_CHANCE_SIGMA = 2.0
_LARGEST_DOUBT = 4.0
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
    sky, local = _measure_sky(difference, weight)
    flat = _subtract_local(difference, local)
    column, row = measure_axes(flat, weight)
    normal = _divide(remove_bands(flat, weight), weight)
    points = filter_points(normal, weight, psf)
    rise, fall = _pool_doubted(points.significance, normal, _PSF_SIDE_PX)
    coarse = filter_lines(*_bin_for_lines(normal, weight))
    line, lines = sharpen_lines(coarse, points, psf)
    point = points.significance
    # Large frames: what is not asked for again makes room for what comes next.
    del points
    streak = pool(filter_streaks(*_bin_for_streaks(normal, weight), psf), STREAK_CELLS)
    sharp = filter_boxes(normal, weight)
    even, _ = _pool_doubted(sharp, normal, _BOX_SIDE_PX)
    del flat, normal
    channels = Channels(
        rise,
        fall,
        even,
        streak,
        pool(np.abs(line), LINE_CELLS),
        column,
        row,
        sky,
        _merge_cells(sky),
        whole,
    )
    banded = _divide(_subtract_local(difference, local), weight)
    return Significance(channels, point, sharp, np.clip(banded, -_CLIP_SIGMA, _CLIP_SIGMA, out=banded), lines)


def _subtract_local(difference: Image, local: Floats) -> Image:
    """The residual over the sky between fine cells."""
    flat = spread_cells(local, (difference.shape[0], difference.shape[1]))
    return np.subtract(difference, flat, out=flat)


def _divide(flat: Image, weight: Image) -> Image:
    """Turn a residual into standard deviations, in its place."""
    for band in list_bands(flat.shape):
        flat[band] *= np.sqrt(weight[band])
    return flat


def _bin_for_lines(normal: Image, weight: Image) -> tuple[Image, Image]:
    side = choose_bin(normal.shape)
    # Single pixels are clipped, so that no star or ray makes a line.
    light = _sum_bands(lambda band: np.clip(normal[band], -_CLIP_SIGMA, _CLIP_SIGMA), normal.shape, side)
    known = _sum_bands(lambda band: (weight[band] > 0).astype(np.float32), normal.shape, side)
    return light / np.float32(side), known / np.float32(side * side)


def _bin_for_streaks(normal: Image, weight: Image) -> tuple[Image, Image]:
    # The light of a faint streak lies on many pixels: clipped so low a ray of a few is none, and a bright one stays.
    def cut_light(band: slice) -> Image:
        return np.clip(normal[band], -_STREAK_CLIP_SIGMA, _STREAK_CLIP_SIGMA) * np.sqrt(weight[band])

    return _sum_bands(cut_light, normal.shape, BIN_PX), sum_blocks(weight, BIN_PX)


def _sum_bands(cut: Callable[[slice], Image], shape: tuple[int, ...], side: int) -> Image:
    """Sums over squares of pixels of what a band of rows is turned into."""
    return np.concatenate([sum_blocks(cut(band), side) for band in list_bands(shape, multiple=side)])


def _pool_doubted(significance: Image, normal: Image, side: int) -> tuple[Floats, Floats]:
    """Highest significance in each cell, and highest of missing light, what has another shape being doubted."""
    row, column, doubted = doubt_misfits(significance, normal, side)
    fitted = significance[row, column]
    significance[row, column] = doubted
    pooled = pool(significance, POINT_CELLS), -pool(significance, POINT_CELLS, np.minimum)
    significance[row, column] = fitted
    return pooled


def doubt_misfits(
    significance: Image, normal: Image, side: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Significances of a fit divided by the root of its reduced chi square, where that is more than chance makes it.

    What does not have the shape that was fitted is less sure than its light alone says, by the usual scale factor of
    poor fits (Rosenfeld et al. 1967, Rev. Mod. Phys. 39, 1). So cosmic rays count less. The factor is limited, for the
    misfit of a bright star is that of its PSF.

    Args:
        significance: of a shape at every pixel.
        normal: residual over its standard deviation, same shape.
        side: odd side of the square that the fit is compared in, px.

    Returns:
        Rows and columns of the pixels over three sigma, of either sign, and what their significances become.
    """
    row, column = np.nonzero((significance > _DOUBTED_SIGMA) | (significance < -_DOUBTED_SIGMA))
    reach = side // 2
    excess = measure_excess(normal)
    total = np.zeros(row.size, dtype=np.float64)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            y, x = row + down, column + right
            inside = (y >= 0) & (y < normal.shape[0]) & (x >= 0) & (x < normal.shape[1])
            total[inside] += np.square(normal[y[inside], x[inside]] / excess)
    freedom = side**2 - 1
    fitted = significance[row, column]
    misfit = (total - np.square(fitted.astype(np.float64))) / freedom / (1 + _CHANCE_SIGMA * math.sqrt(2 / freedom))
    return row, column, fitted / np.sqrt(np.clip(misfit, 1, _LARGEST_DOUBT**2))


def pool(values: Image, grid: tuple[int, int], choose: np.ufunc = np.maximum) -> Floats:
    """Maximum over each cell of a grid, or minimum; a map smaller than the grid repeats its nearest pixel."""
    rows = (np.arange(grid[0] + 1) * values.shape[0] // grid[0]).tolist()
    columns = np.arange(grid[1]) * values.shape[1] // grid[1]
    # Bands first: along the first axis whole rows are compared at once; `reduceat` would take them one by one.
    bands = np.stack([
        choose.reduce(values[top : max(bottom, top + 1)], axis=0)
        for top, bottom in pairwise(rows)
    ])  # fmt: skip
    return np.asarray(choose.reduceat(bands, columns, axis=1), dtype=np.float64)


def _measure_sky(difference: Image, weight: Image) -> tuple[Floats, Floats]:
    """Sky cells in standard deviations of their mean, and finer cells of sky in the units of the residual.

    Means of clipped pixels: nearly as sharp as plain means, and a star left over counts as four sigma at most.
    """

    def cut_normal(band: slice) -> tuple[Image, Image]:
        known = (weight[band] > 0).astype(np.float32)
        return np.clip(difference[band] * np.sqrt(weight[band]), -_CLIP_SIGMA, _CLIP_SIGMA), known

    def cut_clipped(band: slice) -> tuple[Image, Image]:
        root = np.sqrt(weight[band])
        normal = np.clip(difference[band] * root, -_CLIP_SIGMA, _CLIP_SIGMA)
        return np.divide(normal, root, out=np.zeros_like(normal), where=root > 0), weight[band]

    fine = [max(1, length // _LOCAL_SKY_PX) for length in difference.shape]
    level, count = _average(cut_normal, difference.shape[0], SKY_CELLS)
    local, _ = _average(cut_clipped, difference.shape[0], (fine[0], fine[1]))
    return _take_plane_off(level, count), local


def _average(cut: Callable[[slice], tuple[Image, Image]], height: int, grid: tuple[int, int]) -> tuple[Floats, Floats]:
    """`average_cells` of values and weights that are worked out for one row of cells at a time."""
    starts = np.arange(grid[0] + 1) * height // grid[0]
    cells = [
        average_cells(*cut(slice(start, max(stop, start + 1))), (1, grid[1]))
        for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    ]
    return np.concatenate([mean for mean, _ in cells]), np.concatenate([total for _, total in cells])


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
