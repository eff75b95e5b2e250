"""A frame and a reference on one grid and one scale, so that their difference means something to the eye."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST_SIDE = 800
_BLOCK = 3
_STRONG = 5.0
_LEAST_STEPS = 12
_MOST_WEIGHT = 50.0
_TO_SIGMA = 1.4826

Grid = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Plate:
    """Pixels to be drawn.

    Attributes:
        pixels: float32, shape (height, width), row 0 at the bottom of the drawing.
        valid: bool, same shape; what is False is drawn as masked.
        title: file name or message key.
        subtitle: when and how it was taken; may be empty.
    """

    pixels: NDArray[np.float32]
    valid: NDArray[np.bool_]
    title: str
    subtitle: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both images as drawn, masked pixels NaN, all of the same shape.

    Attributes:
        frame: the frame in its own units.
        reference: the reference on the frame's grid, scaled to the frame: `scale * reference + level`.
        difference: frame less scaled reference, in units of `noise`.
        scale: factor of the fit; 1 where the two share too little structure to tell.
        level: offset of the fit, in the frame's units.
        noise: robust standard deviation of the difference, in the frame's units.
    """

    frame: NDArray[np.float64]
    reference: NDArray[np.float64]
    difference: NDArray[np.float64]
    scale: float
    level: float
    noise: float


def choose_grid(shape: Grid) -> tuple[Grid, int]:
    """Rows and columns to draw a frame on, at most 800 a side, and how many pixels a side go into one of them."""
    block = max(1, -(-max(shape) // _MOST_SIDE))
    return (-(-shape[0] // block), -(-shape[1] // block)), block


def compare_plates(frame: Plate, reference: Plate) -> Comparison:
    """Bring the reference to the grid, scale and level of the frame and subtract it.

    Nothing is registered: what differs is what the `pixels` embedding sees. Scale and level come from `fit_line`.
    """
    grid, _ = choose_grid((frame.pixels.shape[0], frame.pixels.shape[1]))
    drawn, other = resample(frame, grid), resample(reference, grid)
    scale, level = fit_line(other, drawn)
    matched = scale * other + level
    difference = drawn - matched
    noise = _measure_noise(difference, drawn)
    return Comparison(drawn, matched, difference / noise, scale, level, noise)


def resample(plate: Plate, grid: Grid) -> NDArray[np.float64]:
    """The mean of the valid pixels in each cell of a grid; the nearest pixel where cells are smaller than pixels.

    Args:
        plate: any shape.
        grid: rows and columns wanted; they cover the whole plate.

    Returns:
        (rows, columns), NaN where a cell has no valid pixel.
    """
    usable = plate.valid & np.isfinite(plate.pixels)
    total = _sum_cells(np.where(usable, plate.pixels, 0.0).astype(np.float64, copy=False), grid)
    count = _sum_cells(usable.astype(np.float64), grid)
    mean: NDArray[np.float64] = np.divide(total, count, out=np.full(grid, np.nan), where=count > 0)
    return mean


def fit_line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Scale and level that bring x to y; both carry noise, either may carry outliers.

    The scale is the weighted median of step in y over step in x, between neighbouring blocks of 3 x 3 pixels, where
    the step in x stands 5 sigma above the usual one. Sky pixels have no say (least squares would let them draw the
    scale towards zero), nor has what is only in y, unless it covers half the structure of x. The level is the median
    of what is left.

    Args:
        x: the reference, NaN where masked.
        y: the frame, same shape, NaN where masked.

    Returns:
        (scale, level); scale 1 where x has fewer than twelve such steps, level 0 where no pixel is valid in both.
    """
    scale = _fit_scale(_steps(_shrink(x)), _steps(_shrink(y)))
    left = y - scale * x
    left = left[np.isfinite(left)]
    return scale, float(np.median(left)) if left.size else 0.0


def _fit_scale(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    usual = _spread(x)
    strong = np.abs(x) >= _STRONG * usual
    if int(strong.sum()) < _LEAST_STEPS:
        return 1.0
    ratio, weight = y[strong] / x[strong], np.minimum(np.abs(x[strong]), _MOST_WEIGHT * usual)
    order = np.argsort(ratio)
    reached = np.cumsum(weight[order])
    scale = float(ratio[order][np.searchsorted(reached, reached[-1] / 2)])
    return scale if scale > 0 else 1.0


def _shrink(image: NDArray[np.float64]) -> NDArray[np.float64]:
    rows, columns = (max(1, side // _BLOCK) for side in image.shape)
    cut = image[: rows * _BLOCK, : columns * _BLOCK] if min(image.shape) >= _BLOCK else image[:1, :1]
    return _sum_cells(cut, (rows, columns))


def _steps(image: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([np.diff(image, axis=0).ravel(), np.diff(image, axis=1).ravel()])


def _measure_noise(difference: NDArray[np.float64], frame: NDArray[np.float64]) -> float:
    """Robust standard deviation; from the frame's own pixels where most of the two images are equal."""
    known = difference[np.isfinite(difference)]
    if known.size == 0:
        return 1.0
    robust = _TO_SIGMA * float(np.median(np.abs(known - np.median(known))))
    if robust > 0:
        return robust
    steps = _steps(frame)
    return _spread(steps[np.isfinite(steps)]) / float(np.sqrt(2))


def _spread(values: NDArray[np.float64]) -> float:
    """Robust standard deviation, never zero: integer images can have most steps equal."""
    if values.size == 0:
        return 1.0
    robust = _TO_SIGMA * float(np.median(np.abs(values - np.median(values))))
    return robust if robust > 0 else float(np.std(values)) or 1.0


def _sum_cells(image: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    for axis, cells in enumerate(grid):
        pixels = image.shape[axis]
        if pixels > cells:
            starts = np.arange(cells) * pixels // cells
            image = np.add.reduceat(image, starts, axis=axis)
        elif pixels < cells:
            image = np.take(image, (np.arange(cells) * 2 + 1) * pixels // (2 * cells), axis=axis)
    return image
