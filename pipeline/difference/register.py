"""Find where a frame lies on its reference: by a map that is known roughly, or by the pattern of its stars alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.spatial import cKDTree

from pipeline.difference.sources import Sources
from pipeline.difference.transform import Affine, fit_affine, fit_rigid, fit_shift, turn_about

Floats = NDArray[np.float64]

BRIGHTEST = 40
"""Stars whose pairs vote; 40 have 780 pairs."""

MOST = 400
"""Stars that the final map is fitted to."""

FULL_FIT = 12
"""Pairs from which on the map may stretch and shear; fewer give rotation and shift."""

CHANCE = 1e-6
"""Largest chance at which as many stars would meet by accident, after all guesses are counted."""

_LENGTH_BIN_PX = 1.5
_SHORTEST_PX = 40.0
_VOTE_PX = 4.0
_GUESSES = 6
_RADII_PX = (5.0, 3.0, 1.5, 1.5)
_LAST_RADIUS_PX = 1.5
_LEAST_PAIRS = 3
# No other map can meet more than the rest of the stars.
_CERTAIN_SHARE = 0.5
_MOST_CANDIDATES = 400_000


@dataclass(frozen=True, slots=True)
class Registration:
    """Where a frame lies on its reference.

    Attributes:
        to_reference: from places on the frame to places on the reference.
        pairs: stars that meet.
        rms_px: root mean square of what is left between them along both axes, px; None with no pair.
        source: `stars`, or `wcs` where no star confirmed it.
    """

    to_reference: Affine
    pairs: int
    rms_px: float | None
    source: str


def register(frame: Sources, reference: Sources, prior: Affine | None = None) -> Registration | None:
    """Register a frame by its stars.

    Args:
        frame: sources of the frame.
        reference: sources of the reference.
        prior: the map that both headers give, where they do, good to a few pixels.

    Returns:
        None where nothing says how they lie: no map given, and no pattern that chance could not have made. With a
        map given and no star to confirm it, that map.
    """
    if prior is not None and (refined := _refine(frame, reference, prior, guesses=1)) is not None:
        return refined
    best = None
    for guess in _guess(frame.take(slice(0, BRIGHTEST)), reference.take(slice(0, BRIGHTEST))):
        found = _refine(frame, reference, guess, guesses=max(1, len(frame) ** 2))
        if found is not None and (best is None or found.pairs > best.pairs):
            best = found
        if best is not None and best.pairs > _CERTAIN_SHARE * min(len(frame), len(reference), MOST):
            break
    if best is not None or prior is None:
        return best
    return Registration(prior, 0, None, "wcs")


def _guess(frame: Sources, reference: Sources) -> list[Affine]:
    """Let pairs of stars of equal length vote for a rotation and a shift; the likeliest few."""
    if min(len(frame), len(reference)) < _LEAST_PAIRS:
        return []
    mine, theirs = _Pairs(frame), _Pairs(reference)
    first, second = _match_lengths(mine.length, theirs.length)
    # A pair has no direction of its own: either end may be the first.
    turn = np.concatenate([theirs.angle[second] - mine.angle[first]] * 2)
    turn[first.size :] += math.pi
    cosine, sine = np.cos(turn), np.sin(turn)
    first, second = np.tile(first, 2), np.tile(second, 2)
    centre = (float(frame.x.mean()), float(frame.y.mean()))
    dx, dy = centre[0] - mine.x[first], centre[1] - mine.y[first]
    to_x = theirs.x[second] + cosine * dx - sine * dy
    to_y = theirs.y[second] + sine * dx + cosine * dy
    votes = np.column_stack([to_x / _VOTE_PX, to_y / _VOTE_PX, (turn % (2 * math.pi)) / math.radians(1.0)])
    return [turn_about(float(turn[i]), centre, (float(to_x[i]), float(to_y[i]))) for i in _find_crowds(votes)]


class _Pairs:
    """Every pair of stars far enough apart for its direction to mean something."""

    def __init__(self, sources: Sources) -> None:
        first, second = np.triu_indices(len(sources), 1)
        dx, dy = sources.x[second] - sources.x[first], sources.y[second] - sources.y[first]
        length = np.hypot(dx, dy)
        far = length >= min(_SHORTEST_PX, float(np.median(length)))
        order = np.argsort(length[far], kind="stable")
        self.length: Floats = length[far][order]
        self.angle: Floats = np.arctan2(dy, dx)[far][order]
        self.x: Floats = ((sources.x[first] + sources.x[second]) / 2)[far][order]
        self.y: Floats = ((sources.y[first] + sources.y[second]) / 2)[far][order]


def _match_lengths(mine: Floats, theirs: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    low = np.searchsorted(theirs, mine - _LENGTH_BIN_PX)
    counts = np.searchsorted(theirs, mine + _LENGTH_BIN_PX) - low
    # Equal lengths by the thousand come from a regular pattern, whose pairs decide nothing.
    counts = np.minimum(counts, _MOST_CANDIDATES // max(1, mine.size))
    first = np.repeat(np.arange(mine.size), counts)
    within = np.arange(first.size) - np.repeat(np.cumsum(counts) - counts, counts)
    return first, np.repeat(low, counts) + within


def _find_crowds(votes: Floats) -> list[int]:
    """One vote out of each of the fullest cells of a grid laid twice, half a cell apart."""
    chosen: list[tuple[int, int]] = []
    for offset in (0.0, 0.5):
        cells = np.floor(votes + offset).astype(np.int64)
        cells -= cells.min(axis=0, initial=0)
        sizes = cells.max(axis=0, initial=0) + 1
        keys = (cells[:, 0] * sizes[1] + cells[:, 1]) * sizes[2] + cells[:, 2]
        _, where, counts = np.unique(keys, return_index=True, return_counts=True)
        fullest = np.argsort(-counts, kind="stable")[:_GUESSES]
        chosen += [(int(counts[i]), int(where[i])) for i in fullest]
    return [where for _, where in sorted(chosen, reverse=True)[:_GUESSES]]


def _refine(frame: Sources, reference: Sources, guess: Affine, *, guesses: int) -> Registration | None:
    """Fit the map to the stars that meet, closer and closer; None where too few do."""
    mine, theirs = frame.take(slice(0, MOST)), reference.take(slice(0, 2 * MOST))
    if not len(mine) or not len(theirs):
        return None
    tree = cKDTree(np.column_stack([theirs.x, theirs.y]))
    at = guess
    first = second = np.zeros(0, dtype=np.intp)
    for radius in _RADII_PX:
        first, second = _meet(mine, tree, at, radius)
        if first.size == 0:
            return None
        at = _fit(mine.take(first), theirs.take(second), at)
    first, second = _meet(mine, tree, at, _LAST_RADIUS_PX)
    if not at.is_sound() or not _is_no_accident(first.size, mine, theirs, at, guesses):
        return None
    x, y = at.apply(mine.x[first], mine.y[first])
    left = np.square(x - theirs.x[second]) + np.square(y - theirs.y[second])
    return Registration(at, int(first.size), float(np.sqrt(left.mean() / 2)), "stars")


def _meet(mine: Sources, tree: cKDTree, at: Affine, radius: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs that are each other's nearest within a radius."""
    x, y = at.apply(mine.x, mine.y)
    distance, nearest = tree.query(np.column_stack([x, y]), distance_upper_bound=radius)
    first = np.flatnonzero(np.isfinite(distance))
    order = first[np.argsort(distance[first], kind="stable")]
    _, once = np.unique(nearest[order], return_index=True)
    first = np.sort(order[once])
    return first, nearest[first]


def _fit(mine: Sources, theirs: Sources, at: Affine) -> Affine:
    pairs = (mine.x, mine.y, theirs.x, theirs.y)
    if len(mine) >= FULL_FIT:
        return fit_affine(*pairs)
    return fit_rigid(*pairs) if len(mine) >= _LEAST_PAIRS else fit_shift(*pairs, at)


def _is_no_accident(met: int, mine: Sources, theirs: Sources, at: Affine, guesses: int) -> bool:
    """Whether that many meetings among stars strewn at random are less likely than `CHANCE`, over all guesses."""
    if met < _LEAST_PAIRS and guesses > 1:
        return False
    x, y = at.apply(mine.x, mine.y)
    low, high = (theirs.x.min(), theirs.y.min()), (theirs.x.max(), theirs.y.max())
    inside = int(np.count_nonzero((x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1])))
    area = max(1.0, (high[0] - low[0]) * (high[1] - low[1]))
    expected = max(inside, met) * min(1.0, len(theirs) * math.pi * _LAST_RADIUS_PX**2 / area)
    # What the fit itself could choose: a map of six numbers meets three stars anywhere.
    free = 3 if guesses > 1 else 0
    return bool(_exceeds(met - free - 1, expected) * guesses < CHANCE)


def _exceeds(count: int, expected: float) -> float:
    """Chance of a Poisson number above a count, which is one where that is below 0."""
    return float(special.pdtrc(count, expected)) if count >= 0 else 1.0
