"""Matched filters: how many standard deviations of light of a known shape lie at every place of a residual."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from pipeline.difference.bands import list_bands
from pipeline.difference.psf import draw_gaussian, measure_sigma
from pipeline.difference.robust import measure_spread

Image = NDArray[np.float32]
Window = tuple[slice, slice]
Tile = tuple[Window, Window, Window]
"""What a tile is worked out from; where in that, and where in the frame, the tile itself lies."""

Bank = tuple[tuple[float, tuple[NDArray[np.complex64], ...]], ...]

STREAK_LENGTHS_PX = (10.0, 28.0)
"""Lengths that streaks are looked for with; between and beside them little is lost (a factor 1.7 costs 13 percent)."""

BIN_PX = 2
"""Streaks are looked for on pixels two wide."""

_LEAST_WEIGHT = 0.25
_TILE_BINS = 256
_TILE_PX = 512
_WIDTH_STEP = 1.06
_LEAST_WIDTH_PX = 0.5
_BOX = 9
_EXCESS_SAMPLE = 2**14
_LEAST_SAMPLE = 32
_USUAL_SAMPLE = 4096
_LEAST_EXCESS = 0.8


@dataclass(frozen=True, eq=False, slots=True)
class Points:
    """What a point-source fit says at every pixel; all float32, shape (height, width).

    Attributes:
        significance: 0 where less than a quarter of the usual information is left.
        information: sum of P^2 / V: one over the variance of the fitted flux.
    """

    significance: Image
    information: Image


def filter_points(normal: Image, weight: Image, psf: Image) -> Points:
    """Significance of a point source at every pixel.

    For a difference D of variance V and a PSF P it is sum(P D / V) / sqrt(sum(P^2 / V)), the optimal linear detector of
    a known shape (Turin 1960, IRE Trans. Inf. Theory 6, 311).

    Args:
        normal: D / sqrt(V), shape (height, width), 0 where a pixel says nothing.
        weight: 1 / V, likewise.
        psf: stamp with odd sides, sum 1.
    """
    reach = (psf.shape[0] // 2, psf.shape[1] // 2)
    tiles, longest = _lay_tiles((normal.shape[0], normal.shape[1]), reach)
    sizes = _pad_sizes(longest, psf.shape)
    kernel = np.conj(fft.rfft2(_centre(psf, sizes), sizes))
    squared = fft.rfft2(_centre(psf * psf, sizes), sizes)
    least = _LEAST_WEIGHT * measure_usual(weight) * float(np.square(psf).sum())
    significance, information = np.empty_like(normal), np.empty_like(normal)
    for wide, inner, own in tiles:
        light = normal[wide] * np.sqrt(weight[wide])
        share = _convolve(weight[wide], squared, sizes)[inner]
        found = _convolve(light, kernel, sizes)[inner]
        known = share > least
        significance[own] = np.where(known, found / np.sqrt(np.where(known, share, 1)), 0)
        information[own] = np.where(known, share, np.float32(0))
    excess = measure_excess(significance)
    significance /= excess
    information /= excess**2
    return Points(significance, information)


def _lay_tiles(shape: tuple[int, int], reach: tuple[int, int]) -> tuple[list[Tile], tuple[int, int]]:
    """Even tiles with what lies around them, and the longest sides of these: transforms of whole frames want memory."""
    parts, longest = [], []
    for length, rim in zip(shape, reach, strict=True):
        side = -(-length // -(-length // _TILE_PX))
        own = [slice(start, min(length, start + side)) for start in range(0, length, side)]
        wide = [slice(max(0, part.start - rim), min(length, part.stop + rim)) for part in own]
        inner = [slice(o.start - w.start, o.stop - w.start) for o, w in zip(own, wide, strict=True)]
        parts.append(list(zip(wide, inner, own, strict=True)))
        longest.append(max(w.stop - w.start for w in wide))
    tiles = [tuple(zip(down, across, strict=True)) for down in parts[0] for across in parts[1]]
    return [(wide, inner, own) for wide, inner, own in tiles], (longest[0], longest[1])


def measure_excess(significance: NDArray[np.floating]) -> np.float32:
    """How much wider a map of significances is than independent noise of the stated variance would make it.

    Pixels of resampled or compressed frames are not independent, and patterns of the read-out are no noise of single
    pixels: what the filter sees on most of the frame is what its peaks must stand over.

    Returns:
        Robust standard deviation of a sample of the values that are not 0, at least 0.8; 1 where there are too few.
    """
    values = significance.ravel()
    values = values[:: max(1, values.size // _EXCESS_SAMPLE)]
    values = values[values != 0]
    if values.size < _LEAST_SAMPLE:
        return np.float32(1)
    return np.float32(max(_LEAST_EXCESS, measure_spread(values)))


def filter_boxes(normal: Image, weight: Image) -> Image:
    """Significance of light spread evenly over 3 x 3 px at every pixel: what no optics made sharp or wide.

    Args:
        normal: D / sqrt(V), shape (height, width), 0 where a pixel says nothing.
        weight: 1 / V, likewise.
    """
    found = np.empty_like(normal)
    least = _LEAST_WEIGHT * _BOX * measure_usual(weight)
    for band in list_bands(normal.shape):
        wide = slice(max(0, band.start - 1), band.stop + 1)
        inner = slice(band.start - wide.start, band.stop - wide.start)
        light = normal[wide] * np.sqrt(weight[wide])
        total, information = (_sum_3x3(values)[inner] for values in (light, weight[wide]))
        known = information > least
        found[band] = np.where(known, total / np.sqrt(np.where(known, information, 1)), 0)
    found /= measure_excess(found)
    return found


def _sum_3x3(values: Image) -> Image:
    wide = np.pad(values, 1)
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    return np.asarray(rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:])


def filter_streaks(light: Image, weight: Image, psf: Image) -> Image:
    """Highest significance over streaks of some lengths and all directions, on pixels of `BIN_PX`.

    Args:
        light: D / V, summed over pixels of `BIN_PX`; shape (rows, columns).
        weight: 1 / V, likewise.
        psf: stamp of the PSF on single pixels, sum 1.

    Returns:
        float32, shape (rows, columns).
    """
    reach = math.ceil(max(STREAK_LENGTHS_PX) / 2 / BIN_PX) + psf.shape[0] // 2 // BIN_PX + 2
    # Whole frames would want kernels as large as themselves, by the dozen.
    sides = [min(n, _TILE_BINS) for n in light.shape]
    sizes = _pad_sizes((sides[0] + 2 * reach, sides[1] + 2 * reach), (1, 1))
    kernels = _streak_kernels(_grade_width(psf), sizes)
    middle = measure_usual(weight)
    best, single = np.empty_like(light), np.empty_like(light)
    for top in range(0, light.shape[0], sides[0]):
        for left in range(0, light.shape[1], sides[1]):
            rows, columns = (
                slice(max(0, top - reach), top + sides[0] + reach),
                slice(max(0, left - reach), left + sides[1] + reach),
            )
            found, last = _filter_tile(light[rows, columns], weight[rows, columns], kernels, sizes, middle)
            inner = (
                slice(top - rows.start, top - rows.start + sides[0]),
                slice(left - columns.start, left - columns.start + sides[1]),
            )
            best[top : top + sides[0], left : left + sides[1]] = found[inner]
            single[top : top + sides[0], left : left + sides[1]] = last[inner]
    # Of one direction alone: the highest of many is no noise about zero.
    best /= measure_excess(single)
    return best


def _filter_tile(
    light: Image, weight: Image, kernels: Bank, sizes: tuple[int, int], middle: float
) -> tuple[Image, Image]:
    """Highest significance over all kernels, and that of the last one."""
    transformed, smooth = fft.rfft2(light, sizes), fft.rfft2(weight, sizes)
    best = np.full(light.shape, -np.inf, dtype=np.float32)
    found = best
    for length, turned in kernels:
        disc = _transform_disc(length / BIN_PX, sizes)
        # One scale for all kernels: the information changes slowly over a streak where nothing is masked.
        share = fft.irfft2(smooth * disc, sizes)[: light.shape[0], : light.shape[1]]
        scale = 1 / np.sqrt(np.maximum(share, _LEAST_WEIGHT * middle))
        for kernel in turned:
            found = fft.irfft2(transformed * kernel, sizes)[: light.shape[0], : light.shape[1]]
            found *= scale
            np.maximum(best, found, out=best)
    return best, found


def _grade_width(psf: Image) -> int:
    """The width of a PSF in steps of a few percent: kernels so little off lose nothing, and serve many frames."""
    return round(math.log(max(measure_sigma(psf), _LEAST_WIDTH_PX)) / math.log(_WIDTH_STEP))


@lru_cache(maxsize=8)
def _streak_kernels(grade: int, sizes: tuple[int, int]) -> Bank:
    """For each length the transforms of its kernels, conjugate, their squares summing to one."""
    blurred = fft.rfft2(_centre(_halve(draw_gaussian(_WIDTH_STEP**grade)), sizes), sizes)
    bank = []
    for length in STREAK_LENGTHS_PX:
        # Neighbouring directions part by less than the width of a star at the end of the streak.
        angles = max(6, math.ceil(math.pi * length / 2 / 3.0))
        kernels = []
        for turn in range(angles):
            line = _draw_segment(length / BIN_PX, math.pi * turn / angles, sizes)
            kernel = blurred * fft.rfft2(line, sizes)
            norm = np.float32(np.sqrt(np.square(fft.irfft2(kernel, sizes)).sum()))
            kernels.append(np.asarray(np.conj(kernel) / norm, dtype=np.complex64))
        bank.append((length, tuple(kernels)))
    return tuple(bank)


def _halve(psf: Image) -> Image:
    """A stamp on pixels twice as wide, averaged over where the grid may lie; its peak in the middle of one."""
    half = psf.shape[0] // 2
    wide = np.pad(psf, 1 + (half + 1) % 2)
    for axis in (0, 1):
        wide = ndimage.convolve1d(wide, np.array([0.5, 1.0, 0.5], dtype=np.float32), axis=axis, mode="constant")
    return np.ascontiguousarray(wide[::2, ::2])


def _draw_segment(length: float, angle: float, sizes: tuple[int, int]) -> Image:
    """A line of sum 1 through the origin, its pixels shared out linearly, wrapped around."""
    canvas = np.zeros(sizes, dtype=np.float32)
    steps = np.linspace(-0.5, 0.5, max(2, math.ceil(4 * length)) + 1) * length
    x, y = steps * math.cos(angle), steps * math.sin(angle)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        share = np.abs(1 - right - (x - left)) * np.abs(1 - down - (y - top))
        np.add.at(canvas, ((top + down) % sizes[0], (left + right) % sizes[1]), share.astype(np.float32))
    return np.asarray(canvas / canvas.sum())


@lru_cache(maxsize=8)
def _transform_disc(diameter: float, sizes: tuple[int, int]) -> NDArray[np.complex64]:
    rows = np.minimum(np.arange(sizes[0]), sizes[0] - np.arange(sizes[0]))[:, None]
    columns = np.minimum(np.arange(sizes[1]), sizes[1] - np.arange(sizes[1]))
    disc = (np.hypot(rows, columns) <= diameter / 2).astype(np.float32)
    return np.asarray(fft.rfft2(disc / disc.sum(), sizes), dtype=np.complex64)


def sum_blocks(image: Image, side: int) -> Image:
    """Sums over squares of pixels; a rim that fills no square is left out."""
    rows, columns = image.shape[0] // side, image.shape[1] // side
    blocks = image[: rows * side, : columns * side].reshape(rows, side, columns * side).sum(axis=1)
    return np.asarray(blocks.reshape(rows, columns, side).sum(axis=2))


def measure_usual(weight: Image) -> float:
    """Median of the weights that are not 0, of a sample of them; 1 where there are none."""
    step = max(1, int(np.count_nonzero(weight > 0)) // _USUAL_SAMPLE)
    chosen, seen = [np.zeros(0, dtype=np.float32)], 0
    for band in list_bands(weight.shape):
        known = weight[band][weight[band] > 0]
        chosen.append(known[-seen % step :: step])
        seen += known.size
    return float(np.median(np.concatenate(chosen))) if seen else 1.0


def _pad_sizes(shape: tuple[int, ...], stamp: tuple[int, ...]) -> tuple[int, int]:
    # Half a stamp of zeros keeps opposite borders apart.
    rows, columns = (fft.next_fast_len(n + k // 2, real=True) for n, k in zip(shape, stamp, strict=True))
    return int(rows), int(columns)


def _centre(stamp: Image, sizes: tuple[int, int]) -> Image:
    canvas = np.zeros(sizes, dtype=np.float32)
    canvas[: stamp.shape[0], : stamp.shape[1]] = stamp
    return np.roll(canvas, (-(stamp.shape[0] // 2), -(stamp.shape[1] // 2)), axis=(0, 1))


def _convolve(image: Image, kernel: NDArray[np.complex64], sizes: tuple[int, int]) -> Image:
    whole = fft.irfft2(fft.rfft2(image, sizes) * kernel, sizes)
    return np.asarray(whole[: image.shape[0], : image.shape[1]], dtype=np.float32)
