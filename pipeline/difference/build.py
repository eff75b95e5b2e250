"""Layers -> stack: clip what does not belong, average, measure the PSF; and the same again without any one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.layers import Allocate, Layers, lay_out
from pipeline.difference.psf import list_star_light, measure_psf
from pipeline.difference.reference import Stack, spline_coefficients
from pipeline.difference.sources import list_sources
from pipeline.difference.subtract import Exposure, measure_noise
from pipeline.difference.transform import Affine

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

LEAST_DEPTH = 3
"""References that a pixel of the stack needs, where there are as many."""

_CLIP_SIGMA = 4.0
_SEEING_SHARE = 0.3
_BAND_ROWS = 64


@dataclass(frozen=True, eq=False, slots=True)
class Pile:
    """Layers, their sums, and the stack that these make.

    Attributes:
        layers: clipped.
        light: sum of weight times light, float32 (height, width).
        weight: sum of weights.
        depth: how many are kept at each pixel, int32.
        stack: their average; its scatter is all ones.
    """

    layers: Layers
    light: Image
    weight: Image
    depth: NDArray[np.int32]
    stack: Stack

    def leave_out(self, i: int) -> Stack:
        """The stack without what one reference gave to it."""
        own = self.layers.weight[i]
        if own == 0:
            return self.stack
        kept = self.layers.kept[i]
        weight = self.weight - own * kept
        light = self.light - own * kept * self.layers.light[i]
        least = min(LEAST_DEPTH, max(1, len(self.layers.stacked) - 1))
        known = self.depth - kept >= least
        mean, variance = _average(light, weight, known)
        return replace(self.stack, coefficients=spline_coefficients(mean), known=known, variance=variance)


def allocate_in_memory(shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[np.generic]:
    """Zeros; the layers of large frames want a file instead."""
    return np.zeros(shape, dtype=kind)


def pile_up(
    exposures: Sequence[Exposure], priors: Sequence[Affine | None], allocate: Allocate = allocate_in_memory
) -> Pile:
    """Stack references.

    Args:
        exposures: at least one.
        priors: for each its map to a common grid as the headers give it, or None.
        allocate: makes the arrays that hold all layers.
    """
    layers = lay_out(exposures, priors, allocate)
    _clip(layers)
    shape = layers.light.shape[1:]
    light, weight = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    depth = np.zeros(shape, dtype=np.int32)
    for i in layers.stacked:
        own = layers.weight[i] * layers.kept[i]
        light += own * layers.light[i]
        weight += own
        depth += layers.kept[i]
    known = depth >= min(LEAST_DEPTH, max(1, len(layers.stacked)))
    mean, variance = _average(light, weight, known)
    single = exposures[layers.base].noise
    noise = measure_noise(mean, known)
    # A stack of few frames is resampled noise, smoother than it is deep.
    sources = list_sources(mean, max(noise, single / 4), ~known)
    psf, measured = measure_psf(mean, known, sources, noise)
    stars = list_star_light(mean, known, psf, sources, single)
    ones = np.ones(mean.shape, dtype=np.float32)
    stack = Stack(spline_coefficients(mean), known, variance, ones, stars, psf, sources, measured)
    return Pile(layers, light, weight, depth, stack)


def _average(light: Image, weight: Image, known: Mask) -> tuple[Image, Image]:
    """Mean and its variance, 0 where unknown."""
    counted = known & (weight > 0)
    mean = np.divide(light, weight, out=np.zeros_like(light), where=counted)
    return mean, np.divide(1, weight, out=np.zeros_like(weight), where=counted)


def _clip(layers: Layers) -> None:
    """Drop pixels far from the median of the stacked layers: rays, trails, what moved."""
    chosen = layers.stacked
    if len(chosen) < LEAST_DEPTH:
        return
    deviation = (1 / np.sqrt(layers.weight[chosen]))[:, None, None]
    for top in range(0, layers.light.shape[1], _BAND_ROWS):
        band = slice(top, top + _BAND_ROWS)
        light, kept = layers.light[chosen, band], layers.kept[chosen, band]
        middle = _find_median(light, kept)
        # Seeing alone changes a star by a share of its light.
        allowed = _CLIP_SIGMA * deviation + _SEEING_SHARE * np.abs(middle)
        layers.kept[chosen, band] = kept & (np.abs(light - middle) <= allowed)


def _find_median(light: Image, kept: Mask) -> Image:
    """Median over the first axis of what is kept, 0 where nothing is."""
    ordered = np.sort(np.where(kept, light, np.float32(np.inf)), axis=0)
    count = kept.sum(axis=0)
    low, high = np.maximum((count - 1) // 2, 0)[None], np.maximum(count // 2, 0)[None]
    pair = (np.take_along_axis(ordered, low, axis=0) + np.take_along_axis(ordered, high, axis=0)) / 2
    return np.where(count > 0, pair[0], np.float32(0))
