"""Matched filters: how many standard deviations of light of a known shape lie at every place of a residual."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from pipeline.difference.psf import draw_gaussian
from pipeline.difference.robust import measure_spread

Image = NDArray[np.float32]

STREAK_LENGTHS_PX = (10.0, 28.0)
"""Lengths that streaks are looked for with; between and beside them little is lost (a factor 1.7 costs 13 percent)."""

BIN_PX = 2
"""Streaks are looked for on pixels two wide."""

_WIDTH_STEP = 1.1
_LEAST_WEIGHT = 0.25
_BOX = 9
_EXCESS_SAMPLE = 2**14
_LEAST_SAMPLE = 32
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


def filter_points(light: Image, weight: Image, psf: Image) -> Points:
    """Significance of a point source at every pixel.

    For a difference D of variance V and a PSF P it is sum(P D / V) / sqrt(sum(P^2 / V)), the optimal linear detector of
    a known shape (Turin 1960, IRE Trans. Inf. Theory 6, 311).

    Args:
        light: D / V, shape (height, width), 0 where a pixel says nothing.
        weight: 1 / V, likewise.
        psf: stamp with odd sides, sum 1.
    """
    sizes = _pad_sizes(light.shape, psf.shape)
    kernel = fft.rfft2(_centre(psf, sizes), sizes)
    information = _convolve(weight, fft.rfft2(_centre(psf * psf, sizes), sizes), sizes)
    found = _convolve(light, np.conj(kernel), sizes)
    usual = _usual(weight) * float(np.square(psf).sum())
    known = information > _LEAST_WEIGHT * usual
    significance = np.where(known, found / np.sqrt(np.where(known, information, 1)), 0).astype(np.float32)
    excess = measure_excess(significance)
    return Points(significance / excess, np.where(known, information / excess**2, np.float32(0)))


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


def filter_boxes(light: Image, weight: Image) -> Image:
    """Significance of light spread evenly over 3 x 3 px at every pixel: what no optics made sharp or wide.

    Args:
        light: D / V, shape (height, width), 0 where a pixel says nothing.
        weight: 1 / V, likewise.
    """
    total, information = (_sum_3x3(values) for values in (light, weight))
    known = information > _LEAST_WEIGHT * _BOX * _usual(weight)
    found = np.where(known, total / np.sqrt(np.where(known, information, 1)), 0).astype(np.float32)
    return found / measure_excess(found)


def _sum_3x3(values: Image) -> Image:
    wide = np.pad(values, 1)
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    return np.asarray(rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:])


def filter_streaks(light: Image, weight: Image, psf: Image) -> Image:
    """Highest significance over streaks of some lengths and all directions, on pixels of `BIN_PX`.

    Args:
        light: D / V, shape (height, width).
        weight: 1 / V.
        psf: stamp of the PSF, sum 1.

    Returns:
        float32, shape (height // 2, width // 2).
    """
    light, weight = sum_blocks(light, BIN_PX), sum_blocks(weight, BIN_PX)
    longest = math.ceil(max(STREAK_LENGTHS_PX) / BIN_PX) + psf.shape[0] // BIN_PX + 3
    sizes = _pad_sizes(light.shape, (longest, longest))
    transformed = fft.rfft2(light, sizes)
    middle = _usual(weight)
    # One scale for all kernels: the information changes slowly over a streak where nothing is masked.
    smooth = fft.rfft2(weight, sizes)
    best = np.full(light.shape, -np.inf, dtype=np.float32)
    for length, kernels in _streak_kernels(_round_width(psf), sizes):
        disc = _transform_disc(length / BIN_PX, sizes)
        share = fft.irfft2(smooth * disc, sizes)[: light.shape[0], : light.shape[1]]
        scale = np.sqrt(np.maximum(share, _LEAST_WEIGHT * middle))
        for kernel, norm in kernels:
            found = fft.irfft2(transformed * kernel, sizes)[: light.shape[0], : light.shape[1]]
            found /= norm * scale
            np.maximum(best, found, out=best)
    # Of the last one alone: the highest of many directions is no noise about zero.
    best /= measure_excess(found)
    return best


def _round_width(psf: Image) -> float:
    """Sigma of the Gaussian that is as sharp, in steps of a tenth, so that frames of like seeing share their kernels.

    A kernel so little too wide or too narrow loses less than a hundredth of the significance. The sum of squares of a
    round Gaussian of sum 1 is 1 / (4 pi sigma^2).
    """
    sigma = 1 / math.sqrt(4 * math.pi * float(np.square(psf).sum()))
    return float(_WIDTH_STEP ** round(math.log(sigma) / math.log(_WIDTH_STEP)))


@lru_cache(maxsize=2)
def _streak_kernels(
    sigma: float, sizes: tuple[int, int]
) -> tuple[tuple[float, tuple[tuple[NDArray[np.complex64], np.float32], ...]], ...]:
    blurred = fft.rfft2(_centre(_halve(draw_gaussian(sigma)), sizes), sizes)
    bank = []
    for length in STREAK_LENGTHS_PX:
        # Neighbouring directions part by less than the width of a star at the end of the streak.
        angles = max(6, math.ceil(math.pi * length / 2 / 3.0))
        kernels = []
        for turn in range(angles):
            line = _draw_segment(length / BIN_PX, math.pi * turn / angles, sizes)
            kernel = blurred * fft.rfft2(line, sizes)
            shape_in_place = fft.irfft2(kernel, sizes)
            norm = np.float32(np.sqrt(np.square(shape_in_place).sum()))
            kernels.append((np.conj(kernel).astype(np.complex64), norm))
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


def _usual(weight: Image) -> float:
    known = weight[weight > 0]
    return float(np.median(known[:: max(1, known.size // 4096)])) if known.size else 1.0


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
