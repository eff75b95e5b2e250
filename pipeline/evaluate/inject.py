"""Light added to real frames: points and streaks of the frame's own PSF, at a matched-filter S/N over its own noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.difference.psf import measure_psf
from pipeline.difference.subtract import Exposure
from pipeline.evaluate.differences import open_exposure
from pipeline.frame.types import Frame

Image = NDArray[np.float32]

KINDS = ("point", "streak")

STREAK_PX = 15.0
"""Length of an injected streak: between the lengths that the filters look for."""

_CLEAR_PX = 8.0
_TRIES = 200


@dataclass(frozen=True, eq=False, slots=True)
class Optics:
    """What of a frame it takes to add light to it."""

    frame: Frame
    exposure: Exposure
    psf: Image


def measure_optics(frame: Frame) -> Optics | None:
    """Noise and PSF of a frame, from its own sky and stars; None where it has no noise."""
    exposure = open_exposure(frame)
    if exposure is None:
        return None
    return Optics(frame, exposure, measure_psf(exposure.light, exposure.usable, exposure.sources, exposure.noise))


@dataclass(frozen=True, eq=False, slots=True)
class Injected:
    """A frame with light added, and the middle of that light, px."""

    frame: Frame
    x: float
    y: float


def inject(optics: Optics, kind: str, snr: float, rng: np.random.Generator) -> Injected:
    """Add light of a kind at a random place of bare sky.

    The light is F p with F = snr * noise / sqrt(sum p^2): the S/N of the matched filter where sky noise alone counts.
    Its own photon noise is not added: it is small beside the sky's at the S/N of a ladder.

    Args:
        optics: of the frame.
        kind: `point` or `streak`.
        snr: wanted, above 0.
        rng: where, and in which direction.
    """
    stamp = optics.psf if kind == "point" else _draw_streak(optics.psf, rng.uniform(0, math.pi))
    x, y = _find_sky(optics, rng, stamp.shape[0] // 2)
    column, row = round(x), round(y)
    moved = np.maximum(ndimage.shift(stamp, (y - row, x - column), order=3, mode="constant"), 0)
    light = snr * optics.exposure.noise / math.sqrt(float(np.square(moved).sum())) * moved
    pixels = optics.frame.pixels.copy()
    reach = stamp.shape[0] // 2
    top, left = max(0, row - reach), max(0, column - reach)
    window = pixels[top : row + reach + 1, left : column + reach + 1]
    window += light[top - (row - reach) :, left - (column - reach) :][: window.shape[0], : window.shape[1]]
    return Injected(replace(optics.frame, pixels=pixels), x, y)


def _draw_streak(psf: Image, angle: float) -> Image:
    """The PSF drawn out along a line."""
    wide = np.pad(psf, math.ceil(STREAK_PX / 2) + 1)
    steps = np.linspace(-0.5, 0.5, math.ceil(2 * STREAK_PX) + 1) * STREAK_PX
    shifts = [(step * math.sin(angle), step * math.cos(angle)) for step in steps]
    drawn = sum(ndimage.shift(wide, shift, order=1, mode="constant") for shift in shifts)
    return np.asarray(drawn / steps.size, dtype=np.float32)


def _find_sky(optics: Optics, rng: np.random.Generator, reach: int) -> tuple[float, float]:
    """A place away from the border and from every source; the last one tried where there is none."""
    height, width = optics.frame.pixels.shape
    rim = [min(reach, (n - 1) // 2) for n in (width, height)]
    sources = optics.exposure.sources
    x, y = (width - 1) / 2, (height - 1) / 2
    for _ in range(_TRIES):
        x, y = float(rng.uniform(rim[0], width - 1 - rim[0])), float(rng.uniform(rim[1], height - 1 - rim[1]))
        near = np.hypot(sources.x - x, sources.y - y).min(initial=math.inf)
        if near > _CLEAR_PX and optics.exposure.usable[round(y), round(x)]:
            break
    return x, y
