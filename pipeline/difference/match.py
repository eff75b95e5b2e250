"""Match flux and PSF of the reference to the frame, and learn from what is left how noise grows with light."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from pipeline.difference.bands import list_bands
from pipeline.difference.derivatives import combine, combine_at_centre, count_unknowns, derive, design, prior_widths
from pipeline.difference.psf import measure_widths
from pipeline.difference.robust import measure_spread
from pipeline.difference.sources import Sources

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

MOST_PIXELS = 24_000
"""Pixels that the match is fitted to; some thirty unknowns need no more."""

_BRIGHT_SIGMA = 4.0
_FIRST_MISMATCH = 0.02
_LEAST_WIDENING = 0.02
_CLIPS = 3
_CLIP_SIGMA = 5.0
_BRIGHT_STAR_SIGMA = 15.0
_STARS = 150
_BINS = 24
_LEAST_IN_BIN = 60
# The median of the square of a standard normal number.
_MEDIAN_SQUARE = 0.4549


@dataclass(frozen=True, eq=False, slots=True)
class Match:
    """The reference as this frame would show it.

    Attributes:
        light: expected light above the sky, float32, shape of the frame.
        psf: stamp of the frame's PSF at its middle, odd sides, sum 1.
        flux: frame's flux scale over the reference's, at the middle.
        widening: variance that the reference was blurred by before the fit, px squared.
        photon: growth of the variance with light, units of the image (1 / gain).
        mismatch: standard deviation of what is left over light, a share.
    """

    light: Image
    psf: Image
    flux: float
    widening: float
    photon: float
    mismatch: float


def match(frame: Image, template: Image, psf: Image, usable: Mask, *, noise: float, stars: Sources) -> Match:
    """Turn the template into the frame's own light: kernel of moments, varying over the frame.

    The kernel is found by weighted least squares on the pixels that hold light, with a prior (flux 1, no change) that
    decides where there is none; pixels that stay off by 5 sigma, variable stars and cosmic rays, are dropped and the
    fit repeated.

    Args:
        frame: sky subtracted.
        template: the reference on the frame's pixels, sky subtracted, 0 where unknown.
        psf: stamp of the reference's PSF, turned to the frame's axes.
        usable: where both are known and unsaturated.
        noise: standard deviation of the frame's sky.
        stars: places on the frame where the widths are compared.
    """
    widening = measure_widening(frame, template, usable, stars, noise)
    if widening > _LEAST_WIDENING:
        template = ndimage.gaussian_filter(template, math.sqrt(widening), mode="constant", truncate=4.0)
        psf = ndimage.gaussian_filter(np.pad(psf, 4), math.sqrt(widening), mode="constant", truncate=4.0)
    places = _choose_pixels(template, usable, noise)
    columns = design(template, places)
    values = frame.ravel()[places].astype(np.float64)
    unknowns, kept = _solve(columns, values, noise)
    left = values - unknowns @ columns
    photon, mismatch = _learn_noise((unknowns @ columns)[kept], left[kept], noise)
    stamp = np.maximum(combine_at_centre(derive(psf), unknowns), 0)
    return Match(
        combine(template, unknowns),
        stamp / stamp.sum(),
        float(unknowns[0]),
        max(0.0, widening),
        photon,
        mismatch,
    )


def measure_widening(frame: Image, template: Image, usable: Mask, stars: Sources, noise: float) -> float:
    """How much wider the frame's stars are than the template's: difference of variances along an axis, px squared.

    Both images are measured alike, so what makes a star no Gaussian cancels. 0 where no star is good enough; never
    below -1.
    """
    # The brightest, far enough over the noise for a second moment to mean something.
    bright = stars.take(stars.peak > _BRIGHT_STAR_SIGMA * noise).take(slice(0, _STARS))
    mine, theirs = (measure_widths(image, usable, bright) for image in (frame, template))
    both = np.isfinite(mine) & np.isfinite(theirs)
    if not both.any():
        return 0.0
    return max(-1.0, float(np.median(mine[both] - theirs[both])))


def _choose_pixels(template: Image, usable: Mask, noise: float) -> NDArray[np.intp]:
    """Every so many of the pixels that hold light, as flat indices; of a bright galaxy there may be a frame full."""
    bright = (template > _BRIGHT_SIGMA * noise) & usable
    step = max(1, -(-int(np.count_nonzero(bright)) // MOST_PIXELS))
    chosen, seen = [], 0
    for band in list_bands(bright.shape):
        places = np.flatnonzero(bright[band])
        chosen.append(places[-seen % step :: step] + band.start * bright.shape[1])
        seen += places.size
    return np.concatenate(chosen)


def _solve(columns: Floats, values: Floats, noise: float) -> tuple[Floats, Mask]:
    start = np.zeros(count_unknowns())
    start[0] = 1.0
    # The prior counts as a measurement of each unknown; in units of the fit, not of the image.
    precision = np.diag(1 / np.square(prior_widths()))
    kept = np.ones(values.size, dtype=bool)
    unknowns = start
    variance = noise**2 + np.square(_FIRST_MISMATCH * columns[0])
    for _ in range(_CLIPS):
        weighted = columns[:, kept] / variance[kept]
        unknowns = np.linalg.solve(
            weighted @ columns[:, kept].T + precision, weighted @ values[kept] + precision @ start
        )
        off = np.abs(values - unknowns @ columns) / np.sqrt(variance)
        if not off.size:
            break
        kept = off <= _CLIP_SIGMA * max(1.0, measure_spread(off))
    return unknowns, kept


def _learn_noise(light: Floats, left: Floats, noise: float) -> tuple[float, float]:
    """Fit variance = noise^2 + photon * light + (mismatch * light)^2 to medians in bins of equal ratios of light.

    Bins of equal numbers would all hold the disc of a galaxy, where it fills the frame, and none its stars.
    """
    order = np.argsort(light, kind="stable")
    order = order[light[order] > 0]
    if order.size < _LEAST_IN_BIN:
        return 0.0, _FIRST_MISMATCH
    # The brightest few are one bin.
    edges = np.geomspace(light[order[0]], light[order[-_LEAST_IN_BIN]], _BINS)[1:]
    bins = [b for b in np.split(order, np.searchsorted(light[order], edges)) if b.size >= _LEAST_IN_BIN]
    if not bins:
        return 0.0, _FIRST_MISMATCH
    middle = np.asarray([np.median(light[b]) for b in bins])
    spread = np.asarray([np.median(np.square(left[b])) for b in bins]) / _MEDIAN_SQUARE
    weight = 1 / np.maximum(spread, noise**2)
    design_matrix = np.column_stack([middle, np.square(middle)]) * weight[:, None]
    scale = np.maximum(np.abs(design_matrix).max(axis=0), np.finfo(np.float64).tiny)
    found, _ = optimize.nnls(design_matrix / scale, (spread - noise**2) * weight)
    photon, squared = (found / scale).tolist()
    return float(photon), math.sqrt(squared)
