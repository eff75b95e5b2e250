"""The reference repository as it was at a snapshot, searchable: stored vectors, the prefilter applied in Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.artefact import from_bytes
from pipeline.errors import StoreError
from pipeline.ports import Candidate, Prefilter, VectorSpec
from pipeline.run.fields import FieldModel
from pipeline.run.lake import Lake
from pipeline.store.filters import fit_text
from pipeline.store.matrix import search_matrix


class ReplayVectors:
    """What a search needs, over the members of one snapshot.

    Vectors are those of record: in the vector store, or in the model that they were made with.
    """

    def __init__(self, lake: Lake, spec: VectorSpec, members: Sequence[str], model: FieldModel | None = None) -> None:
        self._lake = lake
        if model is not None:
            members = sorted(set(members) & set(model.registered))
        columns = ["frame_id", "instrument", "filter", "zone", "exposure_s", "obs_time"]
        rows = lake.tables.scan("frames", columns, where={"frame_id": list(members)}).to_pylist() if members else []
        self._rows = {row["frame_id"]: row for row in rows}
        self._vectors = lake.vectors.fetch(spec, list(members)) if model is None else _read_vectors(lake, model)

    def members(self, spec: VectorSpec, prefilter: Prefilter, limit: int) -> list[str]:
        """Ids that pass the prefilter, in id order."""
        del spec
        return sorted(i for i, row in self._rows.items() if i in self._vectors and passes(prefilter, row))[:limit]

    def zones(self, spec: VectorSpec, prefilter: Prefilter) -> dict[str, int | None]:
        """Zones of those that pass, by id."""
        return {i: self._rows[i]["zone"] for i in self.members(spec, prefilter, len(self._rows))}

    def fetch(self, spec: VectorSpec, frame_ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Vectors of these members."""
        del spec
        return {i: self._vectors[i] for i in frame_ids if i in self._vectors}

    def search(
        self, spec: VectorSpec, queries: NDArray[np.float32], prefilter: Prefilter, k: int
    ) -> list[list[Candidate]]:
        """Exact search of the members that pass."""
        ids = self.members(spec, prefilter, len(self._rows))
        if not ids:
            return [[] for _ in queries]
        return search_matrix((ids, np.stack([self._vectors[i] for i in ids])), queries, k)

    def refresh(self) -> None:
        """Nothing: the members of a snapshot do not change."""


def _read_vectors(lake: Lake, model: FieldModel) -> dict[str, NDArray[np.float32]]:
    place = lake.models.locate(model.model)
    if place is None:
        raise StoreError(f"the model {model.model} is not kept any more")
    vectors = from_bytes(place.read_bytes()).vectors
    return {i: vector for i, vector in zip(model.members, vectors, strict=True) if vector is not None}


def passes(prefilter: Prefilter, row: dict[str, Any]) -> bool:
    """Whether a reference with this metadata is in the prefilter's cell: the rule that Milvus applies, in Python."""
    if any(fit_text(row[key]) != fit_text(getattr(prefilter, key)) for key in ("instrument", "filter")):
        return False
    zone = row["zone"]
    if not prefilter.anywhere and ((zone not in prefilter.zones) if prefilter.zones else (zone is not None)):
        return False
    exposure = row["exposure_s"]
    if prefilter.exposure_min is None or prefilter.exposure_max is None:
        if exposure is not None:
            return False
    elif exposure is None or not prefilter.exposure_min <= exposure <= prefilter.exposure_max:
        return False
    moment = row["obs_time"]
    if prefilter.obs_after is not None and (moment is None or moment < prefilter.obs_after):
        return False
    return prefilter.obs_before is None or (moment is not None and moment <= prefilter.obs_before)
