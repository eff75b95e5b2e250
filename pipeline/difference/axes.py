"""Rows and columns of a residual: the offsets that they have as a population, and those that stand out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.bands import list_bands
from pipeline.difference.filters import measure_excess
from pipeline.difference.layout import AXIS_CELLS

Image = NDArray[np.float32]
Floats = NDArray[np.float64]

_CLIP_SIGMA = 4.0
# The spread of some 500 offsets is known to a twentieth.
_BANDED = 1.1


def remove_bands(flat: Image, weight: Image) -> Image:
    """Take off the offsets that rows and columns have as a population: noise of the read-out, common to many pixels.

    An offset is measured with noise, so only its likely share is taken: one less the variance of noise over that of all
    offsets (James & Stein 1961). A single row far off the others is no such noise and stays.

    Args:
        flat: residual over its local sky; changed in its place.
        weight: one over the variance of each pixel, 0 where masked.
    """
    for axis in (1, 0):
        light, total = _sum_along(flat, weight, axis)
        known = total > 0
        strength = np.divide(light, np.sqrt(total), out=np.zeros_like(light), where=known)
        excess = float(measure_excess(strength))
        if excess <= _BANDED:
            continue
        usual = known & (np.abs(strength) <= _CLIP_SIGMA * excess)
        offset = np.divide(light, total, out=np.zeros_like(light), where=usual)
        offset *= np.float32(1 - 1 / excess**2)
        for band in list_bands(flat.shape):
            flat[band] -= offset[band, None] if axis else offset
    return flat


def _sum_along(flat: Image, weight: Image, axis: int) -> tuple[Image, Image]:
    """Clipped light over variance of each row (axis 1) or column (axis 0), and the sum of its weights; float32."""
    sums: list[list[Floats]] = [[], []]
    for band in list_bands(flat.shape):
        root = np.sqrt(weight[band])
        clipped = np.clip(flat[band] * root, -_CLIP_SIGMA, _CLIP_SIGMA) * root
        for own, values in zip(sums, (clipped, weight[band]), strict=True):
            own.append(values.sum(axis=axis, dtype=np.float64))
    light, total = (np.concatenate(own) if axis else np.sum(own, axis=0) for own in sums)
    return light.astype(np.float32), total.astype(np.float32)


def measure_axes(flat: Image, weight: Image) -> tuple[Floats, Floats]:
    """Strongest column and strongest row of each of 64 groups, over its whole length and either half.

    Args:
        flat: residual over its local sky.
        weight: one over the variance of each pixel, 0 where masked.
    """
    height, width = flat.shape
    down, across = np.zeros((2, 2, width)), np.zeros((2, 2, height))
    halves = (0, height // 2, height)
    for half in (0, 1):
        for band in list_bands(flat.shape, start=halves[half], stop=halves[half + 1]):
            normal = np.clip(flat[band] * np.sqrt(weight[band]), -_CLIP_SIGMA, _CLIP_SIGMA)
            for k, values in enumerate((normal, (weight[band] > 0).astype(np.float32))):
                down[k, half] += values.sum(axis=0, dtype=np.float64)
                across[k, :, band] = np.add.reduceat(values, [0, width // 2], axis=1, dtype=np.float64).T
    return _find_strongest(*down), _find_strongest(*across)


def _find_strongest(light: Floats, count: Floats) -> Floats:
    """Of the sums of clipped standard deviations over either half of each column, and of the pixels in them."""
    light, count = np.vstack([light, light.sum(axis=0)]), np.vstack([count, count.sum(axis=0)])
    usual = np.median(count, axis=1, keepdims=True)
    strength = np.where(count > 0.25 * usual, light / np.sqrt(np.maximum(count, 1)), 0)
    best = np.abs(strength / measure_excess(strength)).max(axis=0)
    places = np.arange(AXIS_CELLS) * best.size // AXIS_CELLS
    return np.maximum.reduceat(best, places)
