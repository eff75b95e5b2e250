"""What a search in Milvus answers, as candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.ports import Candidate

# Squares of unit vectors that differ by less are the same to float32.
_LEAST_SQUARE = 1e-6


def to_candidate(hit: Mapping[str, Any]) -> Candidate:
    """The frame of a hit and its distance: Milvus answers with squares."""
    return Candidate(hit["entity"]["frame_id"], float(np.sqrt(max(0.0, hit["distance"]))))


def is_tie(hits: Sequence[Mapping[str, Any]], k: int) -> bool:
    """Whether the hit after the first k might as well be one of them."""
    return len(hits) > k and bool(hits[k]["distance"] - hits[k - 1]["distance"] <= _LEAST_SQUARE)
