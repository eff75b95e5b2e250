"""False alarms of a whole night: which p-values are small enough when many frames were asked at once.

A verdict answers for its frame alone: of 1,000 normal frames a budget of 1 percent flags ten. Over a night one asks how
many false alarms there may be in all, or what share of the flagged ones may be false.
"""

from __future__ import annotations

from collections.abc import Sequence


def bound_by_alarms(p_values: Sequence[float], alarms: float) -> float:
    """The largest p-value that is odd, so that so many of these are expected to be odd where all frames are normal.

    Args:
        p_values: of all frames of the night, each in (0, 1].
        alarms: expected number of false alarms, more than 0.

    Returns:
        The share alarms / n, by linearity of the expectation whether the p-values depend on each other or not; 0 for
        a night without p-values.
    """
    return alarms / len(p_values) if p_values else 0.0


def bound_by_fdr(p_values: Sequence[float], rate: float) -> float:
    """The largest p-value that is odd, so that this share of the odd ones is expected to be false.

    Benjamini & Hochberg 1995, J. R. Stat. Soc. B 57, 289: of the p-values in ascending order the largest p_(k) with
    p_(k) <= k rate / n. It holds for counted p-values that share their references, too (Bates et al. 2023,
    Ann. Statist. 51, 149).

    Args:
        p_values: of all frames of the night, each in (0, 1].
        rate: false discovery rate, between 0 and 1.

    Returns:
        0 where none is odd.
    """
    count = len(p_values)
    fitting = [p for k, p in enumerate(sorted(p_values), 1) if p <= k * rate / count]
    return fitting[-1] if fitting else 0.0
