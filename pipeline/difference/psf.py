"""The PSF of a stack, from its own isolated stars."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from pipeline.difference.sources import Sources

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

RADIUS_PX = 12
_BRIGHT_SIGMA = 30.0
_MOST_STARS = 60
_LEAST_STARS = 3
_NEIGHBOUR_SHARE = 0.03
_WIDEST_STAR = 1.25
_SEEN_SIGMA = 10.0
_WINDOW_PX = 2.5
_WINDOW_RADIUS = 6
_WIDEST_MOMENT = 0.9
# Where no star says better: about two and a half pixels across, as optics are usually sampled.
_DEFAULT_SIGMA_PX = 1.1
# Seeing rarely makes stars wider than nearly five pixels across: what is wider is a galaxy.
_WIDEST_GUESS_PX = 2.0


def measure_psf(image: Image, known: Mask, sources: Sources, noise: float) -> tuple[Image, bool]:
    """Median of the isolated bright stars, each shifted to the middle of its stamp and divided by its light.

    Args:
        image: sky subtracted, shape (height, width).
        known: pixels that may be used.
        sources: brightest first.
        noise: standard deviation of the sky.

    Returns:
        float32 (25, 25), sum 1, not negative; and True, for it is measured. Where fewer than three stars stand alone a
        Gaussian as wide as the typical source (but no galaxy), or of sigma 1.1 px where there is none; and False.
    """
    stamps = [stamp for i in _choose(sources, noise) if (stamp := _cut(image, known, sources, i)) is not None]
    if len(stamps) < _LEAST_STARS:
        width = min(float(np.median(sources.size)), _WIDEST_GUESS_PX) if len(sources) else _DEFAULT_SIGMA_PX
        return draw_gaussian(width), False
    middle = np.median(np.stack(stamps[:_MOST_STARS]), axis=0)
    rows, columns = np.indices(middle.shape) - RADIUS_PX
    distance = np.hypot(rows, columns)
    rim = distance > RADIUS_PX - 2
    stamp = np.maximum(middle - np.median(middle[rim]), 0) * (distance <= RADIUS_PX)
    return np.asarray(stamp / stamp.sum(), dtype=np.float32), True


def measure_sigma(psf: Image) -> float:
    """Sigma of the round Gaussian that is as peaked as a stamp, px: its square sums to 1 / (4 pi sigma^2)."""
    return 1 / math.sqrt(4 * math.pi * float(np.square(psf).sum()))


def draw_gaussian(sigma: float) -> Image:
    """A round Gaussian stamp of sum 1; sigma in px."""
    rows, columns = np.indices((2 * RADIUS_PX + 1, 2 * RADIUS_PX + 1)) - RADIUS_PX
    stamp = np.exp(-(rows**2 + columns**2) / (2 * max(sigma, 0.5) ** 2))
    return np.asarray(stamp / stamp.sum(), dtype=np.float32)


def _choose(sources: Sources, noise: float) -> list[int]:
    """Bright sources as small as stars are, without a neighbour of any weight."""
    bright = np.flatnonzero(sources.peak > _BRIGHT_SIGMA * noise)
    if not bright.size:
        return []
    # Galaxies are wider than most; what is much narrower is no light at all.
    usual = float(np.median(sources.size[bright]))
    tree = cKDTree(np.column_stack([sources.x, sources.y]))
    chosen = []
    for i in bright.tolist():
        if not 0.7 * usual <= sources.size[i] <= 1.15 * usual:
            continue
        near = [j for j in tree.query_ball_point((sources.x[i], sources.y[i]), math.sqrt(2) * RADIUS_PX) if j != i]
        if sources.flux[near].sum() <= _NEIGHBOUR_SHARE * sources.flux[i]:
            chosen.append(i)
    return chosen


def _cut(image: Image, known: Mask, sources: Sources, i: int) -> Image | None:
    column, row = round(float(sources.x[i])), round(float(sources.y[i]))
    reach = RADIUS_PX + 2
    if not (reach <= row < image.shape[0] - reach and reach <= column < image.shape[1] - reach):
        return None
    window = (slice(row - reach, row + reach + 1), slice(column - reach, column + reach + 1))
    if not known[window].all():
        return None
    shift = (row - float(sources.y[i]), column - float(sources.x[i]))
    centred = ndimage.shift(image[window], shift, order=3, mode="nearest", output=np.float32)[2:-2, 2:-2]
    total = float(centred.sum())
    return np.asarray(centred / total, dtype=np.float32) if total > 0 else None


def list_star_light(image: Image, known: Mask, psf: Image, sources: Sources, noise: float) -> Image:
    """Light that a fit of the PSF at each pixel would find of the stars: of bright sources no wider than the PSF.

    Galaxies are left out: what is new on them is new. So is what is faint: no change of it would be seen.

    Args:
        image: sky subtracted, shape (height, width).
        known: pixels that may be used.
        psf: stamp, sum 1.
        sources: of the image.
        noise: of a single frame, standard deviation.
    """
    found = np.zeros(image.shape, dtype=np.float32)
    flux_noise = noise / math.sqrt(float(np.square(psf).sum()))
    widths = measure_widths(image, known, sources)
    middle = Sources(*(np.array([float(value)]) for value in (RADIUS_PX, RADIUS_PX, 1, 1, 1)))
    own = float(measure_widths(psf, np.ones(psf.shape, dtype=bool), middle)[0])
    stars = np.flatnonzero((sources.flux > _SEEN_SIGMA * flux_noise) & ~(widths > _WIDEST_STAR * own))
    # Loads slowly, and only those who learn need it.
    from scipy import signal  # noqa: PLC0415

    autocorrelation = signal.fftconvolve(psf, psf[::-1, ::-1], mode="full")
    autocorrelation /= autocorrelation.max()
    reach = autocorrelation.shape[0] // 2
    wide = np.pad(found, reach)
    for i in stars.tolist():
        row, column = round(float(sources.y[i])), round(float(sources.x[i]))
        wide[row : row + 2 * reach + 1, column : column + 2 * reach + 1] += (
            np.float32(sources.flux[i]) * autocorrelation
        )
    return wide[reach:-reach, reach:-reach]


def measure_widths(image: Image, usable: Mask, stars: Sources) -> NDArray[np.float64]:
    """Variance of each star's light along an axis, px squared; NaN where it cannot be measured.

    Second moments under a Gaussian window of 2.5 px, corrected for the window as for a Gaussian star.
    """
    radius = _WINDOW_RADIUS
    height, width = image.shape
    inside = (stars.x >= radius) & (stars.x <= width - 1 - radius)
    inside &= (stars.y >= radius) & (stars.y <= height - 1 - radius)
    chosen = np.flatnonzero(inside)
    column, row = np.rint(stars.x[chosen]).astype(np.intp), np.rint(stars.y[chosen]).astype(np.intp)
    steps = np.arange(-radius, radius + 1)
    at = (row[:, None, None] + steps[:, None], column[:, None, None] + steps)
    stamps = image[at].astype(np.float64)
    stamps[~usable[at].all(axis=(1, 2))] = np.nan
    dx = steps[None, None, :] - (stars.x[chosen] - column)[:, None, None]
    dy = steps[None, :, None] - (stars.y[chosen] - row)[:, None, None]
    window = np.exp(-(dx**2 + dy**2) / (2 * _WINDOW_PX**2))
    with np.errstate(all="ignore"):
        light = stamps * window
        total = light.sum(axis=(1, 2))
        mx, my = (light * dx).sum(axis=(1, 2)) / total, (light * dy).sum(axis=(1, 2)) / total
        moment = ((light * (dx**2 + dy**2)).sum(axis=(1, 2)) / total - mx**2 - my**2) / 2
        widths = moment * _WINDOW_PX**2 / (_WINDOW_PX**2 - moment)
    widths[~((moment > 0) & (moment < _WIDEST_MOMENT * _WINDOW_PX**2))] = np.nan
    everything = np.full(len(stars), np.nan)
    everything[chosen] = widths
    return everything
