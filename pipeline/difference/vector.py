"""Channels -> one unit vector: what exceeds the usual of the references, and a constant that keeps the amplitude."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pipeline.difference.channels import NAMES, SIZES, Channels
from pipeline.difference.robust import MAD_TO_SIGMA, measure_spread

Floats = NDArray[np.float64]

SIGNED = ("sky", "cloud")
"""Channels whose cells have a level of their own, and whose fall counts as much as their rise."""

USUAL_SHARE = 0.02
"""Share of the cells of a normal frame that lie above the level at which a channel begins to count."""

CONSTANT = 30.0
"""The last coordinate before the vector is brought to unit length; see `flatten`."""

DIMENSION = sum(SIZES.values()) + 1

_LEAST_SCALE = 0.3
_LEAST_SKY_SPREAD = 1.0


@dataclass(frozen=True, eq=False, slots=True)
class Usual:
    """What the channels of normal frames are like.

    Attributes:
        level: for each channel the value that a share `USUAL_SHARE` of its cells exceeds.
        scale: for each channel by how much they exceed it on average.
        middle: for signed channels the median of each cell.
        spread: for signed channels the robust standard deviation of each cell.
    """

    level: dict[str, float]
    scale: dict[str, float]
    middle: dict[str, Floats]
    spread: dict[str, Floats]


def learn_usual(frames: Sequence[Channels]) -> Usual:
    """Learn from references, each against a stack without it.

    With few references chance has the first word: no level lies below what noise alone would give cells of that size.
    """
    flat = [channels.flat() for channels in frames]
    level, scale, middle, spread = {}, {}, {}, {}
    for name in NAMES:
        values = np.stack([f[name] for f in flat]) if flat else np.zeros((0, SIZES[name]))
        if name in SIGNED:
            middle[name], spread[name] = _learn_cells(values)
            values = np.abs(values - middle[name]) / spread[name]
        level[name], scale[name] = _learn_tail(values.ravel())
    return Usual(level, scale, middle, spread)


def _learn_cells(values: Floats) -> tuple[Floats, Floats]:
    if not values.size:
        return np.zeros(values.shape[1]), np.full(values.shape[1], _LEAST_SKY_SPREAD)
    middle = np.median(values, axis=0)
    left = np.abs(values - middle)
    # Few frames speak for each cell: half of what it says of itself and half of what all say of it.
    pooled = measure_spread(left)
    spread = np.sqrt((np.square(MAD_TO_SIGMA * np.median(left, axis=0)) + pooled**2) / 2)
    return middle, np.maximum(spread, _LEAST_SKY_SPREAD)


def _learn_tail(values: Floats) -> tuple[float, float]:
    if not values.size:
        return float(-special.ndtri(1e-6)), _LEAST_SCALE
    level = float(np.quantile(values, 1 - USUAL_SHARE))
    above = values[values > level] - level
    return level, max(_LEAST_SCALE, float(above.mean())) if above.size else _LEAST_SCALE


def exceed(channels: Channels, usual: Usual) -> Floats:
    """How far each cell lies over the usual, in units of how far the usual ones do; 0 below; (DIMENSION - 1,)."""
    flat = channels.flat()
    for name in SIGNED:
        flat[name] = np.abs(flat[name] - usual.middle[name]) / usual.spread[name]
    return np.concatenate([np.maximum(0, (flat[name] - usual.level[name]) / usual.scale[name]) for name in NAMES])


def flatten(excess: Floats) -> NDArray[np.float32]:
    """Append the constant and bring to unit length.

    Of unit vectors u = [v, c] / |[v, c]| the distance is |v1 - v2| / c where both v are small against c: without the
    constant a faint excess and a strong one of the same shape would be the same vector.
    """
    whole = np.append(excess, CONSTANT)
    return np.asarray(whole / np.sqrt(np.square(whole).sum()), dtype=np.float32)
