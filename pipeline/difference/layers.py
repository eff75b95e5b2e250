"""References on one canvas: choose the best as its base, register the others on it, and lay them all out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import sep
from numpy.typing import NDArray

from pipeline.difference.reference import sample_nearest, sample_spline, spline_coefficients
from pipeline.difference.register import Registration, register
from pipeline.difference.subtract import Exposure
from pipeline.difference.transform import Affine

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Allocate = Callable[[tuple[int, ...], type[np.generic]], NDArray[np.generic]]

SHARPEST_SHARE = 0.5
"""Share of the references that are stacked, the sharpest."""

LEAST_STACKED = 8
LARGEST_CANVAS = 4.0
"""Most that the canvas may cover, frames of the base's size."""

_BRIGHT_SIGMA = 20.0
_FLUX_STARS = 100
_APERTURE_PX = 8.0


@dataclass(frozen=True, eq=False, slots=True)
class Layers:
    """References on the canvas, one a row of each array.

    Attributes:
        registrations: of each on the canvas; None where it could not be registered.
        base: which of them gave the canvas its axes.
        light: above the sky plane over its flux scale, float32 (n, height, width); 0 where not laid out.
        kept: pixels that count, bool, same shape; none of those that are not stacked.
        weight: what a pixel of each counts, one over the variance of its light, (n,).
    """

    registrations: tuple[Registration | None, ...]
    base: int
    light: Image
    kept: Mask
    weight: NDArray[np.float32]

    @property
    def stacked(self) -> list[int]:
        """Those that are stacked."""
        return np.flatnonzero(self.weight > 0).tolist()


def lay_out(exposures: Sequence[Exposure], priors: Sequence[Affine | None], allocate: Allocate) -> Layers:
    """Register references on the best of them and lay out the sharper half, eight at least.

    A blurred reference can be matched to a sharp frame only by adding noise, and adds little itself.

    Args:
        exposures: at least one.
        priors: for each its map to a common grid as the headers give it, or None.
        allocate: makes an array of zeros; on disk where memory is short.
    """
    base = _choose_base(exposures)
    found = [_register_on(exposures, priors, i, base) for i in range(len(exposures))]
    shapes = [exposure.light.shape for exposure in exposures]
    found, shape = _lay_canvas(found, shapes, base)
    anchor = found[base]
    n = len(exposures)
    light = np.asanyarray(allocate((n, *shape), np.float32), dtype=np.float32)
    kept = np.asanyarray(allocate((n, *shape), np.bool_), dtype=np.bool_)
    weight = np.zeros(n, dtype=np.float32)
    for i in _choose_sharpest(exposures, found):
        own = found[i]
        if own is None or anchor is None:
            continue
        exposure, back = exposures[i], own.to_reference.invert()
        scale = 1.0 if i == base else _compare_flux(exposure, exposures[base], back.after(anchor.to_reference))
        light[i] = sample_spline(spline_coefficients(exposure.light), back, shape) / np.float32(scale)
        kept[i] = sample_nearest(exposure.usable, back, shape, fill=False)
        weight[i] = (scale / exposure.noise) ** 2
    return Layers(tuple(found), base, light, kept, weight)


def _choose_base(exposures: Sequence[Exposure]) -> int:
    """The one with most stars for their width: deep and sharp."""

    def rate(i: int) -> float:
        return len(exposures[i].sources) / _measure_width(exposures[i])

    return max(range(len(exposures)), key=rate)


def _measure_width(exposure: Exposure) -> float:
    bright = exposure.sources.size[exposure.sources.peak > _BRIGHT_SIGMA * exposure.noise]
    return float(np.median(bright)) if bright.size else float("inf")


def _register_on(
    exposures: Sequence[Exposure], priors: Sequence[Affine | None], i: int, base: int
) -> Registration | None:
    if i == base:
        return Registration(Affine(), len(exposures[i].sources), 0.0, "stars")
    mine, theirs = priors[i], priors[base]
    prior = None if mine is None or theirs is None else theirs.invert().after(mine)
    return register(exposures[i].sources, exposures[base].sources, prior)


def _lay_canvas(
    found: Sequence[Registration | None], shapes: Sequence[tuple[int, ...]], base: int
) -> tuple[list[Registration | None], tuple[int, int]]:
    """Grow the base's grid to hold them all, to at most so many times its area."""
    corners = [
        r.to_reference.apply(np.array([0.0, w - 1, 0, w - 1]), np.array([0.0, 0, h - 1, h - 1]))
        for r, (h, w) in zip(found, shapes, strict=True)
        if r is not None
    ]
    spare = (np.sqrt(LARGEST_CANVAS) - 1) / 2
    bounds = []
    for places, length in zip(zip(*corners, strict=True), reversed(shapes[base]), strict=True):
        every = np.concatenate(places)
        bounds.append(
            (int(max(np.floor(every.min()), -length * spare)), int(min(np.ceil(every.max()), length * (1 + spare))))
        )
    (left, right), (top, bottom) = bounds
    moved = [None if r is None else replace(r, to_reference=r.to_reference.shift(left, top)) for r in found]
    return moved, (bottom - top + 1, right - left + 1)


def _choose_sharpest(exposures: Sequence[Exposure], found: Sequence[Registration | None]) -> list[int]:
    usable = [i for i, r in enumerate(found) if r is not None and exposures[i].noise > 0]
    usable.sort(key=lambda i: _measure_width(exposures[i]))
    return sorted(usable[: max(LEAST_STACKED, round(SHARPEST_SHARE * len(usable)))])


def _compare_flux(exposure: Exposure, base: Exposure, to_exposure: Affine) -> float:
    """Flux scale over the base's: median ratio of the light in one aperture around its bright stars."""
    stars = base.sources.take(base.sources.peak > _BRIGHT_SIGMA * base.noise).take(slice(0, _FLUX_STARS))
    if not len(stars):
        return 1.0
    x, y = to_exposure.apply(stars.x, stars.y)
    theirs, _, _ = sep.sum_circle(base.light, stars.x, stars.y, _APERTURE_PX, mask=~base.usable)
    mine, _, _ = sep.sum_circle(exposure.light, x, y, _APERTURE_PX, mask=~exposure.usable)
    height, width = exposure.light.shape
    rim = _APERTURE_PX
    good = (x > rim) & (x < width - rim) & (y > rim) & (y < height - rim) & (mine > 0) & (theirs > 0)
    return float(np.median(mine[good] / theirs[good])) if good.any() else 1.0
