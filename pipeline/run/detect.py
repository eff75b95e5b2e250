"""Search and judge: described frames -> neighbours -> judgements, against one snapshot of the reference set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.embed.types import Spec
from pipeline.judge.cell import Cell
from pipeline.judge.distance import rank_neighbours
from pipeline.judge.eligibility import find_objection
from pipeline.judge.prefilter import build_prefilter, describe_cell, widen
from pipeline.judge.types import Judgement, Neighbour, Status
from pipeline.judge.verdict import LEAST_TO_COMPARE, judge_frame
from pipeline.judge.wider import draw_partners, measure_spread
from pipeline.ports import Prefilter, ReferenceVectors, VectorSpec
from pipeline.run.lake import JudgeRules, spec_of
from pipeline.run.prepared import Prepared

# Float32 sums order near ties differently from store to store: measure a few more than are kept.
_SPARE_CANDIDATES = 4
# The second counts where the first is the frame that is judged.
_NEAREST_OTHERS = 2
_MOST_MEMBERS = 1_000_000
# More leave-one-out distances would sharpen a p-value that 500 already resolve to 0.2 percent.
_CALIBRATION_SAMPLE = 500
_CACHED_CELLS = 16
# A wider cell must know more, for it knows other fields.
_WIDER = 2
# Vectors a cell keeps from one batch to the next, as float32 values (64 MiB).
_CACHED_VALUES = 16 * 2**20


Keep = Callable[[VectorSpec, Sequence[str]], list[str]]


@dataclass(frozen=True, slots=True)
class Judged:
    """A frame, the embedding that was used, what was said, and the vector of its nearest (other) reference.

    `anywhere`: it was calibrated by references of other zones, for those of its own cell are too few.
    """

    prepared: Prepared
    embedding: Spec
    prefilter: Prefilter | None
    judgement: Judgement
    nearest: NDArray[np.float32] | None = None
    anywhere: bool = False


@dataclass(frozen=True, slots=True)
class _Asked:
    """A frame, its own cell, and the cell that calibrates in its place, where one does."""

    frame: Prepared
    cell: Cell
    wide: Cell | None


class Judge:
    """Judges batches; cells are calibrated once and kept until the reference set changes.

    `keep` is asked which of the references that the store holds in a cell belong to the set, and drops the others.
    """

    def __init__(self, vectors: ReferenceVectors, rules: JudgeRules, keep: Keep | None = None) -> None:
        self._vectors = vectors
        self._rules = rules
        self._keep = keep
        # The number: how many others each reference is compared with, 0 for all of its cell.
        self._cells: dict[tuple[str, Prefilter, int], Cell] = {}

    def forget(self) -> None:
        """The reference set changed: calibrate anew."""
        self._cells.clear()
        self._vectors.refresh()

    def judge_batch(self, frames: Sequence[tuple[str, Prepared]], embeddings: Sequence[Spec]) -> list[Judged]:
        """Judge each frame under the first embedding that it has a vector of and whose references suffice.

        Where none does, the first that takes no model says so, or judges with a calibration by references of other
        zones, twice as many as are needed. The nearest is looked for in the frame's own cell all the same.

        Frames that share a prefilter share one search. A frame that is a reference finds itself, at distance 0, and is
        judged by the others.

        Args:
            frames: frame ids and what was made of them.
            embeddings: best first.
        """
        judged: list[Judged | None] = [self._refuse(frame, embeddings[0]) for _, frame in frames]
        plain = next(e for e in embeddings if not e.saturates)
        for embedding, strict in [*((e, True) for e in embeddings), (plain, False)]:
            waiting: dict[Prefilter, list[int]] = {}
            for i, (_, frame) in enumerate(frames):
                if judged[i] is None and embedding.name in frame.vectors:
                    waiting.setdefault(self.prefilter_of(frame, embedding), []).append(i)
            for prefilter, places in waiting.items():
                whole = self.cell_of(embedding, prefilter)
                cells = {i: whole.leave_out(frames[i][0]) for i in places}
                chosen = [i for i in places if not strict or cells[i].suffices(self._rules.min_references)]
                asked = [
                    _Asked(
                        frames[i][1],
                        cells[i],
                        None if strict else self._find_wider(embedding, prefilter, cells[i]),
                    )
                    for i in chosen
                ]
                for i, one in zip(chosen, self._search(embedding, prefilter, asked), strict=True):
                    judged[i] = one
        return [j for j in judged if j is not None]

    def judge_under(
        self, frame_id: str, frame: Prepared, embedding: Spec, prefilter: Prefilter, *, anywhere: bool
    ) -> Judged:
        """Judge one frame under a prefilter that is given, calibrated anywhere or not: what a replay does."""
        cell = self.cell_of(embedding, prefilter).leave_out(frame_id)
        wide = self._find_wider(embedding, prefilter, cell) if anywhere else None
        return self._search(embedding, prefilter, [_Asked(frame, cell, wide)])[0]

    def prefilter_of(self, frame: Prepared, embedding: Spec) -> Prefilter:
        """The prefilter a frame is searched under."""
        row = frame.row
        return build_prefilter(
            instrument=row.instrument,
            filter_band=row.filter,
            zones=row.pointing.zones,
            exposure_s=row.exposure_s,
            rules=self._rules.search,
            model=frame.model if embedding.saturates else None,
        )

    def cell_of(self, embedding: Spec, prefilter: Prefilter) -> Cell:
        """The calibrated cell of a prefilter."""
        spec = spec_of(embedding)
        key = (spec.key, prefilter, 0)
        if key not in self._cells:
            self._keep_cell(key, self._calibrate(spec, prefilter, saturates=embedding.saturates))
        return self._cells[key]

    def leave_one_out(
        self, embedding: Spec, prefilter: Prefilter, ids: Sequence[str]
    ) -> dict[str, tuple[Neighbour, ...]]:
        """For each of these references its two nearest other references under the prefilter, nearest first."""
        spec = spec_of(embedding)
        return self._nearest_others(spec, prefilter, self._vectors.fetch(spec, ids))

    def _calibrate(self, spec: VectorSpec, prefilter: Prefilter, *, saturates: bool) -> Cell:
        ids = self._choose(spec, self._vectors.members(spec, prefilter, _MOST_MEMBERS))
        if len(ids) < self._rules.min_references:
            return Cell(frozenset(ids), {}, saturates=saturates)
        vectors = self._vectors.fetch(spec, pick_sample(ids, _CALIBRATION_SAMPLE))
        return Cell(frozenset(ids), self._nearest_others(spec, prefilter, vectors), vectors, saturates=saturates)

    def _find_wider(self, embedding: Spec, prefilter: Prefilter, cell: Cell) -> Cell | None:
        """The cell that calibrates where a frame's own has too few references; None where there is no need, or none."""
        least = self._rules.min_references
        if embedding.saturates or not LEAST_TO_COMPARE <= cell.references < least:
            return None
        # Whole zones go: those of the frame's own cell. The frame, where it is a reference itself, goes with them.
        spec, own = spec_of(embedding), self.cell_of(embedding, prefilter)
        wide = self._cell_anywhere(spec, widen(prefilter), cell.references).leave_out_all(own.members)
        self._fetch_missing(spec, own.vectors, set(cell.members))
        if not wide.suffices(_WIDER * least) or not cell.members <= own.vectors.keys():
            return None
        return wide.scale(measure_spread([own.vectors[i] for i in sorted(cell.members)]))

    def _cell_anywhere(self, spec: VectorSpec, prefilter: Prefilter, count: int) -> Cell:
        """References of any zone, each compared with `count` others of its own, in units of how far these lie apart."""
        key = (spec.key, prefilter, count)
        if key not in self._cells:
            zones = self._vectors.zones(spec, prefilter)
            partners = draw_partners({i: zones[i] for i in self._choose(spec, sorted(zones))}, count)
            sample = pick_sample(sorted(partners), _CALIBRATION_SAMPLE)
            vectors = self._vectors.fetch(spec, sorted({*sample, *(p for i in sample for p in partners[i])}))
            whole = [i for i in sample if vectors.keys() >= {i, *partners[i]}]
            nearest = {
                i: (Neighbour(found.frame_id, found.distance / measure_spread([vectors[p] for p in partners[i]])),)
                for i in whole
                for found in rank_neighbours(vectors[i], vectors, partners[i], 1)
            }
            self._keep_cell(key, Cell(frozenset(nearest), nearest))
        return self._cells[key]

    def _keep_cell(self, key: tuple[str, Prefilter, int], cell: Cell) -> None:
        if len(self._cells) >= _CACHED_CELLS:
            self._cells.pop(next(iter(self._cells)))
        self._cells[key] = cell

    def _choose(self, spec: VectorSpec, ids: list[str]) -> list[str]:
        """Those that are references."""
        return ids if self._keep is None else self._keep(spec, ids)

    def _nearest_others(
        self, spec: VectorSpec, prefilter: Prefilter, vectors: dict[str, NDArray[np.float32]]
    ) -> dict[str, tuple[Neighbour, ...]]:
        ids = sorted(vectors)
        if not ids:
            return {}
        wanted = 1 + _NEAREST_OTHERS + _SPARE_CANDIDATES
        found = self._vectors.search(spec, np.stack([vectors[i] for i in ids]), prefilter, wanted)
        self._fetch_missing(spec, vectors, {c.frame_id for candidates in found for c in candidates})
        nearest: dict[str, tuple[Neighbour, ...]] = {}
        for frame_id, candidates in zip(ids, found, strict=True):
            order = self._choose(spec, [c.frame_id for c in candidates if c.frame_id != frame_id])
            if ranked := rank_neighbours(vectors[frame_id], vectors, order, _NEAREST_OTHERS):
                nearest[frame_id] = ranked
        return nearest

    def _search(self, embedding: Spec, prefilter: Prefilter, asked: Sequence[_Asked]) -> list[Judged]:
        if not asked:
            return []
        spec, rules, vectors = spec_of(embedding), self._rules, self.cell_of(embedding, prefilter).vectors
        queries = np.stack([one.frame.vectors[embedding.name] for one in asked])
        # One more for the frame that is a reference and finds itself.
        found = self._vectors.search(spec, queries, prefilter, 1 + rules.neighbours + _SPARE_CANDIDATES)
        if len(vectors) * spec.dimension > _CACHED_VALUES:
            vectors.clear()
        self._fetch_missing(spec, vectors, {c.frame_id for candidates in found for c in candidates})
        answers: list[Judged] = []
        for one, query, candidates in zip(asked, queries, found, strict=True):
            frame, cell, wide = one.frame, one.cell, one.wide
            order = self._choose(spec, [c.frame_id for c in candidates])
            ranked = rank_neighbours(query, vectors, order, 1 + rules.neighbours)
            others = [neighbour for neighbour in ranked if neighbour.frame_id != cell.left_out]
            judgement = judge_frame(
                ranked[: rules.neighbours],
                others[0].distance if others else None,
                (wide or cell).calibration,
                cell=describe_cell(prefilter),
                references=cell.references,
                least=rules.min_references,
                budget=rules.budget,
                itself=cell.left_out is not None,
                anywhere=wide.references if wide else None,
                remark=f"not compared by a model of its field: {frame.remark}" if frame.remark else "",
            )
            nearest = vectors[others[0].frame_id] if others else None
            answers.append(Judged(frame, embedding, prefilter, judgement, nearest, anywhere=wide is not None))
        return answers

    def _fetch_missing(self, spec: VectorSpec, vectors: dict[str, NDArray[np.float32]], wanted: set[str]) -> None:
        if missing := sorted(wanted - vectors.keys()):
            vectors.update(self._vectors.fetch(spec, missing))

    def _refuse(self, frame: Prepared, embedding: Spec) -> Judged | None:
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
