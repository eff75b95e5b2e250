"""A simulated night with its truth: every kind of oddness at every strength, and the false alarms beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.errors import UsageError
from pipeline.evaluate.bootstrap import Estimate, estimate, estimate_share
from pipeline.evaluate.metrics import find_half
from pipeline.evaluate.report import Heading, Item, Measure, describe_ranking, tell_half
from pipeline.evaluate.series import find_threshold
from pipeline.evaluate.specs import Spec
from pipeline.evaluate.truth import Folder, Simulated, read_simulated

Tell = Callable[[str], None]

POINT = "supernova"
"""Kind whose ladder gives the S/N at half recall."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A science frame under one spec; `flagged` is None where the references gave no threshold."""

    row: Simulated
    score: float
    flagged: bool | None


def evaluate_simulated(folder: Folder, specs: Sequence[Spec], budget: float, tell: Tell) -> list[Measure]:
    """Learn each field's references, and ask of its science frames how odd they are.

    Raises:
        UsageError: the truth does not fit the folder, or a field has no reference.
    """
    rows = [(row, folder.find(row.file)) for row in read_simulated(folder)]
    judged: list[list[Judged]] = [[] for _ in specs]
    science = [row for row, _ in rows if not row.reference]
    for field in sorted({row.field for row in science}):
        own = [(row, file) for row, file in rows if row.field == field]
        references = [folder.read(file) for row, file in own if row.reference]
        if not references:
            raise UsageError(f"{folder.name}: field {field} has no reference in truth.csv")
        learnt = [spec.learn(references) for spec in specs]
        limits = [None if knowledge is None else find_threshold(knowledge, budget) for knowledge in learnt]
        for row, file in own:
            if row.reference:
                continue
            frame = folder.read(file)
            for kept, knowledge, limit in zip(judged, learnt, limits, strict=True):
                found = None if knowledge is None else knowledge.compare(frame)
                if found is not None:
                    score = found.score
                    kept.append(Judged(row, score, None if limit is None else score >= limit))
            tell(row.file)
    return [
        measure
        for spec, found_ones in zip(specs, judged, strict=True)
        for measure in _tell_spec(Heading("simulated", folder.name, spec.name), found_ones, len(science), budget)
    ]


def _tell_spec(heading: Heading, judged: Sequence[Judged], asked: int, budget: float) -> list[Measure]:
    note = "" if len(judged) == asked else f"{asked - len(judged)} of {asked} frames could not be compared"
    normal = [j for j in judged if not j.row.odd]
    kinds = sorted({j.row.kind for j in judged if j.row.odd})
    measures: list[Measure] = []
    for kind in kinds:
        own = [j for j in judged if j.row.odd and j.row.kind == kind]
        measures += describe_ranking(heading, kind, _list_items([*own, *normal]), note)
        for rung in dict.fromkeys(j.row.rung for j in sorted(own, key=lambda j: j.row.snr or 0.0) if j.row.rung):
            items = _list_items([*(j for j in own if j.row.rung == rung), *normal])
            measures += describe_ranking(heading, f"{kind} {rung}", items)[::2]
    measures += _average(heading, measures, kinds)
    told = [(j.flagged, j.row.file) for j in normal if j.flagged is not None]
    flagged = estimate_share([bool(f) for f, _ in told], [file for _, file in told])
    measures.append(heading.tell("normal", "flagged_share", flagged, f"budget {budget:g}"))
    points = [j for j in judged if j.row.kind == POINT and j.row.snr is not None and j.flagged is not None]
    snr_of, hit = (np.asarray(v, dtype=np.float64) for v in ([j.row.snr for j in points], [j.flagged for j in points]))
    half = estimate(partial(find_half, snr_of, hit), [j.row.file for j in points])
    notes = (tell_half(half.value, snr_of.tolist()), f"{flagged.value or 0:.0%} of normal frames are flagged too")
    return [*measures, heading.tell(POINT, "snr_at_half", half, "; ".join(note for note in notes if note))]


def _list_items(judged: Sequence[Judged]) -> list[Item]:
    return [Item(j.score, j.row.odd, j.row.file) for j in judged]


def _average(heading: Heading, measures: Sequence[Measure], kinds: Sequence[str]) -> list[Measure]:
    """The mean over kinds, each counting once."""
    averages = []
    for metric in ("roc_auc", "recall_at_1pct"):
        found = [m for m in measures if m.metric == metric and m.kind in kinds and m.value is not None]
        mean = float(np.mean([m.value for m in found])) if found else None
        objects = max((m.objects for m in found), default=0)
        averages.append(heading.tell("mean of kinds", metric, Estimate(mean, None, None, objects)))
    return averages
