"""Cosmic rays on one exposure: sharper than the optics allow, and thin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

SHARP_SIGMA = 4.0
"""How far a pixel must stand over what its neighbours allow, standard deviations."""

_ALONE_SIGMA = 3.0
# A bright star's middle is known no better than its PSF.
_SHAPE_ERROR = 0.1
_FAINT_SIGMA = 3.0
_SOLID_SIGMA = 2.5
_SOLID_SHARE = 0.25
_GROWTHS = 2
# Beyond this a star holds so little that its absence says nothing.
_LEAST_SHARE = 0.1
_REACH = 2
# Half of the offsets to opposite neighbours: beside it, and one further.
_DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))


def find_cosmic_rays(difference: Image, deviation: Image, psf: Image) -> Mask:
    """Mark pixels hit by cosmic rays, and their rims.

    Light that came through the optics falls off from its peak no faster than the PSF, in every direction. So any pair
    of opposite neighbours holds at least the share of a pixel that the PSF has at that distance. A ray crosses one row
    of pixels or two: some pair beside its track is empty. Where nine pixels of a square all hold charge of one order it
    is no track but a cluster of hot pixels, which stays to be found.

    Args:
        difference: the frame minus what is expected.
        deviation: standard deviation of each pixel, same units, above 0.
        psf: stamp of the PSF, sum 1.
    """
    marked = np.zeros(difference.shape, dtype=bool)
    row, column = np.nonzero(difference > SHARP_SIGMA * deviation)
    if not row.size:
        return marked
    stamps, spread = _cut_stamps(difference, row, column), deviation[row, column]
    value = stamps[_REACH, _REACH]
    sharp = np.zeros(row.size, dtype=bool)
    for down, right in _DIRECTIONS:
        share = _share_at(psf, down, right)
        if share < _LEAST_SHARE:
            continue
        pair = (stamps[_REACH + down, _REACH + right] + stamps[_REACH - down, _REACH - right]) / 2
        # The mean of two neighbours, divided by the share, has noise of its own.
        excess = value - np.maximum(pair, 0) / share
        sharp |= excess > SHARP_SIGMA * spread * np.sqrt(1 + 0.5 / share**2)
    sharp |= _is_alone(stamps, spread, _sum_ring(psf))
    sharp &= ~_is_solid(stamps, spread)
    marked[row[sharp], column[sharp]] = True
    faint = difference > _FAINT_SIGMA * deviation
    for _ in range(_GROWTHS):
        marked = _grow(marked, faint)
    return marked


def _cut_stamps(image: Image, row: NDArray[np.intp], column: NDArray[np.intp]) -> Image:
    """Squares of 5 x 5 px around pixels, shape (5, 5, n).

    Beyond the border lies the same light again, so that half a star there is no ray.
    """
    steps = range(-_REACH, _REACH + 1)
    rows = [_reflect(row + step, image.shape[0]) for step in steps]
    columns = [_reflect(column + step, image.shape[1]) for step in steps]
    return np.stack([np.stack([image[y, x] for x in columns]) for y in rows])


def _reflect(place: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    inner = np.abs(place)
    return np.where(inner < length, inner, 2 * (length - 1) - inner)


def _is_alone(stamps: Image, spread: Image, share: float) -> Mask:
    """Whether the eight neighbours together hold less than a star's would: what no single pair is sure of."""
    value = stamps[_REACH, _REACH]
    square = stamps[_REACH - 1 : _REACH + 2, _REACH - 1 : _REACH + 2]
    ring = square.sum(axis=(0, 1), dtype=np.float64) - value
    excess = value - np.maximum(ring, 0) / share
    doubt = np.sqrt(np.square(spread) * (1 + 8 / share**2) + np.square(_SHAPE_ERROR * value))
    return np.asarray(excess > _ALONE_SIGMA * doubt)


def _sum_ring(psf: Image) -> float:
    """Light of a star's eight neighbours over that of its middle: least where it lies on the middle of a pixel."""
    row, column = psf.shape[0] // 2, psf.shape[1] // 2
    square = float(psf[row - 1 : row + 2, column - 1 : column + 2].sum())
    return max(_LEAST_SHARE, square / float(psf[row, column]) - 1)


def _share_at(psf: Image, down: int, right: int) -> float:
    """Share of the peak that a star has at two opposite neighbours, at most 1."""
    row, column = psf.shape[0] // 2, psf.shape[1] // 2
    pair = (psf[row + down, column + right] + psf[row - down, column - right]) / 2
    return float(min(1.0, pair / psf[row, column]))


def _is_solid(stamps: Image, spread: Image) -> Mask:
    """Whether a pixel belongs to a square of nine that all hold charge of its order."""
    charged = np.maximum(_SOLID_SHARE * stamps[_REACH, _REACH], _SOLID_SIGMA * spread)
    solid = np.zeros(charged.size, dtype=bool)
    for down in range(3):
        for right in range(3):
            solid |= stamps[down : down + 3, right : right + 3].min(axis=(0, 1)) > charged
    return solid


def _grow(marked: Mask, faint: Mask) -> Mask:
    """Add touching pixels that are bright themselves: the ends of a track."""
    grown = marked.copy()
    row, column = np.nonzero(marked)
    height, width = marked.shape
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            near_row, near_column = np.clip(row + down, 0, height - 1), np.clip(column + right, 0, width - 1)
            grown[near_row, near_column] |= faint[near_row, near_column]
    return grown
