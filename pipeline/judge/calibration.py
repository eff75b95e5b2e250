"""Distance -> p-value, from the leave-one-out distances of the references in one prefilter cell.

With n references the share of leave-one-out distances at or above d, counted with the frame itself as
(1 + #{d_i >= d}) / (n + 1), is an exact p-value for exchangeable frames (the conformal p-value of Vovk et al. 2005,
"Algorithmic Learning in a Random World", ch. 2). It cannot fall below 1/(n+1). Beyond the largest leave-one-out
distance a tail is fitted to the logarithms of the distances: median and upper half-spread instead of mean and standard
deviation, so that one bad reference cannot hide others, and Student's t predictive distribution, so that few references
promise little. A median of deviations knows less than a standard deviation of as many, so the distribution has half of
the usual n - 1 degrees of freedom: with all of them five references flag 2.5 times the budget of 1 percent, with half
of them 0.95 times. Such a p-value is marked extrapolated.

Where vectors end in a constant the tail is fitted to amplitudes instead (`to_amplitude`): no two such vectors are
farther apart than the root of two, and near that a logarithm of the distance tells nothing any more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from pipeline.judge.types import PValue

# Identical frames have distance zero; float32 unit vectors cannot differ meaningfully by less.
_LEAST_DISTANCE = 1e-7
# A few references can agree by chance far better than the next frame will: no cell is sharper than 5 percent.
_LEAST_SPREAD = 0.05
_MAD_TO_SIGMA = 1.4826
# Float32 coordinates cannot tell smaller cosines apart.
_LEAST_COSINE = 1e-6


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the references of a cell say of normal distances.

    Attributes:
        distances: leave-one-out distances of the references, ascending.
        centre: median of the natural logarithms of these, or of their amplitudes.
        spread: robust standard deviation of these logarithms, at least 0.05.
        saturates: whether distances count by their amplitudes.
    """

    distances: tuple[float, ...]
    centre: float
    spread: float
    saturates: bool = False

    @property
    def references(self) -> int:
        """How many references speak."""
        return len(self.distances)

    def rate(self, distance: float) -> PValue:
        """The p-value of a distance to the nearest reference."""
        n = self.references
        at_least = n - int(np.searchsorted(np.asarray(self.distances), distance, side="left"))
        counted = (1 + at_least) / (n + 1)
        if at_least > 0:
            return PValue(counted, extrapolated=False)
        tail = float(special.stdtr((n - 1) / 2, -(self._log(distance) - self.centre) / self._predictive_spread()))
        if tail < counted:
            return PValue(max(tail, np.finfo(np.float64).tiny), extrapolated=True)
        return PValue(counted, extrapolated=False)

    def find_threshold(self, budget: float) -> float:
        """The smallest distance that is called odd at this false-alarm budget."""
        n = self.references
        largest = self.distances[-1]
        # Counting alone reaches the budget: the frame must lie beyond all but floor(budget * (n + 1)) - 1 references.
        spare = int(np.floor(budget * (n + 1))) - 1
        if spare >= 0:
            return float(np.nextafter(self.distances[n - 1 - spare], np.inf)) if spare < n else 0.0
        tail = float(np.exp(self.centre + self._predictive_spread() * -special.stdtrit((n - 1) / 2, budget)))
        return max(to_distance(tail) if self.saturates else tail, float(np.nextafter(largest, np.inf)))

    def _log(self, distance: float) -> float:
        return _log(to_amplitude(distance) if self.saturates else distance)

    def _predictive_spread(self) -> float:
        return float(self.spread * np.sqrt(1.0 + 1.0 / self.references))


def calibrate(leave_one_out: Sequence[float], *, saturates: bool = False) -> Calibration:
    """Fit a cell.

    Args:
        leave_one_out: for each reference the distance to its nearest other reference; at least two.
        saturates: whether the vectors end in a constant.

    Raises:
        ValueError: fewer than two distances.
    """
    if len(leave_one_out) < 2:  # noqa: PLR2004 - a spread needs two
        raise ValueError("a calibration needs the leave-one-out distances of at least two references")
    ordered = tuple(sorted(float(d) for d in leave_one_out))
    logs = np.asarray([_log(to_amplitude(d) if saturates else d) for d in ordered])
    centre = float(np.median(logs))
    upper = logs[logs >= centre] - centre
    spread = _MAD_TO_SIGMA * max(float(np.median(np.abs(logs - centre))), float(np.median(upper)))
    return Calibration(ordered, centre, max(spread, _LEAST_SPREAD), saturates)


def to_amplitude(distance: float) -> float:
    """How much there is besides the constant, over the constant, for that distance from a vector with nothing else.

    Of u = [v, c] / |[v, c]| and [0, 1] the distance d has 1 - d^2 / 2 = c / |[v, c]|: where d runs into the root of
    two, |v| / c goes on.
    """
    cosine = max(1.0 - distance**2 / 2, _LEAST_COSINE)
    return math.sqrt(max(0.0, 1 / cosine**2 - 1))


def to_distance(amplitude: float) -> float:
    """The inverse of `to_amplitude`."""
    return math.sqrt(2 * (1 - 1 / math.hypot(1.0, amplitude)))


def to_sigma(p_value: float) -> float:
    """One-sided normal equivalent of a p-value, in standard deviations; 0 for anything more usual than the median."""
    return max(0.0, -float(special.ndtri(p_value)))


def _log(distance: float) -> float:
    return float(np.log(max(distance, _LEAST_DISTANCE)))
