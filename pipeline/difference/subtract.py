"""One frame against its reference: register, match, subtract, and say how much every pixel counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.difference.bands import list_bands
from pipeline.difference.cosmic import find_cosmic_rays
from pipeline.difference.match import Match, match
from pipeline.difference.reference import Stack
from pipeline.difference.register import Registration, register
from pipeline.difference.robust import measure_spread
from pipeline.difference.sky import fit_plane
from pipeline.difference.sources import Sources, list_sources, no_sources
from pipeline.difference.transform import Affine

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Spot = tuple[float, float, float]
"""Column, row and reach of a place, px."""

USUAL_VARIATION = 0.15
"""How much a star's light may change between nights without being news, standard deviation as a share."""

_SATURATION_RIM_PX = 2
_WIDEST_RIM_PX = 40
_OUTSIDE_SIGMA = 100.0
_OUTSIDE_PX = 64.0
_CORE_PX = 2
_WINGS = 4.0
_SAMPLE = 2**16


@dataclass(frozen=True, eq=False, slots=True)
class Exposure:
    """A frame ready to be compared: sky plane gone, noise and sources known.

    Attributes:
        light: above the sky plane, float32 (height, width), 0 where not valid.
        usable: valid and not saturated.
        noise: standard deviation of the sky, units of the frame.
        sources: brightest first.
    """

    light: Image
    usable: Mask
    noise: float
    sources: Sources


@dataclass(frozen=True, eq=False, slots=True)
class Residual:
    """A frame minus what its reference says.

    Attributes:
        difference: units of the frame, 0 where masked.
        weight: 1 / variance, 0 where masked.
        cosmic_rays: pixels taken for cosmic rays.
        registration: where the frame lies.
        match: how the reference was turned into the frame's own light.
    """

    difference: Image
    weight: Image
    cosmic_rays: Mask
    registration: Registration
    match: Match


def expose(pixels: Image, valid: Mask, saturation: float | None) -> Exposure:
    """Take the sky plane off and list the sources.

    Args:
        pixels: shape (height, width).
        valid: pixels that carry sky; at least one.
        saturation: level at which a pixel is full, units of the frame, or None.
    """
    filled = pixels.astype(np.float32, copy=False) if valid.all() else np.where(valid, pixels, np.float32(0))
    light = fit_plane(filled, valid)
    np.subtract(filled, light, out=light)
    light[~valid] = 0
    usable = valid
    if saturation is not None and (full := (filled >= saturation) & valid).any():
        usable = valid & ~_spread_saturated(full)
    noise = measure_noise(light, valid)
    sources = list_sources(light, noise, None if valid.all() else ~valid) if noise > 0 else no_sources()
    return Exposure(light, usable, noise, sources)


def _spread_saturated(full: Mask) -> Mask:
    """Full pixels and a rim: charge runs over into neighbours, the further the larger the disc of the star."""
    labels, count = ndimage.label(full, structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    rims = np.minimum(_SATURATION_RIM_PX + np.sqrt(areas / math.pi), _WIDEST_RIM_PX)
    spread = np.zeros(full.shape, dtype=bool)
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        rim = math.ceil(rims[number])
        window = tuple(slice(max(0, part.start - rim), part.stop + rim) for part in (rows, columns))
        spread[window] |= ndimage.distance_transform_edt(labels[window] != number) <= rims[number]
    return spread


def measure_noise(light: Image, valid: Mask) -> float:
    """Standard deviation of the sky, from differences of pixels two apart, which no gradient or star outweighs."""
    step = max(1, light.size // _SAMPLE)
    pairs = (light[::step, 2:] - light[::step, :-2])[valid[::step, 2:] & valid[::step, :-2]]
    if not pairs.size:
        return 0.0
    return measure_spread(pairs - np.median(pairs)) / math.sqrt(2.0)


def subtract(frame: Exposure, stack: Stack, prior: Affine | None) -> Residual | None:
    """Subtract the reference from a frame.

    Args:
        frame: what to compare.
        stack: what to compare with.
        prior: the map from the frame to the stack that their headers give, or None.

    Returns:
        None where the frame cannot be registered.
    """
    registration = register(frame.sources, stack.sources, prior)
    if registration is None:
        return None
    return subtract_stack(frame, stack, registration)


def subtract_stack(frame: Exposure, stack: Stack, registration: Registration) -> Residual:
    """Subtract the reference from a frame whose place is known."""
    at = registration.to_reference
    known = stack.find_known(at, (frame.light.shape[0], frame.light.shape[1]))
    usable = frame.usable & known
    doubtful = [*_find_outside(stack.sources, at.invert(), frame), *_find_holes(usable)]
    psf = turn_stamp(stack.psf, at)
    matched = match(frame.light, stack.resample(at, known), psf, usable, noise=frame.noise, stars=frame.sources)
    difference = frame.light - matched.light
    difference[~usable] = 0
    variance = _sum_variance(stack, at, matched, frame.noise)
    for spot in doubtful:
        _doubt_around(variance, matched.light, spot)
    # By the width of a guess a star would be a ray where the guess is too wide.
    rays = np.zeros_like(usable)
    if stack.psf_measured:
        rays = find_cosmic_rays(difference, np.sqrt(variance), matched.psf) & usable
    difference[rays] = 0
    weight = _weigh(variance, stack, at, matched, usable & ~rays)
    return Residual(difference, weight, rays, registration, matched)


def _find_outside(sources: Sources, at: Affine, frame: Exposure) -> list[Spot]:
    """Bright stars just beyond the border: what they spread in the read-out they spread when they are inside."""
    bright = sources.take(sources.peak > _OUTSIDE_SIGMA * frame.noise)
    x, y = at.apply(bright.x, bright.y)
    height, width = frame.light.shape
    beyond = np.maximum(np.maximum(-x, x - width + 1), np.maximum(-y, y - height + 1))
    near = (beyond > -_SATURATION_RIM_PX) & (beyond < _OUTSIDE_PX)
    return [(x, y, _OUTSIDE_PX) for x, y in zip(x[near].tolist(), y[near].tolist(), strict=True)]


def _find_holes(usable: Mask) -> list[Spot]:
    """Cores of full stars: how far their light and charge reach grows with them."""
    cores = ndimage.binary_erosion(~usable, structure=np.ones((3, 3)), iterations=_CORE_PX)
    labels, count = ndimage.label(cores, structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    spots = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        # What is larger is no star but ground that the frame or the stack does not cover.
        if max(rows.stop - rows.start, columns.stop - columns.start) <= _WIDEST_RIM_PX:
            reach = _WINGS * (math.sqrt(areas[number] / math.pi) + _CORE_PX)
            spots.append(((columns.start + columns.stop - 1) / 2, (rows.start + rows.stop - 1) / 2, reach))
    return spots


def turn_stamp(stamp: Image, at: Affine) -> Image:
    """A stamp as it looks on a frame that is turned: the nearest of four quarter turns."""
    # Rotating by k quarters counterclockwise with rows upwards is k clockwise as numpy shows it.
    return np.ascontiguousarray(np.rot90(stamp, round(at.rotation_deg / 90)))


def _sum_variance(stack: Stack, at: Affine, matched: Match, noise: float) -> Image:
    """Variance of frame minus expectation: of the sky, of light, of the match and of the stack."""
    shape = (matched.light.shape[0], matched.light.shape[1])
    variance = np.empty(shape, dtype=np.float32)
    for band in list_bands(shape):
        bright = np.maximum(matched.light[band], 0)
        own = np.float32(noise**2) + np.float32(matched.photon) * bright
        own += np.square(np.float32(matched.mismatch) * bright)
        own += np.float32(matched.flux**2) * stack.find_pixels(at, shape, band).take(stack.variance, fill=0.0)
        variance[band] = own
    return variance


def _weigh(variance: Image, stack: Stack, at: Affine, matched: Match, counted: Mask) -> Image:
    """Turn variances into weights, in their place: what earlier frames scattered by and what stars vary by added.

    A star that varies is no new one: light at its place counts by how much stars commonly vary. The sum turns the
    variance of a fitted flux into that of a pixel, so that every filter sees it.
    """
    shape = (variance.shape[0], variance.shape[1])
    information = float(np.square(matched.psf).sum())
    varied = np.float32(information * (USUAL_VARIATION * matched.flux) ** 2)
    for band in list_bands(shape):
        nearest = stack.find_pixels(at, shape, band)
        whole = variance[band] + varied * np.square(nearest.take(stack.stars, fill=0.0))
        whole *= np.square(nearest.take(stack.scatter, fill=1.0))
        variance[band] = np.where(counted[band], 1 / whole, np.float32(0))
    return variance


def _doubt_around(variance: Image, light: Image, spot: Spot) -> None:
    x, y, reach = spot
    top, bottom = max(0, math.floor(y - reach)), max(0, math.floor(y + reach) + 1)
    left, right = max(0, math.floor(x - reach)), max(0, math.floor(x + reach) + 1)
    variance[top:bottom, left:right] += np.square(np.maximum(light[top:bottom, left:right], 0))
