"""Cosmic rays on one exposure: sharper than the optics allow, and thin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

SHARP_SIGMA = 4.0
"""How far a pixel must stand over what its neighbours allow, standard deviations."""

_FAINT_SIGMA = 3.0
_SOLID_SIGMA = 2.5
_SOLID_SHARE = 0.25
_PAIRS = (((0, 1), (0, -1)), ((1, 0), (-1, 0)), ((1, 1), (-1, -1)), ((1, -1), (-1, 1)))


def find_cosmic_rays(difference: Image, deviation: Image, psf: Image) -> Mask:
    """Mark pixels hit by cosmic rays, and their rims.

    Light that came through the optics falls off from its peak no faster than the PSF, in every direction. So of the
    four pairs of opposite neighbours even the faintest holds at least the share that the PSF has at that distance. A
    ray crosses one row of pixels: the pair beside its track is empty. Where four pixels of a square all hold charge it
    is no thin track but a cluster of hot pixels, which stays to be found.

    Args:
        difference: the frame minus what is expected.
        deviation: standard deviation of each pixel, same units, above 0.
        psf: stamp of the PSF, sum 1.
    """
    share = _share_at_diagonal(psf)
    marked = np.zeros(difference.shape, dtype=bool)
    row, column = np.nonzero(difference > SHARP_SIGMA * deviation)
    if not row.size:
        return marked
    value, spread = difference[row, column], deviation[row, column]
    # Beyond the border lies the same light again, so that half a star there is no ray.
    difference, deviation = np.pad(difference, 1, mode="reflect"), np.pad(deviation, 1, mode="reflect")
    row, column = row + 1, column + 1
    faintest = np.full(row.size, np.inf, dtype=np.float32)
    for (down, right), (up, left) in _PAIRS:
        pair = (difference[row + down, column + right] + difference[row + up, column + left]) / 2
        faintest = np.minimum(faintest, pair)
    excess = value - np.maximum(faintest, 0) / share
    # The mean of two neighbours, divided by the share, has noise of its own.
    sharp = excess > SHARP_SIGMA * spread * np.sqrt(1 + 0.5 / share**2)
    sharp &= ~_is_solid(difference, deviation, row, column)
    marked[row[sharp] - 1, column[sharp] - 1] = True
    return _grow(marked, (difference > _FAINT_SIGMA * deviation)[1:-1, 1:-1])


def _share_at_diagonal(psf: Image) -> float:
    """Share of the peak that a star has one pixel off along the diagonal, where the PSF is narrowest."""
    middle_row, middle_column = psf.shape[0] // 2, psf.shape[1] // 2
    around = psf[middle_row - 1 : middle_row + 2, middle_column - 1 : middle_column + 2]
    pairs = [(around[1 + a, 1 + b] + around[1 + c, 1 + d]) / 2 for (a, b), (c, d) in _PAIRS]
    return float(np.clip(min(pairs) / around[1, 1], 0.1, 1.0))


def _is_solid(difference: Image, deviation: Image, row: NDArray[np.intp], column: NDArray[np.intp]) -> Mask:
    """Whether a pixel belongs to a square of four that all hold charge of its order."""
    least = np.maximum(_SOLID_SHARE * difference[row, column], _SOLID_SIGMA * deviation[row, column])
    solid = np.zeros(row.size, dtype=bool)
    for down in (-1, 1):
        for right in (-1, 1):
            three = np.minimum(difference[row + down, column], difference[row, column + right])
            solid |= np.minimum(three, difference[row + down, column + right]) > least
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
