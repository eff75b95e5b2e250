"""Exact L2 search of one cell in memory: what many queries at once use instead of a call each."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.ports import Candidate

# Frame ids in order, and their vectors as rows (n, d).
Cell: TypeAlias = tuple[list[str], NDArray[np.float32]]

# Rounding of a float32 sum of squares, as a share of the squares: what lies this close is measured again.
_ROUNDING = 1e-5
_VALUES_AT_A_TIME = 4 * 2**20


def search_matrix(cell: Cell, queries: NDArray[np.float32], k: int) -> list[list[Candidate]]:
    """The k nearest rows of each query, nearest first, ties by id; distances are roots, measured in float64.

    Unit vectors of one field differ by a thousandth of their length: their squares, expanded, would drown in the
    rounding of float32. Taking the mean of the rows from all first leaves numbers as small as the differences.

    Args:
        cell: ids and vectors (n, d).
        queries: float32 (m, d).
        k: how many to keep.
    """
    ids, matrix = cell
    if not ids:
        return [[] for _ in queries]
    centre = matrix.mean(axis=0, dtype=np.float64).astype(np.float32)
    asked = queries - centre
    asked_squares = np.square(asked).sum(axis=1)
    row_squares = np.empty(len(ids), dtype=np.float32)
    squares = np.empty((len(queries), len(ids)), dtype=np.float32)
    step = max(1, _VALUES_AT_A_TIME // matrix.shape[1])
    for start in range(0, len(ids), step):
        rows = matrix[start : start + step] - centre
        row_squares[start : start + step] = np.square(rows).sum(axis=1)
        squares[:, start : start + step] = row_squares[start : start + step] - 2.0 * asked @ rows.T
    squares += asked_squares[:, None]
    last = min(k, len(ids)) - 1
    reach = np.partition(squares, last, axis=1)[:, last] + _ROUNDING * (asked_squares + row_squares.max())
    found: list[list[Candidate]] = []
    for query, row, limit in zip(queries, squares, reach, strict=True):
        near = np.flatnonzero(row <= limit)
        exact = np.sqrt(np.square(matrix[near].astype(np.float64) - query.astype(np.float64)).sum(axis=1))
        ranked = sorted(zip(exact.tolist(), (ids[j] for j in near), strict=True))[:k]
        found.append([Candidate(frame_id, distance) for distance, frame_id in ranked])
    return found
