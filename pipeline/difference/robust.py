"""Spread of numbers most of which are noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAD_TO_SIGMA = 1.4826
"""Standard deviation of normal numbers over the median of their absolute deviations, 1 / (sqrt(2) erfinv(1/2))."""


def measure_spread(deviations: NDArray[np.floating]) -> float:
    """Robust standard deviation of deviations from a middle that is known; at least one of them."""
    return MAD_TO_SIGMA * float(np.median(np.abs(deviations)))
