"""Exact distances between unit vectors, the same bits on every vector store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.judge.types import Neighbour


def measure_distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """L2 distance (the root) of two vectors of equal length, differences and sum in float64.

    Vector stores sum in float32 in an order of their own; a verdict must replay bit for bit on any of them, so the
    store proposes the nearest references and this measures them.
    """
    difference = a.astype(np.float64) - b.astype(np.float64)
    return float(np.sqrt(np.square(difference).sum()))


def rank_neighbours(
    query: NDArray[np.float32], candidates: Mapping[str, NDArray[np.float32]], order: Sequence[str], k: int
) -> tuple[Neighbour, ...]:
    """The k nearest of the candidates, nearest first, ties by frame id.

    Args:
        query: float32 (d,).
        candidates: frame id to float32 (d,).
        order: the ids to consider; ids without a vector are skipped.
        k: how many to keep.
    """
    measured = [Neighbour(i, measure_distance(query, candidates[i])) for i in order if i in candidates]
    return tuple(sorted(measured, key=lambda n: (n.distance, n.frame_id))[:k])
