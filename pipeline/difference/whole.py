"""What is wrong with a frame as a whole: out of focus, badly tracked, exposed unlike its references."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.psf import measure_sigma

Image = NDArray[np.float32]
Floats = NDArray[np.float64]

USUAL_CHANGES = (0.15, 0.05, 0.05, 0.1, 0.15)
"""How much each of `layout.WHOLE` changes from night to night without being news: logarithms of seeing, transparency
and sky noise, and the elongation of stars."""

_WINDOW_SIGMA = 2.0
_PASSES = 4


def measure_whole(psf: Image, reference: Image, flux: float, noise: float) -> Floats:
    """A frame's PSF, flux and noise against its reference's, in units of their usual changes.

    Args:
        psf: stamp of the frame's PSF, sum 1.
        reference: stamp of the reference's, turned to the frame's axes.
        flux: of the frame over the reference's.
        noise: standard deviation of its sky, units of the frame.

    Returns:
        (5,): logarithm of the ratio of widths, elongation along and across the diagonals less the reference's,
        logarithms of the flux scale and of the noise; the last has no zero but what references have.
    """
    width = math.log(measure_sigma(psf) / measure_sigma(reference))
    mine, theirs = measure_elongation(psf), measure_elongation(reference)
    values = (width, mine[0] - theirs[0], mine[1] - theirs[1], math.log(max(flux, 1e-3)), math.log(max(noise, 1e-30)))
    return np.asarray(np.divide(values, USUAL_CHANGES))


def measure_elongation(stamp: Image) -> tuple[float, float]:
    """(xx - yy) / (xx + yy) and 2 xy / (xx + yy) of the second moments under a round window as wide as the stamp.

    A window keeps the noise of the rim out; its width follows the moments it gives (Bernstein & Jarvis 2002, AJ 123,
    583, without their corrections: stamps are compared with stamps).
    """
    y, x = np.indices(stamp.shape) - np.asarray([n // 2 for n in stamp.shape])[:, None, None]
    variance = measure_sigma(stamp) ** 2
    xx = yy = variance
    xy = 0.0
    for _ in range(_PASSES):
        weight = stamp * np.exp(-(x * x + y * y) / (2 * _WINDOW_SIGMA**2 * max(variance, 0.25)))
        total = float(weight.sum())
        xx, yy = float((weight * x * x).sum()) / total, float((weight * y * y).sum()) / total
        xy, variance = float((weight * x * y).sum()) / total, (xx + yy) / 2
    size = max(xx + yy, 1e-6)
    return (xx - yy) / size, 2 * xy / size
