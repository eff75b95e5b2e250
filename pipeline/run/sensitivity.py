"""What a night would have missed: known light is added to copies of its frames, and the same code looks for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.artefact import from_bytes
from pipeline.difference.inject import KINDS, Light, add_light, draw_place, measure_own_psf
from pipeline.difference.learn import Learnt
from pipeline.difference.subtract import Exposure
from pipeline.embed.residual import Comparison, compare
from pipeline.errors import StoreError, UsageError
from pipeline.frame.fits import decode
from pipeline.frame.header import describe
from pipeline.frame.types import Frame, FrameRow
from pipeline.judge.cell import Cell
from pipeline.judge.distance import rank_neighbours
from pipeline.judge.prefilter import from_json
from pipeline.judge.recall import Rung, find_snr
from pipeline.ports import Prefilter
from pipeline.run.compare import expose_frame, find_prior
from pipeline.run.detect import Judge
from pipeline.run.fields import FieldModel
from pipeline.run.lake import CODE_VERSION, Lake, spec_of
from pipeline.run.models import find_model_row, to_model
from pipeline.run.references import load_references

Row = Mapping[str, Any]
Progress = Callable[[str], None]

_NEAR_PX = 3.0
_DISTINCT_FRAMES = 10


@dataclass(frozen=True, slots=True)
class Ladder:
    """What is tried.

    Attributes:
        snrs: brightness of each rung, matched-filter standard deviations.
        trials: of each kind on each rung, in each field.
        kinds: `point`, `streak` or both.
    """

    snrs: tuple[float, ...] = (4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 14.0, 20.0)
    trials: int = 10
    kinds: tuple[str, ...] = KINDS

    def __post_init__(self) -> None:
        """Refuse a ladder that says nothing."""
        if not self.snrs or any(not 0 < snr < math.inf for snr in self.snrs):
            raise UsageError("the S/N of each rung must be a number above 0; give some, e.g. --snr 5 --snr 10")
        if self.trials < 1:
            raise UsageError(f"{self.trials} trials make no sense; give a number from 1")
        if strange := set(self.kinds) - set(KINDS):
            raise UsageError(f"nothing is known of the kind {min(strange)!r}; choose of {', '.join(KINDS)}")


@dataclass(frozen=True, slots=True)
class Curve:
    """Recall of one kind in one field of one night.

    Attributes:
        night: of the frames.
        model: sha256 (hex) of the field's model.
        field: row of `models` of the field.
        kind: what was injected.
        rungs: what came of it, faintest first.
        fluxes: median flux of each rung, units of the frames.
        budget: false-alarm budget it was flagged at.
        at: when it was measured.
    """

    night: date
    model: str
    field: Row
    kind: str
    rungs: tuple[Rung, ...]
    fluxes: tuple[float, ...]
    budget: float
    at: datetime

    def to_rows(self, lake: Lake) -> list[dict[str, Any]]:
        """Rows of the table `sensitivity`."""
        half, most = find_snr(self.rungs, 0.5), find_snr(self.rungs, 0.9)
        return [
            {
                "night": self.night,
                "at": self.at,
                "reference_set": lake.rules.reference_set,
                **{key: self.field[key] for key in ("instrument", "filter", "ra", "dec")},
                "model": self.model,
                "kind": self.kind,
                "snr": rung.snr,
                "flux": flux,
                "trials": rung.trials,
                "found": rung.found,
                "located": rung.located,
                "recall": rung.recall,
                "recall_low": rung.measure_interval()[0],
                "recall_high": rung.measure_interval()[1],
                "snr_50": half,
                "snr_90": most,
                "budget": self.budget,
                "code_version": CODE_VERSION,
            }
            for rung, flux in zip(self.rungs, self.fluxes, strict=True)
        ]


def measure_sensitivity(
    lake: Lake, night: date | None = None, ladder: Ladder | None = None, on_progress: Progress = lambda _: None
) -> Iterator[Curve]:
    """Inject, judge and count, field by field, and keep each curve in the table `sensitivity`.

    Args:
        lake: open for writing.
        night: of the frames; None takes the newest one on which a model judged any.
        ladder: what is tried.
        on_progress: told each field and kind.

    Raises:
        UsageError: no frame of that night was found normal by a model.
    """
    ladder = ladder or Ladder()
    chosen, fields = _choose_frames(lake, night)
    judge = Judge(lake.vectors, lake.rules, _keep_members(lake))
    for prefilter, frame_ids in fields.items():
        bench = _Bench(lake, judge, prefilter, frame_ids)
        for kind in ladder.kinds:
            on_progress(f"{bench.name}: {kind}")
            curve = bench.climb(chosen, kind, ladder)
            if curve is not None:
                lake.tables.append("sensitivity", curve.to_rows(lake))
                yield curve


def _choose_frames(lake: Lake, night: date | None) -> tuple[date, dict[Prefilter, list[str]]]:
    """Normal frames of a night that a model judged, newest verdict each, by prefilter."""
    if lake.residual is None:
        raise UsageError("embed.residual is switched off: there are no models to measure")
    where = {"embedding": [lake.residual.name], "embedding_version": [lake.residual.version]}
    columns = ["frame_id", "night", "status", "prefilter", "judged_at"]
    rows = lake.tables.scan("verdicts", columns, where=where).to_pylist()
    newest = {row["frame_id"]: row for row in sorted(rows, key=lambda row: row["judged_at"])}
    normal = [row for row in newest.values() if row["status"] == "normal" and row["night"] is not None]
    chosen = night or max((row["night"] for row in normal), default=None)
    fields: dict[Prefilter, list[str]] = {}
    for row in sorted(normal, key=lambda row: str(row["frame_id"])):
        if row["night"] == chosen:
            fields.setdefault(from_json(row["prefilter"]), []).append(row["frame_id"])
    if chosen is None or not fields:
        raise UsageError(
            f"no frame of {f'the night {night}' if night else 'any night'} was found normal by a model of its field; "
            "`oddframe verdicts` shows what was judged"
        )
    return chosen, fields


def _keep_members(lake: Lake) -> Callable[[Any, Sequence[str]], list[str]]:
    references = load_references(lake)
    return lambda spec, ids: [i for i in ids if i in references.id_set(spec)]


class _Bench:
    """One field, ready to be tried."""

    def __init__(self, lake: Lake, judge: Judge, prefilter: Prefilter, frame_ids: Sequence[str]) -> None:
        assert lake.residual is not None  # noqa: S101 - the caller looked
        self._lake = lake
        self._frame_ids = frame_ids
        self.row = find_model_row(lake.tables, str(prefilter.model))
        self._model: FieldModel = to_model(self.row)
        place = lake.models.locate(self._model.model)
        if place is None:
            raise StoreError(f"the model {self._model.model} is not kept any more; run `oddframe reference learn`")
        self._learnt: Learnt = from_bytes(place.read_bytes())
        self._cell: Cell = judge.cell_of(lake.residual, prefilter)
        self._vectors = lake.vectors.fetch(spec_of(lake.residual), sorted(self._cell.members))

    @property
    def name(self) -> str:
        """The field in words."""
        return f"{self.row['instrument'] or 'unknown instrument'}, {self.row['filter'] or 'no filter'}"

    def climb(self, night: date, kind: str, ladder: Ladder) -> Curve | None:
        """Try every rung; None where no frame of the field can be had any more."""
        rungs, fluxes = [], []
        frames = [opened for i in self._spread() if (opened := self._open(i)) is not None]
        for snr in ladder.snrs if frames else ():
            found = located = 0
            given: list[float] = []
            for trial in range(ladder.trials):
                frame, row, exposure, psf = frames[trial % len(frames)]
                seed = f"{frame.frame_id} {kind} {snr} {trial}"
                rng = np.random.default_rng(int(sha256(seed.encode()).hexdigest()[:16], 16))
                x, y = draw_place(exposure, rng)
                light = Light(kind, x, y, float(rng.uniform(0, 180)), snr)
                pixels, flux = add_light(frame.pixels, psf, exposure.noise, light, rng)
                flagged, near = self._try(frame, row, pixels, light)
                found, located = found + flagged, located + near
                given.append(flux)
            rungs.append(Rung(snr, ladder.trials, found, located))
            fluxes.append(float(np.median(given)))
        if not rungs:
            return None
        budget, now = self._lake.rules.budget, self._lake.clock()
        return Curve(night, self._model.model, self.row, kind, tuple(rungs), tuple(fluxes), budget, now)

    def _spread(self) -> list[str]:
        """Some frames, evenly out of all of them."""
        n, most = len(self._frame_ids), min(len(self._frame_ids), _DISTINCT_FRAMES)
        return [self._frame_ids[i * n // most] for i in range(most)]

    def _open(self, frame_id: str) -> tuple[Frame, FrameRow, Exposure, NDArray[np.float32]] | None:
        place = self._lake.originals.locate(frame_id)
        if place is None:
            return None
        frame = decode(place.read_bytes(), name=frame_id, limits=self._lake.plan.limits, frame_id=frame_id)
        row = describe(frame, self._lake.plan.sky)
        exposure = expose_frame(frame, row)
        return frame, row, exposure, measure_own_psf(exposure)

    def _try(self, frame: Frame, row: FrameRow, pixels: NDArray[np.float32], light: Light) -> tuple[bool, bool]:
        """Whether a frame with light added is flagged, and whether the light is listed at its place."""
        changed = expose_frame(replace(frame, pixels=pixels), row)
        found = compare(changed, self._learnt, find_prior(row.header, pixels.shape, self._model))
        if not isinstance(found, Comparison):
            return False, False
        near = any(math.hypot(p.x - light.x, p.y - light.y) <= max(_NEAR_PX, p.size_px / 2) for p in found.places)
        return self._is_flagged(frame.frame_id, found.vector), near

    def _is_flagged(self, frame_id: str, vector: NDArray[np.float32]) -> bool:
        cell = self._cell.leave_out(frame_id)
        nearest = rank_neighbours(vector, self._vectors, sorted(cell.members), 1)
        if cell.calibration is None or not nearest:
            return False
        return cell.calibration.rate(nearest[0].distance).value <= self._lake.rules.budget
