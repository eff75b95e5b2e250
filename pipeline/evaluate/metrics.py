"""Metrics of a ranking, each of weighted items, so that resampling objects is a matter of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class Ranking:
    """Scores with a truth, highest first, items of one score together; build one with `rank`.

    Attributes:
        place: of each item the index of its score among the distinct scores, highest first, (n,).
        odd: whether each is odd, (n,).
        distinct: how many distinct scores there are.
    """

    place: NDArray[np.intp]
    odd: Mask
    distinct: int

    def count(self, weight: Floats | None = None) -> tuple[Floats, Floats]:
        """Odd and normal items at each distinct score, highest first, both (distinct,).

        Args:
            weight: how often each item counts, (n,); None for once.
        """
        own = np.ones(self.odd.size) if weight is None else weight
        counts = (np.bincount(self.place, own * chosen, self.distinct) for chosen in (self.odd, ~self.odd))
        odd, normal = (np.asarray(count, dtype=np.float64) for count in counts)
        return odd, normal


def rank(scores: Sequence[float] | Floats, odd: Sequence[bool] | Mask) -> Ranking:
    """Rank items; higher scores are odder, equal scores share a place.

    Raises:
        ValueError: a score is not a number.
    """
    values = np.asarray(scores, dtype=np.float64)
    if np.isnan(values).any():
        raise ValueError("a score is not a number")
    distinct, place = np.unique(-values, return_inverse=True)
    return Ranking(place, np.asarray(odd, dtype=bool), distinct.size)


def measure_auc(ranking: Ranking, weight: Floats | None = None) -> float:
    """Area under the ROC curve: the chance that an odd item outranks a normal one, ties counting half.

    The Mann-Whitney statistic over the number of pairs (Hanley & McNeil 1982, Radiology 143, 29). NaN with one class.
    """
    odd, normal = ranking.count(weight)
    below = normal.sum() - np.cumsum(normal)
    pairs = odd.sum() * normal.sum()
    return float((odd * (below + normal / 2)).sum() / pairs) if pairs > 0 else float("nan")


def measure_average_precision(ranking: Ranking, weight: Floats | None = None) -> float:
    """Sum over thresholds of precision times the recall gained there; NaN with nothing odd.

    Not interpolated (Buckley & Voorhees 2000, SIGIR '00, 33); items of one score are taken together.
    """
    odd, normal = ranking.count(weight)
    found, taken = np.cumsum(odd), np.cumsum(odd + normal)
    precision = np.divide(found, taken, out=np.zeros_like(found), where=taken > 0)
    return float((precision * odd).sum() / odd.sum()) if odd.sum() > 0 else float("nan")


def measure_recall(ranking: Ranking, weight: Floats | None = None, *, false_alarms: float = 0.01) -> float:
    """Largest share of the odd items found at a threshold that flags at most this share of the normal ones.

    NaN with one class.
    """
    odd, normal = ranking.count(weight)
    if odd.sum() == 0 or normal.sum() == 0:
        return float("nan")
    allowed = np.cumsum(normal) <= false_alarms * normal.sum() * (1 + 1e-12)
    return float((np.cumsum(odd) / odd.sum())[allowed].max(initial=0.0))


def measure_precision(ranking: Ranking, weight: Floats | None = None, *, k: int | None = None) -> float:
    """Share of odd items among the k highest; of those at the last score that reaches in, their average.

    Args:
        ranking: of the items.
        weight: how often each counts.
        k: how many; None for as many as are odd.
    """
    odd, normal = ranking.count(weight)
    both = odd + normal
    wanted = float(odd.sum()) if k is None else float(min(k, both.sum()))
    if wanted <= 0:
        return float("nan")
    taken = np.clip(wanted - (np.cumsum(both) - both), 0, both)
    share = np.divide(odd, both, out=np.zeros_like(odd), where=both > 0)
    return float((taken * share).sum() / wanted)


def find_half(snr: Floats, found: Floats, weight: Floats | None = None) -> float:
    """S/N at which half is found: between two rungs of a ladder linear in the logarithm of the S/N.

    Args:
        snr: of each injection, above 0, (n,).
        found: 1 where it was found, else 0, (n,).
        weight: how often each counts.

    Returns:
        The lowest rung where even there half is found, infinite where nowhere, NaN without injections.
    """
    own = np.ones(snr.size) if weight is None else weight
    rungs, place = np.unique(snr, return_inverse=True)
    total = np.bincount(place, own, rungs.size)
    known = total > 0
    if not known.any():
        return float("nan")
    share = np.bincount(place, own * found, rungs.size)[known] / total[known]
    logs = np.log(rungs[known])
    reached = np.flatnonzero(share >= 0.5)  # noqa: PLR2004 - half
    if not reached.size:
        return float("inf")
    first = int(reached[0])
    if first == 0:
        return float(np.exp(logs[0]))
    between = (0.5 - share[first - 1]) / (share[first] - share[first - 1])
    return float(np.exp(logs[first - 1] + between * (logs[first] - logs[first - 1])))


def correlate_ranks(one: Floats, other: Floats, weight: Floats | None = None) -> float:
    """Spearman's rank correlation, ties sharing their mean rank (Spearman 1904, Am. J. Psychol. 15, 72)."""
    own = np.ones(one.size) if weight is None else weight
    first, second = (_rank_mean(values, own) for values in (one, other))
    total = own.sum()
    if total == 0:
        return float("nan")
    first, second = first - (own * first).sum() / total, second - (own * second).sum() / total
    scale = np.sqrt((own * first**2).sum() * (own * second**2).sum())
    return float((own * first * second).sum() / scale) if scale > 0 else float("nan")


def _rank_mean(values: Floats, weight: Floats) -> Floats:
    _, place = np.unique(values, return_inverse=True)
    at = np.bincount(place, weight)
    return np.asarray((np.cumsum(at) - at / 2)[place])
