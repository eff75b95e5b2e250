"""Found or missed, rung by rung of a ladder of brightness: how faint a thing may be and still be found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize

# Two-sided 95 percent of a normal distribution.
_Z = 1.959964


@dataclass(frozen=True, slots=True)
class Rung:
    """Trials at one brightness.

    Attributes:
        snr: of what was injected, matched-filter standard deviations.
        trials: how many.
        found: how many of them were flagged.
        located: how many of them were listed at their place.
    """

    snr: float
    trials: int
    found: int
    located: int

    @property
    def recall(self) -> float:
        """Share that was flagged."""
        return self.found / self.trials if self.trials else math.nan

    def measure_interval(self) -> tuple[float, float]:
        """Where the true share lies with 95 percent, by Wilson 1927 (J. Am. Stat. Assoc. 22, 209)."""
        n, share = self.trials, self.recall
        if not n:
            return 0.0, 1.0
        middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n)) / (1 + _Z**2 / n)
        return max(0.0, middle - half), min(1.0, middle + half)


def find_snr(rungs: Sequence[Rung], share: float) -> float | None:
    """The brightness from which on that share is found.

    Recall can only grow with brightness: shares are made so by isotonic regression, weighed by trials, with straight
    lines in between.

    Args:
        rungs: in any order.
        share: 0 to 1.

    Returns:
        None where the ladder does not reach it, or its lowest rung is beyond it already.
    """
    ordered = sorted((r for r in rungs if r.trials), key=lambda r: r.snr)
    if not ordered:
        return None
    weights = [r.trials for r in ordered]
    recall = np.asarray(optimize.isotonic_regression([r.recall for r in ordered], weights=weights).x)
    if recall[-1] < share or recall[0] > share:
        return None
    upper = int(np.argmax(recall >= share))
    if upper == 0:
        return ordered[0].snr
    low, high = ordered[upper - 1].snr, ordered[upper].snr
    step = float(recall[upper] - recall[upper - 1])
    return low + (high - low) * float(share - recall[upper - 1]) / step
