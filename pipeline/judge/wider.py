"""A calibration for a cell with few references, from those of other zones: each against as many as the cell has.

The nearest of few references is farther away than the nearest of many. So that a frame's distance and theirs are of one
kind, each reference elsewhere is compared with as many others of its own zone as the frame has references, and not with
all there are. And fields differ: a distance counts in units of how far those it is compared with lie apart, and the
frame's own references say what the unit is there. `docs/decisions/0004-p-values.md` has what either is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from pipeline.judge.distance import rank_neighbours

# Of references that are all the same: float32 unit vectors cannot differ meaningfully by less.
_LEAST_SPREAD = 1e-7


def draw_partners(zones: Mapping[str, int | None], count: int) -> dict[str, tuple[str, ...]]:
    """Whom each reference is compared with: those that follow it in its zone, in the order of ids, round and round.

    Ids are hashes, so this is a fair draw, and one that replays.

    Args:
        zones: zone by frame id; None is a zone as any other.
        count: how many others each is compared with.

    Returns:
        By frame id, `count` others each; without those whose zone has too few.
    """
    groups: dict[int | None, list[str]] = {}
    for frame_id in sorted(zones):
        groups.setdefault(zones[frame_id], []).append(frame_id)
    return {
        frame_id: tuple(ids[(place + step) % len(ids)] for step in range(1, count + 1))
        for ids in groups.values()
        if len(ids) > count
        for place, frame_id in enumerate(ids)
    }


def measure_spread(vectors: Sequence[NDArray[np.float32]]) -> float:
    """How far references are from each other: the mean distance of all pairs, the same bits in every store.

    Args:
        vectors: float32 (d,), two or more, in an order that replays.
    """
    distances = [rank_neighbours(one, {"": other}, [""], 1)[0].distance for one, other in combinations(vectors, 2)]
    return max(fmean(distances), _LEAST_SPREAD)
