"""Exact L2 search of one cell in memory: what many queries at once use instead of a call each."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.ports import Candidate

# Frame ids in order, and their vectors as rows (n, d).
Cell: TypeAlias = tuple[list[str], NDArray[np.float32]]


def search_matrix(cell: Cell, queries: NDArray[np.float32], k: int) -> list[list[Candidate]]:
    """The k nearest rows of each query, nearest first; distances are roots.

    Args:
        cell: ids and vectors (n, d).
        queries: float32 (m, d).
        k: how many to keep.
    """
    ids, matrix = cell
    if not ids:
        return [[] for _ in queries]
    squares = (
        np.square(queries).sum(axis=1)[:, None] + np.square(matrix).sum(axis=1)[None, :] - 2.0 * queries @ matrix.T
    )
    order = np.argsort(squares, axis=1, kind="stable")[:, :k]
    return [
        [Candidate(ids[j], float(np.sqrt(max(0.0, row[j])))) for j in nearest]
        for row, nearest in zip(squares, order, strict=True)
    ]
