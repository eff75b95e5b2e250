"""Quality numbers of a frame, robust and cheap: sky level, noise, image size of stars, valid and saturated share."""

from __future__ import annotations

import math

import numpy as np
import sep
from numpy.typing import NDArray

from pipeline.frame.stars import Stars, find_stars
from pipeline.frame.types import Quality

SAMPLE = 2**14
"""Pixels the sky level and the noise are taken from, spread evenly over the frame."""

LARGEST = 4 * 2**20
"""Above this many pixels stars are looked for in the central 2048 x 2048 only."""

SIGMA = 5.0
CEILING_COUNT = 5
CEILING_SIGMA = 20.0
_MESH = 16
_SMALLEST = 64
_CLIPS = 3
_CLIP_SIGMA = 4.0
_CUT = 2048
_MAD_TO_SIGMA = 1.4826

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]


def measure(pixels: Image, valid: Mask, saturation: float | None) -> Quality:
    """Measure the quality numbers of a frame.

    background: median of an even sample of the valid pixels. noise: 1.4826 times the median absolute deviation of that
    sample from a coarse sky map, so that a gradient does not count as noise (from the median itself where the frame is
    too small for a map). stars: groups of at least 5 touching pixels 5 sigma over the map. fwhm_px: median
    over stars that are whole and unsaturated of 2 sqrt(ln 2 (a^2 + b^2)), with the second moments a, b in pixels.
    Frames over 4 Mpx are searched for stars in their central 2048 x 2048 only, and `stars` counts those.
    saturated_fraction: valid pixels at or over `saturation`; without that, those at the largest value if at least 5
    share it and it lies 20 sigma over the sky, as at the ceiling of a converter.

    Args:
        pixels: shape (height, width), any units.
        valid: same shape.
        saturation: level from the header, in the units of the pixels, or None.

    Returns:
        Numbers that cannot be had (no valid pixel, no noise) are None.
    """
    share = float(np.count_nonzero(valid) / valid.size) if valid.size else 0.0
    if share == 0:
        return Quality(None, None, None, None, 0.0, 0.0)
    with np.errstate(all="ignore"):
        sky = _Sky(pixels, valid)
        if not (math.isfinite(sky.background) and math.isfinite(sky.noise)):
            return Quality(None, None, None, None, share, 0.0)
        ceiling, saturated = _find_saturated(pixels, valid, saturation, sky)
        stars, fwhm = _find_stars(pixels, valid, sky, ceiling) if sky.noise > 0 else (None, None)
    return Quality(
        sky.background, sky.noise, fwhm, stars, share, saturated, ceiling if math.isfinite(ceiling) else None
    )


class _Sky:
    """Sky level and noise of a frame, from an even sample of it, with a coarse map where the frame is large enough."""

    def __init__(self, pixels: Image, valid: Mask) -> None:
        self.step = max(1, math.isqrt(pixels.size // SAMPLE))
        sample, known = pixels[:: self.step, :: self.step], valid[:: self.step, :: self.step]
        if not known.any():
            self.step, sample, known = 1, pixels, valid
        values = sample[known]
        self.background = find_middle(values)
        self.level: Image | None = None
        if self.step > 1 or min(pixels.shape) >= _SMALLEST:
            self.level = _map_sky(sample, known, self.background)
        spread = values - np.float32(self.background) if self.level is None else (sample - self.level)[known]
        same = int(np.count_nonzero(values == self.background))
        self.noise = _measure_spread(spread, coarse=same > values.size // 2)

    def subtract_from(self, pixels: Image) -> Image:
        """Subtract the sky from the frame it was measured on."""
        if self.level is None:
            return pixels - np.float32(self.background)
        height, width = pixels.shape
        wide = np.repeat(self.level, self.step, axis=1)[:, :width]
        return np.asarray(pixels - np.repeat(wide, self.step, axis=0)[:height])


def _map_sky(sample: Image, known: Mask, background: float) -> Image | None:
    if min(sample.shape) < 2 * _MESH or np.count_nonzero(known) < sample.size // 4:
        return None
    clean = np.where(known, sample, np.float32(background))
    try:
        level = sep.Background(clean, mask=~known, bw=_MESH, bh=_MESH).back(dtype=np.float32)
    except Exception:  # noqa: BLE001 - sep raises bare Exception; without a map the plain median serves
        return None
    return np.asarray(level) if np.isfinite(level).all() else None


def _measure_spread(spread: Image, *, coarse: bool) -> float:
    """Give a robust sigma: by the median of deviations, or by clipping where over half of the values are one number."""
    if not coarse:
        noise = _MAD_TO_SIGMA * find_middle(np.abs(spread - np.float32(find_middle(spread))))
        if noise > 0:
            return noise
    kept = spread.astype(np.float64)
    for _ in range(_CLIPS):
        kept = kept[np.abs(kept - kept.mean()) <= _CLIP_SIGMA * kept.std()]
        if kept.size == 0:
            return math.nan
    return float(kept.std())


def _find_saturated(pixels: Image, valid: Mask, saturation: float | None, sky: _Sky) -> tuple[float, float]:
    """Give the level at which pixels count as saturated (infinite for none) and the share of valid pixels there."""
    if saturation is not None and saturation > sky.background:
        return saturation, _count(pixels >= saturation, valid)
    whole = valid.all()
    level = float(pixels.max() if whole else np.max(pixels, where=valid, initial=-np.inf))
    if sky.noise == 0 or level < sky.background + CEILING_SIGMA * sky.noise:
        return math.inf, 0.0
    at_ceiling = pixels >= level
    if np.count_nonzero(at_ceiling if whole else at_ceiling & valid) < CEILING_COUNT:
        return math.inf, 0.0
    return level, _count(at_ceiling, valid)


def find_middle(values: NDArray[np.floating]) -> float:
    """Median of finite values, at least one; of so few, sorting is five times as fast as `np.median`."""
    ordered = np.sort(values, axis=None)
    half = values.size // 2
    return float(ordered[half]) if values.size % 2 else (float(ordered[half - 1]) + float(ordered[half])) / 2


def _count(marked: Mask, valid: Mask) -> float:
    return float(np.count_nonzero(marked & valid) / np.count_nonzero(valid))


def _find_stars(pixels: Image, valid: Mask, sky: _Sky, ceiling: float) -> tuple[int | None, float | None]:
    if pixels.size > LARGEST:
        rows, columns = (_centre(side) for side in pixels.shape)
        pixels, valid = pixels[rows, columns], valid[rows, columns]
        if not valid.any():
            return None, None
        sky = _Sky(pixels, valid)
    bad = None if valid.all() else ~valid
    image = sky.subtract_from(pixels)
    if bad is not None:
        image[bad] = 0
    found = find_stars(image, SIGMA * sky.noise)
    return len(found.peak), _measure_fwhm(found, ceiling - sky.background)


def _centre(side: int) -> slice:
    start = max(0, (side - _CUT) // 2)
    return slice(start, start + _CUT)


def _measure_fwhm(found: Stars, ceiling: float) -> float | None:
    whole = ~found.cut & (found.peak < ceiling)
    size = 2 * np.sqrt(math.log(2) * found.spread[whole])
    size = size[np.isfinite(size)]
    return find_middle(size) if size.size else None
