"""What stays with the detector while the sky moves over it: hot and dead pixels, columns, glow."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.difference.robust import MAD_TO_SIGMA
from pipeline.difference.sky import average_cells, spread_cells
from pipeline.difference.subtract import Exposure

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

LEAST_FRAMES = 5
"""References of one shape that it takes to tell the detector from the sky."""

_SIGNIFICANT = 5.0
_RESTLESS = 3.0
_STRONG = 3.0
_MOST_RESTLESS = 0.05
_MOSTLY = 0.5
_SETTLING_PX = 4
_BAND_ROWS = 64
_BROAD_PX = 32
# Standard error of a median of normal numbers over that of their mean.
_MEDIAN_ERROR = 1.2533


@dataclass(frozen=True, eq=False, slots=True)
class Detector:
    """The pattern of a detector, in the units of its frames; shapes (height, width).

    Attributes:
        pattern: what every frame shows at the same pixels: what stands out, and what is broad.
        flawed: pixels that scatter far more than their noise.
    """

    pattern: Image
    flawed: Mask

    def correct(self, frame: Exposure) -> Exposure:
        """The frame without the pattern; a frame of another shape as it is."""
        if frame.light.shape != self.pattern.shape:
            return frame
        return replace(frame, light=frame.light - self.pattern, usable=frame.usable & ~self.flawed)


def learn_detector(residuals: Image, known: Mask, noise: float) -> Detector:
    """Learn from residuals of frames that the sky moved over.

    Where the camera never moves the references hold the pattern themselves, and nothing is left to learn.

    Args:
        residuals: frames minus what their references say, float32 (n, height, width), detector pixels.
        known: same shape.
        noise: typical standard deviation of a pixel.
    """
    shape = residuals.shape[1:]
    middle, spread = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    counts = np.zeros(shape, dtype=np.int32)
    for top in range(0, shape[0], _BAND_ROWS):
        band = slice(top, top + _BAND_ROWS)
        values = np.where(known[:, band], residuals[:, band], np.nan).astype(np.float32)
        counts[band] = known[:, band].sum(axis=0)
        enough = counts[band] >= LEAST_FRAMES
        values[:, ~enough] = 0
        middle[band] = np.nanmedian(values, axis=0)
        spread[band] = MAD_TO_SIGMA * np.nanmedian(np.abs(values - middle[band]), axis=0)
    error = (_MEDIAN_ERROR * np.maximum(spread, noise) / np.sqrt(np.maximum(counts, 1))).astype(np.float32)
    enough = counts >= LEAST_FRAMES
    broad = _find_broad(middle, enough, error)
    lines = broad + _find_lines(middle - broad, enough, error)
    left = middle - lines
    pattern = lines + np.where(np.abs(left) > _SIGNIFICANT * error, left, np.float32(0))
    # A strong pattern follows temperature and sky: what is subtracted today is off tomorrow by more than noise.
    flawed = (spread > _RESTLESS * noise) | (np.abs(pattern - broad) > _STRONG * noise)
    rims = _find_dead_rims(flawed | ~enough)
    # Where much of the frame is restless it is no flaw of single pixels.
    if np.count_nonzero(flawed) > _MOST_RESTLESS * flawed.size:
        flawed = np.zeros(shape, dtype=bool)
    return Detector(pattern, flawed | rims)


def _find_dead_rims(flawed: Mask) -> Mask:
    """Rows and columns that are mostly flawed, and those next to them: the read-out settles over a few pixels."""
    rims = np.zeros(flawed.shape, dtype=bool)
    for axis in (0, 1):
        dead = flawed.mean(axis=axis, keepdims=True) > _MOSTLY
        if dead.any():
            beside = np.ones((3, 1) if axis else (1, 3))
            rims |= ndimage.binary_dilation(dead, structure=beside, iterations=_SETTLING_PX)
    return rims


def _find_broad(middle: Image, known: Mask, error: Image) -> Image:
    """Vignetting and glow: means of cells, linear between them."""
    clipped = np.clip(middle, -_SIGNIFICANT * error, _SIGNIFICANT * error)
    grid = (max(1, middle.shape[0] // _BROAD_PX), max(1, middle.shape[1] // _BROAD_PX))
    cells, _ = average_cells(clipped, known.astype(np.float32), grid)
    return spread_cells(cells, (middle.shape[0], middle.shape[1]))


def _find_lines(middle: Image, known: Mask, error: Image) -> Image:
    """Columns, then rows, that are off as a whole."""
    lines = np.zeros_like(middle)
    for axis in (0, 1):
        count = known.sum(axis=axis, keepdims=True)
        clipped = np.where(known, np.clip(middle - lines, -_SIGNIFICANT * error, _SIGNIFICANT * error), 0)
        mean = clipped.sum(axis=axis, keepdims=True) / np.maximum(count, 1)
        doubt = float(np.median(error)) / np.sqrt(np.maximum(count, 1))
        lines = lines + np.where(np.abs(mean) > _SIGNIFICANT * doubt, mean, 0).astype(np.float32)
    return np.asarray(lines, dtype=np.float32)
