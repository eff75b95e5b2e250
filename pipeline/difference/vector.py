"""Channels -> one unit vector: what exceeds the usual of the references, and a constant that keeps the amplitude."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pipeline.difference.channels import Channels
from pipeline.difference.layout import NAMES, SIZES
from pipeline.difference.robust import MAD_TO_SIGMA, measure_spread

Floats = NDArray[np.float64]

SIGNED = ("sky", "cloud", "whole")
"""Channels whose cells have a level of their own, and whose fall counts as much as their rise."""

USUAL_SHARE = 0.02
"""Share of the cells of a normal frame that lie above the level at which a channel begins to count."""

CONSTANT = 80.0
"""The last coordinate before the vector is brought to unit length; see `flatten`."""

_LEAST_SCALE = 0.3
_HEAVIEST_TAIL = 0.6
_LEAST_TAIL = 1e-3
_FEW = 30
_POWER = 1.5
_LEAST_SKY_SPREAD = 1.0
# Of the five numbers of a whole frame few references tell the tail: less than this is usual whatever they say.
_WHOLE_LEVEL, _WHOLE_SCALE = 2.5, 0.25
_LEAST_HALVED = 6


@dataclass(frozen=True, eq=False, slots=True)
class Usual:
    """What the channels of normal frames are like.

    Attributes:
        level: for each channel the value that a share `USUAL_SHARE` of its cells exceeds.
        scale: for each channel by how much they exceed it, the scale of a generalised Pareto distribution.
        tail: its shape, 0 where excesses fall off like an exponential, more where a few are far larger than most.
        middle: for signed channels the median of each cell.
        spread: for signed channels the robust standard deviation of each cell.
    """

    level: dict[str, float]
    scale: dict[str, float]
    tail: dict[str, float]
    middle: dict[str, Floats]
    spread: dict[str, Floats]


def learn_usual(frames: Sequence[Channels]) -> Usual:
    """Learn from references, each against a stack without it.

    With few references chance has the first word: no level lies below what noise alone would give cells of that size.
    """
    flat = [channels.flat() for channels in frames]
    level, scale, tail, middle, spread = {}, {}, {}, {}, {}
    for name in NAMES:
        values = np.stack([f[name] for f in flat]) if flat else np.zeros((0, SIZES[name]))
        if name in SIGNED:
            middle[name], spread[name], values = _learn_cells(values)
        level[name], scale[name], tail[name] = _learn_tail(values)
        if name == "whole":
            # Without a reference nobody knows how noisy a frame usually is.
            level[name] = max(level[name], _WHOLE_LEVEL) if flat else math.inf
            scale[name], tail[name] = max(scale[name], _WHOLE_SCALE), 0.0
    return Usual(level, scale, tail, middle, spread)


def _learn_cells(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Middle and spread of each cell, and how far the frames stray in these terms from what others foretell."""
    if not values.size:
        return np.zeros(values.shape[1]), np.full(values.shape[1], _LEAST_SKY_SPREAD), values
    middle = np.median(values, axis=0)
    left = np.abs(values - _foretell(values))
    # Few frames speak for each cell: half of what it says of itself and half of what all say of it.
    pooled = measure_spread(left)
    spread = np.sqrt((np.square(MAD_TO_SIGMA * np.median(left, axis=0)) + pooled**2) / 2)
    spread = np.maximum(spread, _LEAST_SKY_SPREAD)
    return middle, spread, left / spread


def _foretell(values: Floats) -> Floats:
    """For each frame the middle of the half of the frames that it is not in; of all where there are few.

    Moonlight, twilight and drift change the sky slowly, so frames that follow each other agree better than the next
    night's will with them. What either half says of the other is said without such neighbours.
    """
    frames = values.shape[0]
    if frames < _LEAST_HALVED:
        return np.broadcast_to(np.median(values, axis=0), values.shape)
    half = frames // 2
    early, late = np.median(values[:half], axis=0), np.median(values[half:], axis=0)
    return np.where(np.arange(frames)[:, None] < half, late, early)


def _learn_tail(values: Floats) -> tuple[float, float, float]:
    """Level, scale and shape of what lies above it, by probability-weighted moments (Hosking & Wallis 1987).

    Technometrics 29, 339. Level and mean are those of the median frame, so that one odd reference blinds no channel.
    The largest of few frames tell little, so there the shape of an exponential is likelier than theirs.
    """
    if not values.size:
        return float(-special.ndtri(1e-6)), _LEAST_SCALE, 0.0
    level = float(np.median(np.quantile(values, 1 - USUAL_SHARE, axis=1)))
    over = np.where(values > level, values - level, 0)
    counts = np.count_nonzero(over, axis=1)
    above = np.sort(over[over > 0])
    if not above.size:
        return level, _LEAST_SCALE, 0.0
    count = above.size
    mean = float(above.mean())
    weighted = float((above * (1 - (np.arange(count) + 0.65) / count)).mean())
    shape = 2 - mean / max(mean - 2 * weighted, 1e-12)
    shape = min(max(shape, 0.0), _HEAVIEST_TAIL) * values.shape[0] / (values.shape[0] + _FEW)
    typical = float(np.median(over.sum(axis=1)[counts > 0] / counts[counts > 0]))
    return level, max(_LEAST_SCALE, min(mean, typical) * (1 - shape)), shape


def exceed(channels: Channels, usual: Usual) -> Floats:
    """How rare the height of each cell is: minus the logarithm of the share of those above the level that reach it.

    0 below the level; (DIMENSION - 1,).
    """
    flat = level_signed(channels, usual).flat()
    return np.concatenate(
        [rate_heights(np.abs(flat[name]) if name in SIGNED else flat[name], name, usual) for name in NAMES]
    )


def level_signed(channels: Channels, usual: Usual) -> Channels:
    """The same with signed channels less what they usually are, in units of how much they usually vary."""
    levelled = {
        name: ((values.ravel() - usual.middle[name]) / usual.spread[name]).reshape(values.shape)
        for name in SIGNED
        for values in (np.asarray(getattr(channels, name)),)
    }
    return replace(channels, **levelled)


def rate_heights(heights: Floats, name: str, usual: Usual) -> Floats:
    """The same of heights in one channel, those of signed ones in units of their spread."""
    over = np.maximum(0, (heights - usual.level[name]) / usual.scale[name])
    shape = usual.tail[name]
    return np.asarray(np.log1p(shape * over) / shape if shape > _LEAST_TAIL else over)


def flatten(excess: Floats) -> NDArray[np.float32]:
    """Raise to a power a little over 1, append the constant and bring to unit length.

    Squares of exponential numbers add up to the amplitude of a normal frame; the power lets one rare cell stand over a
    hundred slightly odd ones.

    Of unit vectors u = [v, c] / |[v, c]| the distance is |v1 - v2| / c where both v are small against c: without the
    constant a faint excess and a strong one of the same shape would be the same vector.
    """
    whole = np.append(excess**_POWER, CONSTANT)
    return np.asarray(whole / np.sqrt(np.square(whole).sum()), dtype=np.float32)


def unflatten(vector: NDArray[np.float32]) -> Floats:
    """The inverse of `flatten`, to float32's precision."""
    return np.asarray((vector[:-1].astype(np.float64) * (CONSTANT / float(vector[-1]))) ** (1 / _POWER))
