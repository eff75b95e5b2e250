"""Exact distances between unit vectors, the same bits on every vector store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.judge.types import Neighbour


def rank_neighbours(
    query: NDArray[np.float32], candidates: Mapping[str, NDArray[np.float32]], order: Sequence[str], k: int
) -> tuple[Neighbour, ...]:
    """The k nearest of the candidates, nearest first, ties by frame id; L2 distances, the root.

    Vector stores sum in float32 in an order of their own; a verdict must replay bit for bit on any of them, so the
    store proposes the nearest references and this measures them: differences and sums in float64.

    Args:
        query: float32 (d,).
        candidates: frame id to float32 (d,).
        order: the ids to consider; ids without a vector are skipped.
        k: how many to keep.
    """
    present = [i for i in order if i in candidates]
    if not present:
        return ()
    differences = np.stack([candidates[i] for i in present]).astype(np.float64) - query.astype(np.float64)
    distances = np.sqrt(np.square(differences).sum(axis=1))
    measured = [Neighbour(i, float(distance)) for i, distance in zip(present, distances, strict=True)]
    return tuple(sorted(measured, key=lambda n: (n.distance, n.frame_id))[:k])
