"""Light added to bare sky of real frames, at a matched-filter S/N over their own noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.inject import Light, add_light, measure_own_psf
from pipeline.difference.subtract import Exposure
from pipeline.evaluate.differences import open_exposure
from pipeline.frame.types import Frame

Image = NDArray[np.float32]

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
    return Optics(frame, exposure, measure_own_psf(exposure))


@dataclass(frozen=True, eq=False, slots=True)
class Injected:
    """A frame with light added, and the middle of that light, px."""

    frame: Frame
    x: float
    y: float


def inject(optics: Optics, kind: str, snr: float, rng: np.random.Generator) -> Injected:
    """Add light of a kind at a random place of bare sky.

    Args:
        optics: of the frame.
        kind: `point` or `streak`.
        snr: wanted, above 0.
        rng: where, and in which direction.
    """
    x, y = _find_sky(optics, rng, optics.psf.shape[0] // 2)
    light = Light(kind, x, y, float(rng.uniform(0, 180)), snr)
    pixels, _ = add_light(optics.frame.pixels, optics.psf, optics.exposure.noise, light, rng)
    return Injected(replace(optics.frame, pixels=pixels), x, y)


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
