"""Search and judge: described frames -> neighbours -> judgements, against one snapshot of the reference set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.embed.types import Embedding
from pipeline.judge.calibration import Calibration, calibrate
from pipeline.judge.distance import rank_neighbours
from pipeline.judge.eligibility import find_objection
from pipeline.judge.prefilter import build_prefilter, describe_cell
from pipeline.judge.types import Judgement, Neighbour, Status
from pipeline.judge.verdict import judge_frame
from pipeline.ports import Prefilter, ReferenceVectors, VectorSpec
from pipeline.run.lake import JudgeRules, spec_of
from pipeline.run.prepared import Prepared

# Float32 sums order near ties differently from store to store: measure a few more than are kept.
_SPARE_CANDIDATES = 4
_MOST_MEMBERS = 1_000_000
# More leave-one-out distances would sharpen a p-value that 500 already resolve to 0.2 percent.
_CALIBRATION_SAMPLE = 500
_CACHED_CELLS = 16
# Vectors a cell keeps from one batch to the next, as float32 values (64 MiB).
_CACHED_VALUES = 16 * 2**20


Keep = Callable[[VectorSpec, Sequence[str]], list[str]]


@dataclass(slots=True)
class Cell:
    """The references that share a prefilter: how many, how far apart, and their vectors as far as they were needed."""

    references: int
    calibration: Calibration | None
    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judged:
    """A frame, the embedding that was used, what was said, and the vector of its nearest reference."""

    prepared: Prepared
    embedding: Embedding
    prefilter: Prefilter | None
    judgement: Judgement
    nearest: NDArray[np.float32] | None = None


class Judge:
    """Judges batches; cells are calibrated once and kept until the reference set changes.

    `keep` is asked which of the references that the store holds in a cell belong to the set, and drops the others.
    """

    def __init__(self, vectors: ReferenceVectors, rules: JudgeRules, keep: Keep | None = None) -> None:
        self._vectors = vectors
        self._rules = rules
        self._keep = keep
        self._cells: dict[tuple[str, Prefilter], Cell] = {}

    def forget(self) -> None:
        """The reference set changed: calibrate anew."""
        self._cells.clear()

    def judge_batch(self, frames: Sequence[Prepared], embeddings: Sequence[Embedding]) -> list[Judged]:
        """Judge each frame under the first embedding whose references suffice, else under the first of all.

        Frames that share a prefilter share one search.
        """
        judged: list[Judged | None] = [self._refuse(frame, embeddings[0]) for frame in frames]
        for embedding, strict in [*((e, True) for e in embeddings), (embeddings[0], False)]:
            waiting: dict[Prefilter, list[int]] = {}
            for i, frame in enumerate(frames):
                if judged[i] is None:
                    waiting.setdefault(self.prefilter_of(frame), []).append(i)
            for prefilter, places in waiting.items():
                cell = self.cell_of(embedding, prefilter)
                if cell.calibration is None and strict:
                    continue
                queries = np.stack([frames[i].vectors[embedding.name] for i in places])
                found = self._search(spec_of(embedding), prefilter, cell, queries)
                for i, (judgement, nearest) in zip(places, found, strict=True):
                    judged[i] = Judged(frames[i], embedding, prefilter, judgement, nearest)
        return [j for j in judged if j is not None]

    def judge_under(self, frame: Prepared, embedding: Embedding, prefilter: Prefilter) -> Judged:
        """Judge one frame under a prefilter that is given: what a replay does."""
        cell = self.cell_of(embedding, prefilter)
        query = np.stack([frame.vectors[embedding.name]])
        return Judged(frame, embedding, prefilter, *self._search(spec_of(embedding), prefilter, cell, query)[0])

    def prefilter_of(self, frame: Prepared) -> Prefilter:
        """The prefilter a frame is searched under."""
        row = frame.row
        return build_prefilter(
            instrument=row.instrument,
            filter_band=row.filter,
            zones=row.pointing.zones,
            exposure_s=row.exposure_s,
            rules=self._rules.search,
        )

    def cell_of(self, embedding: Embedding, prefilter: Prefilter) -> Cell:
        """The calibrated cell of a prefilter."""
        spec = spec_of(embedding)
        key = (spec.key, prefilter)
        if key not in self._cells:
            if len(self._cells) >= _CACHED_CELLS:
                self._cells.pop(next(iter(self._cells)))
            self._cells[key] = self._calibrate(spec, prefilter)
        return self._cells[key]

    def leave_one_out(self, embedding: Embedding, prefilter: Prefilter, ids: Sequence[str]) -> dict[str, Neighbour]:
        """For each of these references its nearest other reference under the prefilter."""
        spec = spec_of(embedding)
        return self._nearest_others(spec, prefilter, self._vectors.fetch(spec, ids))

    def _calibrate(self, spec: VectorSpec, prefilter: Prefilter) -> Cell:
        ids = self._vectors.members(spec, prefilter, _MOST_MEMBERS)
        if self._keep is not None:
            ids = self._keep(spec, ids)
        if len(ids) < self._rules.min_references:
            return Cell(len(ids), None)
        sample = pick_sample(ids, _CALIBRATION_SAMPLE)
        vectors = self._vectors.fetch(spec, sample)
        distances = [n.distance for n in self._nearest_others(spec, prefilter, vectors).values()]
        return Cell(len(ids), calibrate(distances) if len(distances) > 1 else None, vectors)

    def _nearest_others(
        self, spec: VectorSpec, prefilter: Prefilter, vectors: dict[str, NDArray[np.float32]]
    ) -> dict[str, Neighbour]:
        ids = sorted(vectors)
        if not ids:
            return {}
        found = self._vectors.search(spec, np.stack([vectors[i] for i in ids]), prefilter, 2 + _SPARE_CANDIDATES)
        self._fetch_missing(spec, vectors, {c.frame_id for candidates in found for c in candidates})
        nearest: dict[str, Neighbour] = {}
        for frame_id, candidates in zip(ids, found, strict=True):
            order = [c.frame_id for c in candidates if c.frame_id != frame_id]
            ranked = rank_neighbours(vectors[frame_id], vectors, order, 1)
            if ranked:
                nearest[frame_id] = ranked[0]
        return nearest

    def _search(
        self, spec: VectorSpec, prefilter: Prefilter, cell: Cell, queries: NDArray[np.float32]
    ) -> list[tuple[Judgement, NDArray[np.float32] | None]]:
        rules = self._rules
        found = self._vectors.search(spec, queries, prefilter, rules.neighbours + _SPARE_CANDIDATES)
        if len(cell.vectors) * spec.dimension > _CACHED_VALUES:
            cell.vectors.clear()
        self._fetch_missing(spec, cell.vectors, {c.frame_id for candidates in found for c in candidates})
        answers: list[tuple[Judgement, NDArray[np.float32] | None]] = []
        for query, candidates in zip(queries, found, strict=True):
            ranked = rank_neighbours(query, cell.vectors, [c.frame_id for c in candidates], rules.neighbours)
            judgement = judge_frame(
                ranked,
                cell.calibration,
                cell=describe_cell(prefilter),
                references=cell.references,
                least=rules.min_references,
                budget=rules.budget,
            )
            answers.append((judgement, cell.vectors[ranked[0].frame_id] if ranked else None))
        return answers

    def _fetch_missing(self, spec: VectorSpec, vectors: dict[str, NDArray[np.float32]], wanted: set[str]) -> None:
        if missing := sorted(wanted - vectors.keys()):
            vectors.update(self._vectors.fetch(spec, missing))

    def _refuse(self, frame: Prepared, embedding: Embedding) -> Judged | None:
        objection = frame.objection or find_objection(
            self._rules.eligibility, _eligibility_columns(frame), frame.row.header
        )
        if objection is None:
            return None
        return Judged(frame, embedding, None, Judgement(Status.NOT_SEARCHED, objection))


def pick_sample(ids: Sequence[str], size: int) -> list[str]:
    """Evenly spaced ids of a sorted list: ids are hashes, so this is a fair draw that replays."""
    if len(ids) <= size:
        return list(ids)
    return [ids[i * len(ids) // size] for i in range(size)]


def _eligibility_columns(frame: Prepared) -> dict[str, str | float | None]:
    row = frame.row
    return {
        "instrument": row.instrument,
        "telescope": row.telescope,
        "filter": row.filter,
        "object": row.object,
        "image_type": row.image_type,
        "exposure_s": row.exposure_s,
        "valid_fraction": row.quality.valid_fraction,
        "saturated_fraction": row.quality.saturated_fraction,
        "background": row.quality.background,
        "noise": row.quality.noise,
        "fwhm_px": row.quality.fwhm_px,
        "stars": row.quality.stars,
    }
