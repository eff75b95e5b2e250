"""Light profiles in closed form: stars and galaxies drawn in small stamps, lines drawn across the frame.

Everything here is an elliptical Moffat profile (Moffat 1969, A&A 3, 455). With a shape matrix `A` (px squared)
and a displacement `d` from the centre, the light of a source of flux `F` is

    I(d) = F (beta - 1) / (pi sqrt(det A)) * (1 + d^T A^-1 d)^-beta

A round star has A = alpha^2 * identity and alpha = FWHM / (2 sqrt(2^(1/beta) - 1)).
Pixel coordinates are zero-based: the centre of the first pixel stored is x = 0, y = 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOFFAT_BETA = 3.0
SMALLEST_RADIUS_PX = 8
LARGEST_RADIUS_PX = 64


@dataclass(frozen=True, eq=False)
class Profiles:
    """Sources ready to be drawn; every array has shape (n,).

    Attributes:
        x: column of the centre, px.
        y: row of the centre, px.
        flux: total light, electrons.
        axx: shape matrix element along x, px squared.
        ayy: shape matrix element along y, px squared.
        axy: shape matrix element off the diagonal, px squared.
    """

    x: Floats
    y: Floats
    flux: Floats
    axx: Floats
    ayy: Floats
    axy: Floats


def moffat_alpha(fwhm_px: float) -> float:
    """Return the Moffat scale radius in px for a full width at half maximum in px."""
    return fwhm_px / (2.0 * math.sqrt(2.0 ** (1.0 / MOFFAT_BETA) - 1.0))


def draw_profiles(shape: tuple[int, int], profiles: Profiles, *, edge_e: float = 0.5) -> Floats:
    """Draw sources, each in a stamp that ends where it has fallen below `edge_e` electrons a pixel.

    Args:
        shape: (height, width) of the frame, px.
        profiles: the sources; those beyond the frame add whatever of their stamp reaches it.
        edge_e: light per pixel below which a profile is cut off, electrons.

    Returns:
        Electrons per pixel, shape `shape`.
    """
    radii = _choose_radii(profiles, edge_e)
    # A source may lie a radius beyond the border, and its stamp reach as far again.
    pad = 2 * LARGEST_RADIUS_PX
    canvas = np.zeros((shape[0] + 2 * pad, shape[1] + 2 * pad))
    ix = np.rint(profiles.x).astype(int)
    iy = np.rint(profiles.y).astype(int)
    for radius in np.unique(radii):
        near_x = (ix >= -radius) & (ix < shape[1] + radius)
        near_y = (iy >= -radius) & (iy < shape[0] + radius)
        chosen = np.flatnonzero((radii == radius) & near_x & near_y)
        stamps = _draw_stamps(profiles, chosen, ix, iy, int(radius))
        for stamp, column, row in zip(stamps, ix[chosen] + pad, iy[chosen] + pad, strict=True):
            canvas[row - radius : row + radius + 1, column - radius : column + radius + 1] += stamp
    return canvas[pad:-pad, pad:-pad]


def _choose_radii(profiles: Profiles, edge_e: float) -> NDArray[np.int64]:
    determinant = profiles.axx * profiles.ayy - profiles.axy**2
    peak = profiles.flux * (MOFFAT_BETA - 1.0) / (math.pi * np.sqrt(determinant))
    widest = np.sqrt(np.maximum(profiles.axx, profiles.ayy))
    reach = widest * np.sqrt(np.maximum(peak / edge_e, 1.0) ** (1.0 / MOFFAT_BETA))
    # A few sizes only, so that stamps of one size can be computed in one array.
    sizes = 2 ** np.ceil(np.log2(np.maximum(reach, SMALLEST_RADIUS_PX)))
    radii: NDArray[np.int64] = np.minimum(sizes, LARGEST_RADIUS_PX).astype(np.int64)
    return radii


def _draw_stamps(
    profiles: Profiles, chosen: NDArray[np.intp], ix: NDArray[np.int_], iy: NDArray[np.int_], radius: int
) -> Floats:
    steps = np.arange(-radius, radius + 1, dtype=np.float64)
    dx = steps[None, None, :] - (profiles.x - ix)[chosen, None, None]
    dy = steps[None, :, None] - (profiles.y - iy)[chosen, None, None]
    axx, ayy, axy, flux = (
        values[chosen, None, None] for values in (profiles.axx, profiles.ayy, profiles.axy, profiles.flux)
    )
    determinant = axx * ayy - axy**2
    squared = (ayy * dx**2 - 2.0 * axy * dx * dy + axx * dy**2) / determinant
    height = flux * (MOFFAT_BETA - 1.0) / (math.pi * np.sqrt(determinant))
    base = 1.0 + squared
    stamps: Floats = height / (base * base * base)
    return stamps


def draw_points(shape: tuple[int, int], x: Floats, y: Floats, flux: Floats, fwhm_px: Floats) -> Floats:
    """Draw round point sources (all arrays of shape (n,)); returns electrons per pixel, shape `shape`."""
    squared = (moffat_alpha(1.0) * fwhm_px) ** 2
    return draw_profiles(shape, Profiles(x, y, flux, squared, squared, np.zeros_like(x)))


def draw_line(shape: tuple[int, int], x: float, y: float, angle_deg: float, fwhm_px: float) -> Floats:
    """Draw an endless straight line of one electron per px of length through (x, y).

    A Moffat profile summed along a line leaves, at the distance t across it,

        L(t) = Gamma(beta - 1/2) / (sqrt(pi) alpha Gamma(beta - 1)) * (1 + t^2 / alpha^2)^(1/2 - beta)

    which follows from the Moffat formula by the integral of (1 + u^2)^-beta over u.

    Args:
        shape: (height, width), px.
        x: column of a point on the line, px.
        y: row of a point on the line, px.
        angle_deg: direction, degrees from the +x axis towards +y.
        fwhm_px: seeing, px.

    Returns:
        Electrons per pixel, shape `shape`.
    """
    alpha = moffat_alpha(fwhm_px)
    angle = math.radians(angle_deg)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    across = (rows - y) * math.cos(angle) - (columns - x) * math.sin(angle)
    height = math.gamma(MOFFAT_BETA - 0.5) / (math.sqrt(math.pi) * alpha * math.gamma(MOFFAT_BETA - 1.0))
    base = 1.0 + (across / alpha) ** 2
    line: Floats = height / (base * base * np.sqrt(base))
    return line
