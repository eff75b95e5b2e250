"""An exposure plan -> the pixels a camera would have read out. No disk, no clock.

The order is that of the light: sources and sky, cloud, photon counting, cosmic rays, dead columns, read noise,
gain, pedestal, ceiling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from pipeline.simulate.anomalies import Anomaly, draw_cloud, draw_template, find_dead_columns, measure_snr
from pipeline.simulate.conditions import Conditions
from pipeline.simulate.exposure import ExposurePlan, build_header, count_mjd
from pipeline.simulate.fields import flux_of, magnitude_of
from pipeline.simulate.psf import Profiles, draw_profiles, moffat_alpha

Floats = NDArray[np.float64]

# No detector here holds as many, so what lies above saturates anyway; far higher ones overflow the generator.
LARGEST_POISSON_E = 1e9


@dataclass(frozen=True, eq=False)
class Truth:
    """What an injection came to on one frame; all None on a normal one.

    Attributes:
        snr: matched-filter S/N (see `anomalies`).
        flux_e: light added in all, electrons; negative where light was lost.
        magnitude: for points and streaks, at transparency 1.
        depth: for clouds and dead columns, the largest share of light lost.
    """

    snr: float | None = None
    flux_e: float | None = None
    magnitude: float | None = None
    depth: float | None = None


@dataclass(frozen=True, eq=False)
class Rendered:
    """A frame, its header and what was injected into it. Pixels are ADU, shape (height, width), uint16."""

    pixels: NDArray[np.uint16]
    header: fits.Header
    truth: Truth


def render_exposure(plan: ExposurePlan) -> tuple[NDArray[np.uint16], fits.Header]:
    """Return the pixels (ADU, uint16, shape (height, width)) and the header of an exposure."""
    rendered = render_with_truth(plan)
    return rendered.pixels, rendered.header


def render_with_truth(plan: ExposurePlan) -> Rendered:
    """Render an exposure and say what the injection came to on it."""
    expected = expect_electrons(plan)
    truth, added = Truth(), None
    anomaly = plan.anomaly
    if anomaly is not None and anomaly.kind == "cloud":
        clouded = _expect_through_cloud(plan, anomaly, expected)
        truth = _describe_cloud(plan, anomaly, clouded - expected, expected)
        expected = clouded
    elif anomaly is not None:
        truth, added = _inject(plan, anomaly, expected)
    return Rendered(_read_out(plan, expected, added), build_header(plan), truth)


def expect_electrons(plan: ExposurePlan) -> Floats:
    """Return the noiseless frame without its anomaly, electrons per px, shape (height, width)."""
    return _draw_sky(plan) + draw_profiles(plan.field.shape, _list_sources(plan))


def estimate_variance(conditions: Conditions, expected: Floats) -> Floats:
    """Return the variance of each pixel, electrons squared: photons, read-out, and rounding to whole ADU."""
    photons = expected if conditions.photon_noise else np.zeros_like(expected)
    return photons + conditions.read_noise_e**2 + conditions.gain**2 / 12.0


def widen_psf(plan: ExposurePlan, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return the PSF's width (FWHM, px) and the stretch of it away from the centre (a share) at given places."""
    height, width = plan.field.shape
    dx, dy = x - (width - 1) / 2.0, y - (height - 1) / 2.0
    # One in the corners: optics blur with the square of the distance from the axis.
    outwards = (dx**2 + dy**2) / ((width**2 + height**2) / 4.0)
    fwhm = plan.conditions.fwhm_px * (1.0 + plan.conditions.psf_growth * outwards)
    return fwhm, plan.conditions.psf_stretch * outwards


def _draw_sky(plan: ExposurePlan) -> Floats:
    height, width = plan.field.shape
    slope = plan.conditions.sky_gradient * np.linspace(-0.5, 0.5, width)
    return np.broadcast_to(plan.conditions.sky_e * (1.0 + slope), (height, width)).copy()


def _list_sources(plan: ExposurePlan) -> Profiles:
    catalogue, conditions = plan.field.catalogue, plan.conditions
    ra = np.concatenate([catalogue.star_ra, catalogue.galaxy_ra])
    dec = np.concatenate([catalogue.star_dec, catalogue.galaxy_dec])
    flux = np.concatenate([_vary_stars(plan), catalogue.galaxy_flux_e])
    x, y = plan.wcs.all_world2pix(ra, dec, 0)
    axx, ayy, axy = _shape_psf(plan, x, y)
    # A galaxy's own matrix is added to the PSF's: widths of the two add in squares, as under a convolution.
    stars = catalogue.star_ra.size
    long_axis = (moffat_alpha(1.0) * catalogue.galaxy_fwhm / plan.field.scale) ** 2
    angle = np.radians(catalogue.galaxy_angle + conditions.rotation_deg)
    galaxy = _turn_matrix(long_axis, long_axis * catalogue.galaxy_ratio**2, angle)
    for total, own in zip((axx, ayy, axy), galaxy, strict=True):
        total[stars:] += own
    return Profiles(x, y, flux * conditions.transparency, axx, ayy, axy)


def _shape_psf(plan: ExposurePlan, x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    height, width = plan.field.shape
    fwhm, stretch = widen_psf(plan, x, y)
    squared = (moffat_alpha(1.0) * fwhm) ** 2
    angle = np.arctan2(y - (height - 1) / 2.0, x - (width - 1) / 2.0)
    return _turn_matrix(squared * (1.0 + stretch), squared / (1.0 + stretch), angle)


def _turn_matrix(long_axis: Floats, short_axis: Floats, angle: Floats) -> tuple[Floats, Floats, Floats]:
    cosine, sine = np.cos(angle), np.sin(angle)
    return (
        long_axis * cosine**2 + short_axis * sine**2,
        long_axis * sine**2 + short_axis * cosine**2,
        (long_axis - short_axis) * cosine * sine,
    )


def _vary_stars(plan: ExposurePlan) -> Floats:
    catalogue, conditions = plan.field.catalogue, plan.conditions
    turns = count_mjd(plan.start) / catalogue.star_period_d + catalogue.star_phase
    swing = conditions.variable_mag * np.sin(2.0 * math.pi * (turns % 1.0))
    varies = catalogue.star_luck < conditions.variable_share
    flux: Floats = catalogue.star_flux_e * np.where(varies, 10.0 ** (-0.4 * swing), 1.0)
    return flux


def _expect_through_cloud(plan: ExposurePlan, anomaly: Anomaly, expected: Floats) -> Floats:
    thickness = (anomaly.depth or 0.0) * draw_cloud(anomaly, plan.field.shape)
    sky = _draw_sky(plan)
    return sky * (1.0 + thickness) + (expected - sky) * (1.0 - thickness)


def _describe_cloud(plan: ExposurePlan, anomaly: Anomaly, change: Floats, expected: Floats) -> Truth:
    snr = measure_snr(change, estimate_variance(plan.conditions, expected))
    return Truth(snr=round(snr, 3), flux_e=round(float(change.sum()), 1), depth=anomaly.depth)


def _inject(plan: ExposurePlan, anomaly: Anomaly, expected: Floats) -> tuple[Truth, Floats]:
    fwhm, _ = widen_psf(plan, np.asarray(anomaly.x), np.asarray(anomaly.y))
    template = draw_template(anomaly, plan.field.shape, float(fwhm), expected)
    unit = measure_snr(template, estimate_variance(plan.conditions, expected))
    if anomaly.magnitude is not None:
        amplitude = flux_of(anomaly.magnitude, plan.field.exposure_s) * plan.conditions.transparency
    else:
        amplitude = (anomaly.snr or 0.0) / unit if unit > 0.0 else 0.0
    dead = anomaly.kind == "dead_column"
    # A column cannot lose more light than there is.
    amplitude = min(amplitude, 1.0) if dead else amplitude
    light = amplitude * template
    truth = Truth(snr=round(amplitude * unit, 3), flux_e=round(float(light.sum()), 1))
    if dead:
        return replace(truth, depth=round(amplitude, 6)), light
    if anomaly.kind in {"supernova", "asteroid"} and amplitude > 0.0:
        above = amplitude / plan.conditions.transparency
        return replace(truth, magnitude=round(magnitude_of(above, plan.field.exposure_s), 4)), light
    return truth, light


def _read_out(plan: ExposurePlan, expected: Floats, added: Floats | None) -> NDArray[np.uint16]:
    conditions = plan.conditions
    # The injection has its own stream of noise, so that the rest of a frame is the same with and without it.
    frame_noise, added_noise, ray_noise = (np.random.default_rng([*plan.seed, stream]) for stream in range(3))
    electrons = _count_photons(frame_noise, conditions, expected)
    read_out = conditions.read_noise_e * frame_noise.standard_normal(expected.shape)
    electrons += _draw_cosmic_rays(ray_noise, conditions, expected.shape)
    if added is not None and plan.anomaly is not None and plan.anomaly.kind == "dead_column":
        columns = find_dead_columns(plan.anomaly, expected.shape)
        kept = 1.0 + added[:, columns] / expected[:, columns]
        electrons[:, columns] = _thin(added_noise, conditions, electrons[:, columns], kept)
    elif added is not None:
        electrons += _count_photons(added_noise, conditions, added)
    adu = np.rint((electrons + read_out) / conditions.gain + conditions.bias_adu)
    return np.clip(adu, 0, conditions.saturation_adu).astype(np.uint16)


def _count_photons(rng: np.random.Generator, conditions: Conditions, expected: Floats) -> Floats:
    if not conditions.photon_noise:
        return expected.copy()
    return rng.poisson(np.minimum(expected, LARGEST_POISSON_E)).astype(np.float64)


def _thin(rng: np.random.Generator, conditions: Conditions, electrons: Floats, kept: Floats) -> Floats:
    share = np.clip(kept, 0.0, 1.0)
    if not conditions.photon_noise:
        return electrons * share
    # Losing each electron by chance keeps Poisson counts Poisson.
    return rng.binomial(np.maximum(electrons, 0.0).astype(np.int64), share).astype(np.float64)


def _draw_cosmic_rays(rng: np.random.Generator, conditions: Conditions, shape: tuple[int, ...]) -> Floats:
    charge = np.zeros(shape)
    for _ in range(int(rng.poisson(conditions.cosmic_rays))):
        x, y = rng.uniform(0, shape[1]), rng.uniform(0, shape[0])
        angle, length = rng.uniform(0.0, 2.0 * math.pi), 1.0 + rng.exponential(4.0)
        # About 80 electrons per micron of silicon (Smith et al. 2002, SPIE 4669, 172), some 1000 a pixel crossed.
        per_px = 600.0 + rng.exponential(800.0)
        for step in np.arange(0.0, length, 0.25):
            column, row = int(x + step * math.cos(angle)), int(y + step * math.sin(angle))
            if 0 <= column < shape[1] and 0 <= row < shape[0]:
                charge[row, column] += 0.25 * per_px
    return charge
