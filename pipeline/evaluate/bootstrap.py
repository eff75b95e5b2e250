"""Intervals of a metric: objects are drawn anew, never single frames, for frames of one object are not independent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 1000
CONFIDENCE = 0.95
SEED = 20_260_101
"""The same interval every time."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval.

    Attributes:
        value: of all objects; None where it cannot be told, or lies beyond what was tried.
        low: lower end of the 95 percent interval; None likewise.
        high: upper end.
        objects: how many distinct objects speak.
    """

    value: float | None
    low: float | None
    high: float | None
    objects: int


def estimate(metric: Callable[[Floats | None], float], objects: Sequence[str]) -> Estimate:
    """Measure, with the percentile interval of the bootstrap (Efron & Tibshirani 1993, ch. 13) over objects.

    Args:
        metric: takes how often each item counts, (n,), or None for once each.
        objects: of each item the object it belongs to.
    """
    if not objects:
        return Estimate(None, None, None, 0)
    _, owner = np.unique(np.asarray(objects), return_inverse=True)
    count = int(owner.max()) + 1
    value = metric(None)
    rng = np.random.default_rng(SEED)
    drawn = [
        metric(np.bincount(rng.integers(count, size=count), minlength=count)[owner].astype(np.float64))
        for _ in range(RESAMPLES if count > 1 else 0)
    ]
    # A draw that left out a whole class says nothing.
    known = np.asarray([v for v in drawn if not np.isnan(v)])
    if not known.size:
        return Estimate(_tell(value), None, None, count)
    ends = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="nearest")
    return Estimate(_tell(value), _tell(float(ends[0])), _tell(float(ends[1])), count)


def estimate_share(hits: Sequence[bool] | Sequence[float], objects: Sequence[str]) -> Estimate:
    """The mean of numbers or truth values, likewise."""
    values = np.asarray(hits, dtype=np.float64)

    def average(weight: Floats | None) -> float:
        own = np.ones(values.size) if weight is None else weight
        return float((own * values).sum() / own.sum())

    return estimate(average, objects)


def _tell(value: float) -> float | None:
    return value if np.isfinite(value) else None
