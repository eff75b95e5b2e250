"""The odd things: where each lies, how its strength is defined, and the light it adds or takes.

Strength is a matched-filter signal-to-noise ratio. With a template `t` (the anomaly at amplitude one, electrons
per px) and the variance `V` of the frame without the anomaly (sky + sources + read noise + rounding, electrons
squared), the best linear detector at a known place measures

    S/N = a * sqrt(sum(t^2 / V))

for the amplitude `a` (Turin 1960, IRE Trans. Inf. Theory 6, 311; for point sources Zackay & Ofek 2017, ApJ 836, 187).
The same formula holds for every kind: the template of a point source is the PSF, of a dead column the light it
loses, of a cloud the change it makes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from pipeline.simulate.conditions import Kind
from pipeline.simulate.psf import draw_line, draw_points

Floats = NDArray[np.float64]

HOT_SIDE_PX = 3


@dataclass(frozen=True)
class Anomaly:
    """One injected anomaly on one exposure.

    Attributes:
        kind: what it is.
        x: column of its centre on this exposure, px, zero-based.
        y: row of its centre on this exposure, px, zero-based.
        ra: its centre, degrees.
        dec: its centre, degrees.
        snr: matched-filter S/N asked for; None where `magnitude` or `depth` says how strong it is. A dead column
            loses no more than all of its light, so a larger S/N than that means fully dead.
        magnitude: for points and streaks instead of `snr`: the magnitude at transparency 1.
        depth: for a cloud: the share of light lost, and of sky gained, at its thickest.
        angle: direction of a streak or trail, degrees from +x towards +y.
        length: length of an asteroid's streak, px; 0 is a point.
        width: number of dead columns.
        pattern: seed of the shape of a cloud or a hot cluster.
    """

    kind: Kind
    x: float
    y: float
    ra: float
    dec: float
    snr: float | None = None
    magnitude: float | None = None
    depth: float | None = None
    angle: float = 0.0
    length: float = 0.0
    width: int = 1
    pattern: int = 0


def place_anomaly(
    kind: Kind,
    wcs: WCS,
    *,
    pixel: tuple[float, float] | None = None,
    sky: tuple[float, float] | None = None,
    snr: float | None = None,
    magnitude: float | None = None,
    depth: float | None = None,
    angle: float = 0.0,
    length: float = 0.0,
    width: int = 1,
    pattern: int = 0,
) -> Anomaly:
    """Describe an anomaly by its pixel (x, y) or its sky place (ra, dec) in degrees; the WCS gives the other."""
    if pixel is not None:
        place = (*pixel, *(float(value) for value in wcs.all_pix2world(*pixel, 0)))
    elif sky is not None:
        place = (*(float(value) for value in wcs.all_world2pix(*sky, 0)), *sky)
    else:
        raise ValueError("an anomaly needs a pixel or a sky place")
    x, y, ra, dec = place
    return Anomaly(
        kind, round(x, 4), round(y, 4), round(ra, 8), round(dec, 8),
        snr, magnitude, depth, round(angle, 4), round(length, 4), width, pattern,
    )  # fmt: skip


def draw_template(anomaly: Anomaly, shape: tuple[int, int], fwhm_px: float, expected: Floats) -> Floats:
    """Draw the anomaly at amplitude one.

    Args:
        anomaly: what to draw.
        shape: (height, width), px.
        fwhm_px: width of the PSF at its place, px.
        expected: the frame without it, electrons per px.

    Returns:
        Electrons per px, shape `shape`: what amplitude one adds. For a supernova, an asteroid and a hot cluster that
        is one electron in all, for a trail one electron per px of length; for a dead column the (negative)
        loss of all light. A cloud has no template of its own: see `draw_cloud`.
    """
    if anomaly.kind == "trail":
        return draw_line(shape, anomaly.x, anomaly.y, anomaly.angle, fwhm_px)
    if anomaly.kind == "dead_column":
        return np.where(find_dead_columns(anomaly, shape)[None, :], -expected, 0.0)
    if anomaly.kind == "hot_cluster":
        return _draw_hot_cluster(anomaly, shape)
    return _draw_streak(anomaly, shape, fwhm_px)


def find_dead_columns(anomaly: Anomaly, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Mark the columns that are dead; shape (width,)."""
    first = round(anomaly.x) - (anomaly.width - 1) // 2
    columns = np.arange(shape[1])
    return (columns >= first) & (columns < first + anomaly.width)


def draw_cloud(anomaly: Anomaly, shape: tuple[int, int]) -> Floats:
    """Draw the thickness of a cloud, 0 to 1, shape `shape`: a patch around its place with ragged edges."""
    rng = np.random.default_rng([anomaly.pattern, 7])
    side = float(max(shape))
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    dx, dy = (columns - anomaly.x) / side, (rows - anomaly.y) / side
    ragged = np.zeros(shape)
    for scale in (1.0, 2.0, 3.0):
        direction, phase = rng.uniform(0.0, 2.0 * math.pi, 2)
        wave = 2.0 * math.pi * scale * (math.cos(direction) * dx + math.sin(direction) * dy) + phase
        ragged = ragged + np.cos(wave) / scale
    thickness = np.exp(-0.5 * (dx**2 + dy**2) / 0.3**2) * (1.0 + 0.35 * ragged)
    cloud: Floats = np.clip(thickness / thickness.max(), 0.0, 1.0)
    return cloud


def measure_snr(change: Floats, variance: Floats) -> float:
    """Return sqrt(sum(change^2 / variance)), the matched-filter S/N of a change; both in electrons (squared)."""
    return math.sqrt(float(np.sum(change * change / variance)))


def _draw_streak(anomaly: Anomaly, shape: tuple[int, int], fwhm_px: float) -> Floats:
    length = anomaly.length if anomaly.kind == "asteroid" else 0.0
    # Half a pixel between the points is finer than any PSF here resolves.
    n = math.ceil(2.0 * length) + 1
    along = np.linspace(-0.5, 0.5, n) * length if n > 1 else np.zeros(1)
    angle = math.radians(anomaly.angle)
    x = anomaly.x + along * math.cos(angle)
    y = anomaly.y + along * math.sin(angle)
    # A generous flux sets the size of the stamps; the amplitude is applied by the caller.
    light = draw_points(shape, x, y, np.full(n, 1e6 / n), np.full(n, fwhm_px))
    return light / 1e6


def _draw_hot_cluster(anomaly: Anomaly, shape: tuple[int, int]) -> Floats:
    weights = np.random.default_rng([anomaly.pattern, 11]).uniform(0.4, 1.0, (HOT_SIDE_PX, HOT_SIDE_PX))
    template = np.zeros(shape)
    half = HOT_SIDE_PX // 2
    column = min(max(round(anomaly.x), half), shape[1] - 1 - half)
    row = min(max(round(anomaly.y), half), shape[0] - 1 - half)
    template[row - half : row + half + 1, column - half : column + half + 1] = weights / weights.sum()
    return template
