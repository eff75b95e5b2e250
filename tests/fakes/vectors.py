"""Vectors in memory: what the port asks for, written as plainly as it can be, to compare the real adapters with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StoreError
from pipeline.ports import Candidate, Prefilter, VectorCompaction, VectorCounts, VectorEntity, VectorSpec


def belongs(prefilter: Prefilter, entity: VectorEntity) -> bool:
    """The rule of a prefilter in words of its own: unknown matches unknown alone."""
    if (entity.instrument or None) != (prefilter.instrument or None):
        return False
    if (entity.filter or None) != (prefilter.filter or None):
        return False
    if entity.model != prefilter.model:
        return False
    if not prefilter.anywhere and not _lies_in(prefilter, entity.zone):
        return False
    return _exposes_alike(prefilter, entity.exposure_s) and _lies_between(
        entity.obs_time, prefilter.obs_after, prefilter.obs_before
    )


def _lies_in(prefilter: Prefilter, zone: int | None) -> bool:
    return zone in prefilter.zones if prefilter.zones else zone is None


def _exposes_alike(prefilter: Prefilter, exposure_s: float | None) -> bool:
    if prefilter.exposure_min is None or prefilter.exposure_max is None:
        return exposure_s is None
    return exposure_s is not None and prefilter.exposure_min <= exposure_s <= prefilter.exposure_max


def _lies_between(moment: datetime | None, after: datetime | None, before: datetime | None) -> bool:
    if after is None and before is None:
        return True
    if moment is None:
        return False
    return (after is None or moment >= after) and (before is None or moment <= before)


class MemoryVectors:
    """A vector store that forgets everything when it is closed."""

    def __init__(self) -> None:
        self._frames: dict[str, dict[str, VectorEntity]] = {}
        self._references: dict[str, dict[str, VectorEntity]] = {}

    def upsert(self, spec: VectorSpec, entities: Sequence[VectorEntity]) -> None:
        _refuse_nonsense(spec, entities)
        self._frames.setdefault(spec.key, {}).update({e.frame_id: e for e in entities})

    def put_references(self, spec: VectorSpec, entities: Sequence[VectorEntity]) -> None:
        _refuse_nonsense(spec, entities)
        self._references.setdefault(spec.key, {}).update({e.frame_id: e for e in entities})

    def drop_references(self, spec: VectorSpec, frame_ids: Sequence[str]) -> None:
        for frame_id in frame_ids:
            self._references.get(spec.key, {}).pop(frame_id, None)

    def delete(self, spec: VectorSpec, frame_ids: Sequence[str]) -> None:
        self.drop_references(spec, frame_ids)
        for frame_id in frame_ids:
            self._frames.get(spec.key, {}).pop(frame_id, None)

    def search(
        self, spec: VectorSpec, queries: NDArray[np.float32], prefilter: Prefilter, k: int
    ) -> list[list[Candidate]]:
        cell = [e for e in self._references.get(spec.key, {}).values() if belongs(prefilter, e)]
        found = []
        for query in queries:
            measured = [
                Candidate(e.frame_id, float(np.linalg.norm(query.astype(np.float64) - e.vector.astype(np.float64))))
                for e in cell
            ]
            found.append(sorted(measured, key=lambda c: (c.distance, c.frame_id))[:k])
        return found

    def members(self, spec: VectorSpec, prefilter: Prefilter, limit: int) -> list[str]:
        return sorted(i for i, e in self._references.get(spec.key, {}).items() if belongs(prefilter, e))[:limit]

    def zones(self, spec: VectorSpec, prefilter: Prefilter) -> dict[str, int | None]:
        return {i: e.zone for i, e in self._references.get(spec.key, {}).items() if belongs(prefilter, e)}

    def fetch(self, spec: VectorSpec, frame_ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        held = self._frames.get(spec.key, {})
        return {i: held[i].vector for i in frame_ids if i in held}

    def contents(self, spec: VectorSpec) -> VectorCounts:
        return VectorCounts(
            frozenset(self._frames.get(spec.key, {})), frozenset(self._references.get(spec.key, {})), frozenset()
        )

    def specs(self) -> list[str]:
        return sorted(self._frames.keys() | self._references.keys())

    def refresh(self) -> None:
        """Nothing is kept aside."""

    def flush(self) -> None:
        pass

    def compact(self, seconds: float) -> list[VectorCompaction]:
        del seconds
        return [VectorCompaction(key, "automatic") for key in self.specs()]

    def close(self) -> None:
        self._frames.clear()
        self._references.clear()


def _refuse_nonsense(spec: VectorSpec, entities: Sequence[VectorEntity]) -> None:
    for entity in entities:
        if not np.isfinite(entity.vector).all():
            raise StoreError(f"the vector of frame {entity.frame_id} holds values that are not finite numbers")
        if entity.vector.shape != (spec.dimension,):
            raise StoreError(f"the vector of frame {entity.frame_id} has {entity.vector.shape}, not {spec.dimension}")
