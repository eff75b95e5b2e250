"""A patch of sky with everything fixed in it: stars, galaxies, filter band, instrument, exposure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TELESCOPE = "Simulated 0.5m"
# Electrons collected in `exposure_s` are ZERO_POINT_E_PER_S * exposure_s * 10^(-0.4 mag), at transparency 1.
ZERO_POINT_MAG = 25.0
DENSITY_SIDE_PX = 512
# Sources are laid this far beyond the frame, so that a dithered frame has no bare rim.
MARGIN_PX = 40


@dataclass(frozen=True, eq=False)
class Catalogue:
    """What shines in a field, in a fixed order. Arrays of stars have shape (n,), of galaxies (m,).

    Attributes:
        star_ra: degrees, ICRS.
        star_dec: degrees, ICRS.
        star_flux_e: electrons in one exposure at transparency 1.
        star_luck: uniform in [0, 1); a star varies where this lies below the share of variables asked for.
        star_period_d: period of a star that varies, days.
        star_phase: phase of a star that varies, turns.
        galaxy_ra: degrees, ICRS.
        galaxy_dec: degrees, ICRS.
        galaxy_flux_e: electrons in one exposure at transparency 1.
        galaxy_fwhm: full width at half maximum along the long axis, arcsec.
        galaxy_ratio: short axis over long axis.
        galaxy_angle: long axis, degrees from the frame's +x towards +y when it is not rotated.
    """

    star_ra: Floats
    star_dec: Floats
    star_flux_e: Floats
    star_luck: Floats
    star_period_d: Floats
    star_phase: Floats
    galaxy_ra: Floats
    galaxy_dec: Floats
    galaxy_flux_e: Floats
    galaxy_fwhm: Floats
    galaxy_ratio: Floats
    galaxy_angle: Floats


@dataclass(frozen=True, eq=False)
class FieldPlan:
    """One field and how it is observed.

    Attributes:
        name: name of the field, written as OBJECT.
        ra: centre, degrees ICRS.
        dec: centre, degrees ICRS.
        shape: (height, width), px.
        scale: pixel scale, arcsec per px.
        filter_band: filter name.
        instrument: camera name.
        exposure_s: exposure time, seconds.
        catalogue: the sources.
    """

    name: str
    ra: float
    dec: float
    shape: tuple[int, int]
    scale: float
    filter_band: str
    instrument: str
    exposure_s: float
    catalogue: Catalogue


def build_wcs(field: FieldPlan, *, ra: float, dec: float, rotation_deg: float = 0.0) -> WCS:
    """Return the gnomonic (TAN) world coordinates of a frame of this field centred on (ra, dec), degrees.

    North is up and east to the left at rotation 0; the matrix is that of Calabretta & Greisen 2002, A&A 395, 1077.
    """
    height, width = field.shape
    step = field.scale / 3600.0
    cosine, sine = math.cos(math.radians(rotation_deg)), math.sin(math.radians(rotation_deg))
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crpix = [(width + 1) / 2.0, (height + 1) / 2.0]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.cd = np.round([[-step * cosine, step * sine], [step * sine, step * cosine]], 15)
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    return wcs


def dither_wcs(field: FieldPlan, *, dither_x: float = 0.0, dither_y: float = 0.0, rotation_deg: float = 0.0) -> WCS:
    """Return the world coordinates of a frame on which the field's centre lies (dither_x, dither_y) px off.

    The telescope is pointed elsewhere, as a real one is: CRVAL moves and CRPIX stays at the frame's centre.
    """
    straight = build_wcs(field, ra=field.ra, dec=field.dec, rotation_deg=rotation_deg)
    height, width = field.shape
    centre = straight.all_pix2world((width - 1) / 2.0 - dither_x, (height - 1) / 2.0 - dither_y, 0)
    # Rounded well below a thousandth of a pixel, so that a header does not hang on a maths library's last digit.
    ra, dec = (round(float(value), 9) for value in centre)
    return build_wcs(field, ra=ra, dec=dec, rotation_deg=rotation_deg)


def make_field(
    seed: tuple[int, ...],
    *,
    name: str,
    ra: float,
    dec: float,
    shape: tuple[int, int] = (512, 512),
    scale: float = 1.0,
    filter_band: str = "r",
    instrument: str = "oddcam-1",
    exposure_s: float = 60.0,
    stars: int = 350,
    galaxies: int = 40,
    flux_range_e: tuple[float, float] = (1_000.0, 300_000.0),
) -> FieldPlan:
    """Lay out a field from a seed.

    Star fluxes follow dN/dF ~ F^-1.9 between the bounds, a shallow Galactic number count. `stars` and `galaxies` are
    numbers per 512 x 512 px of frame; a smaller frame holds proportionally fewer and a margin around it its own.

    Args:
        seed: whole numbers that fix everything in the catalogue.
        name: name of the field.
        ra: centre, degrees.
        dec: centre, degrees.
        shape: (height, width), px.
        scale: arcsec per px.
        filter_band: filter name.
        instrument: camera name.
        exposure_s: seconds.
        stars: stars per 512 x 512 px.
        galaxies: galaxies per 512 x 512 px.
        flux_range_e: faintest and brightest star, electrons per exposure.

    Returns:
        The field with its catalogue.
    """
    bare = FieldPlan(name, ra, dec, shape, scale, filter_band, instrument, exposure_s, _empty_catalogue())
    catalogue = _draw_catalogue(np.random.default_rng(seed), bare, stars, galaxies, flux_range_e)
    return FieldPlan(name, ra, dec, shape, scale, filter_band, instrument, exposure_s, catalogue)


def magnitude_of(flux_e: float, exposure_s: float) -> float:
    """Return the magnitude (zero point 25 for one electron per second) of a flux in electrons per exposure."""
    return ZERO_POINT_MAG - 2.5 * math.log10(flux_e / exposure_s)


def flux_of(magnitude: float, exposure_s: float) -> float:
    """Return the electrons per exposure of a magnitude; the inverse of `magnitude_of`."""
    return float(exposure_s * 10.0 ** (-0.4 * (magnitude - ZERO_POINT_MAG)))


def _empty_catalogue() -> Catalogue:
    nothing = np.zeros(0)
    return Catalogue(*([nothing] * 12))


def _draw_catalogue(
    rng: np.random.Generator,
    field: FieldPlan,
    stars: int,
    galaxies: int,
    flux_range_e: tuple[float, float],
) -> Catalogue:
    height, width = (side + 2 * MARGIN_PX for side in field.shape)
    share = height * width / DENSITY_SIDE_PX**2
    n, m = round(stars * share), max(1, round(galaxies * share))
    star_ra, star_dec = _draw_places(rng, field, n)
    star_flux = _draw_power_law(rng, n, flux_range_e)
    luck, period, phase = rng.uniform(size=n), rng.uniform(0.05, 0.6, n), rng.uniform(size=n)
    galaxy_ra, galaxy_dec = _draw_places(rng, field, m)
    galaxy_flux = _draw_power_law(rng, m, (3.0 * flux_range_e[0], flux_range_e[1] / 5.0))
    size, ratio, angle = rng.uniform(3.0, 9.0, m), rng.uniform(0.3, 1.0, m), rng.uniform(0.0, 180.0, m)
    return Catalogue(
        star_ra, star_dec, star_flux, luck, period, phase,
        galaxy_ra, galaxy_dec, galaxy_flux, size, ratio, angle,
    )  # fmt: skip


def _draw_places(rng: np.random.Generator, field: FieldPlan, n: int) -> tuple[Floats, Floats]:
    height, width = field.shape
    x = rng.uniform(-MARGIN_PX, width - 1 + MARGIN_PX, n)
    y = rng.uniform(-MARGIN_PX, height - 1 + MARGIN_PX, n)
    ra, dec = build_wcs(field, ra=field.ra, dec=field.dec).all_pix2world(x, y, 0)
    return np.round(ra, 9), np.round(dec, 9)


def _draw_power_law(rng: np.random.Generator, n: int, bounds: tuple[float, float]) -> Floats:
    # Inverse of the cumulative distribution of F^-1.9, so one uniform number gives one flux.
    low, high = (bound**-0.9 for bound in bounds)
    fluxes: Floats = np.round((low + rng.uniform(size=n) * (high - low)) ** (-1.0 / 0.9), 1)
    return fluxes
