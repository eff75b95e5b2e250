"""Light added to real frames: a point or a streak of the frame's own PSF, as bright as is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.difference.psf import measure_psf
from pipeline.difference.subtract import Exposure

Image = NDArray[np.float32]

KINDS = ("point", "streak")

STREAK_PX = 15.0
"""Length of an injected streak: between the lengths that the filters look for."""


@dataclass(frozen=True, slots=True)
class Light:
    """What is added, and where.

    Attributes:
        kind: `point` or `streak`.
        x: column of its middle, 0-based px.
        y: row of its middle.
        angle_deg: direction of a streak, from +x towards +y.
        snr: of the matched filter where sky noise alone counts: F = snr * noise / sqrt(sum p^2) for a shape p of sum 1.
    """

    kind: str
    x: float
    y: float
    angle_deg: float
    snr: float


def measure_own_psf(exposure: Exposure) -> Image:
    """The PSF of a frame from its own stars, a stamp of sum 1."""
    return measure_psf(exposure.light, exposure.usable, exposure.sources, exposure.noise)[0]


def add_light(pixels: Image, psf: Image, noise: float, light: Light, rng: np.random.Generator) -> tuple[Image, float]:
    """Add light to a copy of a frame, its own photon noise left out: beside the sky's it is small on a ladder of S/N.

    Args:
        pixels: shape (height, width).
        psf: stamp of sum 1, odd sides.
        noise: standard deviation of the sky.
        light: what and where.
        rng: rounds to whole numbers at random where the frame holds nothing else, as a converter does.

    Returns:
        The frame, and the flux that was added, its units.
    """
    stamp = psf if light.kind == "point" else _draw_streak(psf, math.radians(light.angle_deg))
    column, row = round(light.x), round(light.y)
    moved = np.maximum(ndimage.shift(stamp, (light.y - row, light.x - column), order=3, mode="constant"), 0)
    moved /= moved.sum()
    flux = light.snr * noise / math.sqrt(float(np.square(moved).sum()))
    added = np.zeros_like(pixels)
    reach = stamp.shape[0] // 2
    top, left = max(0, row - reach), max(0, column - reach)
    window = added[top : row + reach + 1, left : column + reach + 1]
    window += flux * moved[top - (row - reach) :, left - (column - reach) :][: window.shape[0], : window.shape[1]]
    # Light of a fraction of a count would pass a comparison that no converter lets it pass.
    if (pixels == np.rint(pixels)).all():
        added = np.floor(added + rng.random(added.shape, dtype=np.float32))
    return np.asarray(pixels + added, dtype=np.float32), flux


def _draw_streak(psf: Image, angle: float) -> Image:
    """The PSF drawn out along a line."""
    wide = np.pad(psf, math.ceil(STREAK_PX / 2) + 1)
    steps = np.linspace(-0.5, 0.5, math.ceil(2 * STREAK_PX) + 1) * STREAK_PX
    shifts = [(step * math.sin(angle), step * math.cos(angle)) for step in steps]
    drawn = sum(ndimage.shift(wide, shift, order=1, mode="constant") for shift in shifts)
    return np.asarray(drawn / steps.size, dtype=np.float32)


def draw_place(exposure: Exposure, rng: np.random.Generator) -> tuple[float, float]:
    """A place anywhere on the frame, stars and galaxies included, but on a usable pixel and off the rim."""
    height, width = exposure.light.shape
    rim = min(12, height // 4, width // 4)
    for _ in range(100):
        x, y = float(rng.uniform(rim, width - 1 - rim)), float(rng.uniform(rim, height - 1 - rim))
        if exposure.usable[round(y), round(x)]:
            break
    return x, y
